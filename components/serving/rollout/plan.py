"""Messages between a service and its replicas: the plan and the reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from components.core.params import Strict
from components.serving.http.messages import ModelInfo
from components.serving.rollout.canary_check import Tally


class ServedVersion(Strict):
    """A version whose files are on this machine."""

    # it is read from JSON, in which a path is a string
    model_config = ConfigDict(strict=False)

    bundle: Path
    model: ModelInfo

    @property
    def version(self) -> str:
        """Return its number in the registry."""
        return self.model.version


class RolloutPlan(Strict):
    """Which versions are loaded, and how the requests are divided.

    A request is answered by one of them, as a whole. The canary is the champion that the registry
    has named last; the stable version was in service before it.
    """

    model_config = ConfigDict(strict=False, validate_by_name=True)

    stable: ServedVersion
    # The JSON key stays that of earlier releases: replicas may outlive an upgrade of the service.
    canary: ServedVersion | None = Field(None, alias="challenger")
    # of the requests for predictions that go to the canary
    share: float = Field(0.0, ge=0, le=1)
    # of the plan: reports name the plan that they follow
    number: int = 0

    @property
    def leading(self) -> ServedVersion:
        """Return the version that the service names as its own."""
        if self.canary and self.share == 1:
            return self.canary
        return self.stable


@dataclass(frozen=True)
class Report:
    """How one replica has followed a plan.

    Attributes:
        replica: its name.
        process: its process id.
        plan: the number of the plan.
        loaded: versions.
        failed: version -> why it could not be loaded.
        tallies: by version, since the canary was loaded.
    """

    replica: str
    process: int
    plan: int
    loaded: list[str]
    failed: dict[str, str]
    tallies: dict[str, Tally]
