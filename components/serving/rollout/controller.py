"""A running service after the champion: a new one is tried out, loaded beside the old one, given a share of the requests, then all; back at the first sign that it is worse."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from components.core.errors import EnvironmentFault, GristmillError
from components.registry.validation import storable
from components.registry.versions.model_versions import Version
from components.serving.rollout.canary import CanaryParams, total, worse
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion

_LOAD_S = 180.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 300.0


class Service(Protocol):
    """What a follower needs of the service that it leads."""

    def prepare(self, version: Version) -> ServedVersion | None:
        """Bring a version's files here, verify them and try them out, beside everything else.

        Returns:
            None while that is under way: ask again.

        Raises:
            EnvironmentFault: not now.
            Exception: it cannot be served.
        """

    def publish(self, plan: RolloutPlan) -> Sequence[Report]:
        """Tell all replicas, again or anew; their latest reports, which may be on an earlier plan."""

    def persist(self, edition: ServedVersion) -> None:
        """Begin with this the next time, if need be."""

    def record(
        self, version: str, state: Literal["serving", "refused", "waiting"], why: str
    ) -> None:
        """Write down what became of a version."""


@dataclass
class Backoff:
    """When a version may be prepared again: after two seconds, then twice as long each time."""

    version: str = ""
    pause_s: float = 0.0
    due: float = 0.0

    def is_due(self, version: str, now: float) -> bool:
        """Say whether a version may be tried now."""
        return version != self.version or now >= self.due

    def failed(self, version: str, now: float) -> None:
        """Wait longer than the time before."""
        longer = min(2 * self.pause_s, _LONGEST_PAUSE_S)
        self.pause_s = max(longer, _FIRST_PAUSE_S) if version == self.version else _FIRST_PAUSE_S
        self.version, self.due = version, now + self.pause_s


class RolloutController:
    """The state of a service between two looks at the registry.

    A version that was refused is not tried again until it is released anew, or the registry has
    named another. One that is older than the one in service is a rollback: it gets all requests at
    once.

    Args:
        stable: what is served now.
        service: the replicas.
        params: of canaries.
        say: one line for whoever watches.
        clock: seconds.
    """

    def __init__(
        self,
        stable: ServedVersion,
        service: Service,
        params: CanaryParams,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = RolloutPlan(stable=stable)
        self.refused: str | None = None
        self._service, self._params, self._say, self._clock = service, params, say, clock
        self._phase: Literal["steady", "loading", "canary", "watch"] = "steady"
        self._since = 0.0
        self._trouble = ""
        self._retries = Backoff()
        self._releases: int | None = None
        self._processes: set[int] | None = None

    @property
    def busy(self) -> bool:
        """Whether a release is under way, so that looks should be frequent."""
        return self._phase != "steady"

    def step(self, wanted: Version | None, releases: int | None = None) -> None:
        """Take one step.

        Args:
            wanted: the champion as last heard of.
            releases: how many releases and rollbacks the registry had recorded by then. A version
                may go and come back between two looks: then it is tried again.
        """
        if releases is not None and releases != self._releases:
            if self._releases is not None:
                self.refused = None
            self._releases = releases
        number = str(wanted.number) if wanted else None
        challenger = self.plan.challenger
        if challenger and number not in (None, challenger.version):
            self._back(f"the registry names version {number}")
        if wanted and not self.plan.challenger:
            if number == self.plan.stable.version:
                self.refused = None
            elif number != self.refused:
                self._begin(wanted)
        reports = self._service.publish(self.plan)
        self._notice(reports)
        reports = [report for report in reports if report.plan == self.plan.number]
        if self.plan.challenger:
            self._advance(self.plan.challenger, reports)

    def _begin(self, wanted: Version) -> None:
        number = str(wanted.number)
        if not self._retries.is_due(number, self._clock()):
            return
        try:
            edition = self._service.prepare(wanted)
        except EnvironmentFault as fault:
            self._postpone(number, fault)
        except Exception as error:
            # Whatever a candidate does, the version in service goes on.
            self._refuse(number, describe(error))
        else:
            if edition:
                self._load(edition)

    def _load(self, edition: ServedVersion) -> None:
        self._trouble = ""
        self._retries = Backoff()
        stable = self.plan.stable
        self._say(
            f"version {edition.version} is champion: loading it beside version {stable.version}"
        )
        self._enter("loading", RolloutPlan(stable=stable, challenger=edition))

    def _postpone(self, number: str, fault: EnvironmentFault) -> None:
        """Try again later, and say so once."""
        self._retries.failed(number, self._clock())
        why = describe(fault)
        text = (
            f"version {number} cannot be had yet, version {self.plan.stable.version} goes on: {why}"
        )
        if self._say_once(text):
            self._service.record(number, "waiting", why)

    def _advance(self, new: ServedVersion, reports: Sequence[Report]) -> None:
        failure = next(
            (report.failed[new.version] for report in reports if new.version in report.failed), None
        )
        since = self._clock() - self._since
        if failure:
            self._refuse(new.version, failure)
        elif self._phase == "loading":
            if reports and all(new.version in report.loaded for report in reports):
                self._move(new)
            elif since > _LOAD_S:
                self._refuse(new.version, f"not loaded within {_LOAD_S:.0f} s")
        else:
            self._judge(new, reports, since)

    def _move(self, new: ServedVersion) -> None:
        """Give it its first requests."""
        rollback = int(new.version) < int(self.plan.stable.version)
        if self._params.share and not rollback:
            self._say(f"version {new.version} gets {self._params.share:.0%} of the requests")
            self._enter("canary", self.plan.model_copy(update={"share": self._params.share}))
        else:
            self._all(new)

    def _all(self, new: ServedVersion) -> None:
        self._say(
            f"version {new.version} gets all requests; version {self.plan.stable.version} stays loaded for {self._params.watch_minutes:g} minutes"
        )
        self._enter("watch", self.plan.model_copy(update={"share": 1.0}))

    def _judge(self, new: ServedVersion, reports: Sequence[Report], since: float) -> None:
        tallies = {
            version: total(
                report.tallies[version] for report in reports if version in report.tallies
            )
            for version in (new.version, self.plan.stable.version)
        }
        mine = tallies[new.version]
        reason = worse(mine, tallies[self.plan.stable.version], self._params)
        if reason:
            self._refuse(new.version, reason)
        elif self._phase == "canary" and (
            mine.requests >= self._params.requests or since >= 60 * self._params.minutes
        ):
            self._all(new)
        elif self._phase == "watch" and since >= 60 * self._params.watch_minutes:
            if not self._is_kept(new):
                return
            self._enter("steady", RolloutPlan(stable=new))
            self._service.record(
                new.version,
                "serving",
                f"{mine.requests} requests, {mine.errors} failed since it was loaded",
            )
            self._say(f"version {new.version} serves alone")

    def _is_kept(self, new: ServedVersion) -> bool:
        """Keep a version for the next start; until that is done, the one before stays loaded."""
        try:
            self._service.persist(new)
        except (EnvironmentFault, OSError) as error:
            self._say_once(f"version {new.version} answers, but is not kept: {describe(error)}")
            return False
        return True

    def _refuse(self, number: str, why: str) -> None:
        self.refused = number
        self._back(why)
        self._service.record(number, "refused", why)

    def _back(self, why: str) -> None:
        number = self.plan.challenger.version if self.plan.challenger else self.refused
        self._say(
            f"version {number} is not served: {why}; version {self.plan.stable.version} goes on"
        )
        self._enter("steady", RolloutPlan(stable=self.plan.stable))

    def _enter(
        self, phase: Literal["steady", "loading", "canary", "watch"], plan: RolloutPlan
    ) -> None:
        self._phase, self.plan, self._since = (
            phase,
            plan.model_copy(update={"number": self.plan.number + 1}),
            self._clock(),
        )
        self._service.publish(self.plan)

    def _notice(self, reports: Sequence[Report]) -> None:
        """Say when replicas come and go."""
        processes = {report.process for report in reports}
        before, self._processes = self._processes, processes
        if before is not None and before - processes:
            self._say(
                f"replicas: {len(processes)} answer, process {', '.join(map(str, sorted(before - processes)))} ended"
            )
        elif before == set() and processes:
            self._say(f"replicas: {len(processes)} answer again")

    def _say_once(self, text: str) -> bool:
        """Say something that is not what was said last. Returns whether it was said."""
        is_new = text != self._trouble
        if is_new:
            self._say(text)
        self._trouble = text
        return is_new


def describe(error: Exception) -> str:
    """Return what went wrong, and where, in one line."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, GristmillError):
        text = f"{error.where}: {error.what}" if error.where else error.what
    return storable(" ".join(text.split()))
