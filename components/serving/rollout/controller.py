"""Rollout: a running service follows the champion of the registry.

A new version passes the preflight and is loaded beside the old one. Then it gets a share of the
requests, then all. At the first sign that it is worse, the old version gets all requests again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from components.core.errors import EnvironmentFault, GristmillError
from components.registry.validation import storable
from components.registry.versions.model_versions import Version
from components.serving.rollout.canary_check import CanaryParams, Tally, total, worse
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion

_LOAD_S = 180.0
_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 300.0
Phase = Literal["steady", "loading", "canary", "watch"]


class Service(Protocol):
    """The service that a rollout controller leads."""

    def prepare(self, version: Version) -> ServedVersion | None:
        """Copy a version's files here, verify them and run the preflight, beside everything else.

        Args:
            version: as the registry has it.

        Returns:
            None while that is under way: ask again.

        Raises:
            EnvironmentFault: not now.
            Exception: it cannot be served.
        """

    def publish(self, plan: RolloutPlan) -> Sequence[Report]:
        """Publish a plan to all replicas.

        Returns:
            Their latest reports, which may be on an earlier plan.
        """

    def persist(self, version: ServedVersion) -> None:
        """Store the version to begin with the next time."""

    def record(
        self, version: str, state: Literal["serving", "refused", "waiting"], why: str
    ) -> None:
        """Record the state of a version.

        Args:
            version: its number.
            state: what became of it.
            why: the reason.
        """


@dataclass
class Backoff:
    """The time when a version may be prepared again.

    The first pause is two seconds. Each pause is twice as long as the one before.
    """

    version: str = ""
    pause_s: float = 0.0
    due: float = 0.0

    def is_due(self, version: str, now: float) -> bool:
        """Return whether a version may be tried now.

        Args:
            version: its number.
            now: in seconds.
        """
        return version != self.version or now >= self.due

    def failed(self, version: str, now: float) -> None:
        """Wait longer than the time before.

        Args:
            version: the number of the version that failed.
            now: in seconds.
        """
        if version == self.version:
            longer = min(2 * self.pause_s, _LONGEST_PAUSE_S)
            self.pause_s = max(longer, _FIRST_PAUSE_S)
        else:
            self.pause_s = _FIRST_PAUSE_S
        self.version = version
        self.due = now + self.pause_s


class RolloutController:
    """The state of a service between two checks of the registry.

    A version that was refused is not tried again until it is released anew, or the registry has
    named another. One that is older than the one in service is a rollback: it gets all requests at
    once.

    Args:
        stable: the version that is served now.
        service: the replicas.
        params: of canaries.
        say: prints one line.
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
        self._service = service
        self._params = params
        self._log = say
        self._clock = clock
        self._phase: Phase = "steady"
        self._phase_began = 0.0
        self._last_message = ""
        self._retries = Backoff()
        self._releases: int | None = None
        self._processes: set[int] | None = None

    @property
    def busy(self) -> bool:
        """Return whether a release is under way, so that checks should be frequent."""
        return self._phase != "steady"

    def step(self, wanted: Version | None, releases: int | None = None) -> None:
        """Take one step.

        Args:
            wanted: the latest champion that the registry named.
            releases: how many releases and rollbacks the registry had recorded by then. A version
                may go and come back between two checks: then it is tried again.
        """
        self._notice_releases(releases)
        number = str(wanted.number) if wanted else None
        canary = self.plan.canary
        if canary and number not in (None, canary.version):
            self._back(f"the registry names version {number}")
        if wanted and not self.plan.canary:
            if number == self.plan.stable.version:
                self.refused = None
            elif number != self.refused:
                self._begin(wanted)
        reports = self._service.publish(self.plan)
        self._notice_replicas(reports)
        if self.plan.canary:
            current = [report for report in reports if report.plan == self.plan.number]
            self._advance(self.plan.canary, current)

    def _notice_releases(self, releases: int | None) -> None:
        """Forget the refused version if there was a release."""
        if releases is None or releases == self._releases:
            return
        if self._releases is not None:
            self.refused = None
        self._releases = releases

    def _begin(self, wanted: Version) -> None:
        number = str(wanted.number)
        if not self._retries.is_due(number, self._clock()):
            return
        try:
            version = self._service.prepare(wanted)
        except EnvironmentFault as fault:
            self._postpone(number, fault)
        except Exception as error:
            # Whatever a candidate does, the version in service goes on.
            self._refuse(number, describe(error))
        else:
            if version:
                self._load(version)

    def _load(self, version: ServedVersion) -> None:
        self._last_message = ""
        self._retries = Backoff()
        stable = self.plan.stable
        self._log(
            f"version {version.version} is champion: loading it beside version {stable.version}"
        )
        self._enter("loading", RolloutPlan(stable=stable, canary=version))

    def _postpone(self, number: str, fault: EnvironmentFault) -> None:
        """Try again later, and log that once."""
        self._retries.failed(number, self._clock())
        why = describe(fault)
        stable = self.plan.stable.version
        text = f"version {number} cannot be had yet, version {stable} goes on: {why}"
        if self._log_once(text):
            self._service.record(number, "waiting", why)

    def _advance(self, new: ServedVersion, reports: Sequence[Report]) -> None:
        failures = [
            report.failed[new.version] for report in reports if new.version in report.failed
        ]
        seconds = self._clock() - self._phase_began
        if failures and failures[0]:
            self._refuse(new.version, failures[0])
        elif self._phase != "loading":
            self._compare(new, reports, seconds)
        elif reports and all(new.version in report.loaded for report in reports):
            self._send_first_requests(new)
        elif seconds > _LOAD_S:
            self._refuse(new.version, f"not loaded within {_LOAD_S:.0f} s")

    def _send_first_requests(self, new: ServedVersion) -> None:
        is_rollback = int(new.version) < int(self.plan.stable.version)
        if self._params.share and not is_rollback:
            self._log(f"version {new.version} gets {self._params.share:.0%} of the requests")
            self._enter("canary", self.plan.model_copy(update={"share": self._params.share}))
        else:
            self._send_all_requests(new)

    def _send_all_requests(self, new: ServedVersion) -> None:
        self._log(
            f"version {new.version} gets all requests; version {self.plan.stable.version} "
            f"stays loaded for {self._params.watch_minutes:g} minutes"
        )
        self._enter("watch", self.plan.model_copy(update={"share": 1.0}))

    def _compare(self, new: ServedVersion, reports: Sequence[Report], seconds: float) -> None:
        """Compare the new version with the old one, and go on or back.

        Args:
            new: the canary.
            reports: on the current plan.
            seconds: since the phase began.
        """
        tally = _total_of(new.version, reports)
        reason = worse(tally, _total_of(self.plan.stable.version, reports), self._params)

        if reason:
            self._refuse(new.version, reason)
        elif self._phase == "canary":
            if tally.requests >= self._params.requests or seconds >= 60 * self._params.minutes:
                self._send_all_requests(new)
        elif self._phase == "watch" and seconds >= 60 * self._params.watch_minutes:
            self._finish(new, tally)

    def _finish(self, new: ServedVersion, tally: Tally) -> None:
        """Serve the new version alone, once it is stored for the next start."""
        if not self._is_persisted(new):
            return
        self._enter("steady", RolloutPlan(stable=new))
        why = f"{tally.requests} requests, {tally.errors} failed since it was loaded"
        self._service.record(new.version, "serving", why)
        self._log(f"version {new.version} serves alone")

    def _is_persisted(self, new: ServedVersion) -> bool:
        """Store a version for the next start; until that is done, the one before stays loaded."""
        try:
            self._service.persist(new)
        except (EnvironmentFault, OSError) as error:
            self._log_once(f"version {new.version} answers, but is not kept: {describe(error)}")
            return False
        return True

    def _refuse(self, number: str, why: str) -> None:
        self.refused = number
        self._back(why)
        self._service.record(number, "refused", why)

    def _back(self, why: str) -> None:
        number = self.plan.canary.version if self.plan.canary else self.refused
        stable = self.plan.stable
        self._log(f"version {number} is not served: {why}; version {stable.version} goes on")
        self._enter("steady", RolloutPlan(stable=stable))

    def _enter(self, phase: Phase, plan: RolloutPlan) -> None:
        self._phase = phase
        self.plan = plan.model_copy(update={"number": self.plan.number + 1})
        self._phase_began = self._clock()
        self._service.publish(self.plan)

    def _notice_replicas(self, reports: Sequence[Report]) -> None:
        """Log when replicas come and go."""
        processes = {report.process for report in reports}
        before = self._processes
        self._processes = processes
        if before is not None and before - processes:
            ended = ", ".join(map(str, sorted(before - processes)))
            self._log(f"replicas: {len(processes)} answer, process {ended} ended")
        elif before == set() and processes:
            self._log(f"replicas: {len(processes)} answer again")

    def _log_once(self, text: str) -> bool:
        """Log a message unless it was the last one.

        Returns:
            Whether it was logged.
        """
        is_new = text != self._last_message
        if is_new:
            self._log(text)
        self._last_message = text
        return is_new


def _total_of(version: str, reports: Sequence[Report]) -> Tally:
    return total(report.tallies[version] for report in reports if version in report.tallies)


def describe(error: Exception) -> str:
    """Return what went wrong, and where, in one line."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, GristmillError):
        text = f"{error.where}: {error.what}" if error.where else error.what
    return storable(" ".join(text.split()))
