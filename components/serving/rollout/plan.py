"""What the replicas of a service are told, and what they tell back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from components.core.params import Strict
from components.serving.http.messages import ModelInfo
from components.serving.rollout.canary import Tally


class ServedVersion(Strict):
    """A version with its files at hand."""

    model_config = ConfigDict(strict=False)  # read from JSON, in which a path is a string

    bundle: Path
    model: ModelInfo

    @property
    def version(self) -> str:
        """Its number in the registry."""
        return self.model.version


class RolloutPlan(Strict):
    """Which versions are loaded, and how the requests are divided. A request is answered by one of them, whole."""

    model_config = ConfigDict(strict=False)

    stable: ServedVersion
    challenger: ServedVersion | None = None
    share: float = Field(
        0.0, ge=0, le=1
    )  # of the requests for predictions that go to the challenger
    number: int = 0  # of the plan: reports name the one that they follow

    @property
    def leading(self) -> ServedVersion:
        """Who speaks for the service when it is asked what it is."""
        return self.challenger if self.challenger and self.share == 1 else self.stable


@dataclass(frozen=True)
class Report:
    """How one replica has followed."""

    replica: str
    process: int
    plan: int  # its number
    loaded: list[str]  # versions
    failed: dict[str, str]  # version -> why it could not be loaded
    tallies: dict[str, Tally]  # by version, since the challenger came
