from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from components.core.errors import EnvironmentFault
from components.registry.release.gates import Gate
from components.registry.release.promotion import Release, history, release
from components.registry.release.release_log import standing
from components.registry.store import tracking_store
from components.registry.versions.model_versions import champion, fetch, register
from components.registry.versions.reader import LOG

DOUBTFUL = [Gate("champion", False, 0.01, -0.01, borderline=True)]
GOOD, BAD = (
    [Gate("size", True), Gate("champion", None)],
    [Gate("size", True), Gate("latency", False, 30.0, 20.0)],
)


def decide(
    root: Path,
    version: int,
    gates: list[Gate] = GOOD,
    mode: Literal["auto", "review"] = "auto",
    experiment: bool = False,
) -> Release:
    return release(
        root, "default", version, gates, mode=mode, who="陈", why="nightly", experiment=experiment
    )


@pytest.fixture
def versions(root: Path, bundle: Path, other_bundle: Path) -> tuple[int, int]:
    return register(root, "default", bundle, None, {}).number, register(
        root, "default", other_bundle, None, {}
    ).number


def test_a_version_that_passes_becomes_champion_and_the_old_one_is_kept_as_previous(
    root: Path, versions: tuple[int, int], tmp_path: Path
) -> None:
    outcomes = [decide(root, version) for version in versions]
    assert [(one.decision, one.before) for one in outcomes] == [("promoted", None), ("promoted", 1)]
    assert fetch(root, "default", "champion", tmp_path) != fetch(
        root, "default", "previous", tmp_path
    )
    found = champion(root, "default")
    assert found and (found.number, found.aliases, found.tags["decision"]) == (
        2,
        ("champion",),
        "promoted",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"gates": BAD}, "refused"),
        ({"gates": BAD, "mode": "review"}, "refused"),
        ({"mode": "review"}, "waiting"),
        ({"experiment": True}, "experiment"),
        ({"experiment": True, "gates": BAD}, "experiment"),
        ({"gates": DOUBTFUL}, "waiting"),
        ({"gates": [*DOUBTFUL, *BAD]}, "refused"),
    ],
)
def test_a_decision_against_is_recorded_and_moves_nothing(
    root: Path, versions: tuple[int, int], given: dict[str, Any], expected: str
) -> None:
    decide(root, versions[0])
    outcome = decide(root, versions[1], **given)
    found = champion(root, "default")
    assert outcome.decision == expected and found and found.number == versions[0]
    assert (
        history(root, "default")[-1] == outcome
        and outcome.who == "陈"
        and outcome.why.startswith("nightly")
    )
    assert ("latency" in outcome.why) == (expected == "refused")


def test_the_record_only_grows_and_not_by_running_the_same_again(
    root: Path, versions: tuple[int, int]
) -> None:
    first, second = versions
    grown: list[list[Release]] = []
    for version, gates in (
        (first, GOOD),
        (first, GOOD),
        (second, BAD),
        (second, BAD),
        (second, GOOD),
        (first, GOOD),
    ):
        decide(root, version, gates)
        grown.append(history(root, "default"))
    assert [len(records) for records in grown] == [1, 1, 2, 2, 3, 4]
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(grown))
    assert [record.decision for record in grown[-1]] == [
        "promoted",
        "refused",
        "promoted",
        "promoted",
    ]


@pytest.mark.parametrize(
    "step",
    [
        "log_param",
        "delete_registered_model_tag",
        "set_registered_model_tag",
        "set_model_version_tag",
        "set_registered_model_alias",
    ],
)
def test_a_crash_at_any_step_leaves_no_champion_without_a_record(
    root: Path, versions: tuple[int, int], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    decide(root, versions[0])
    # given a crash at a step of the next release
    with monkeypatch.context() as broken:
        broken.setattr(
            MlflowClient, step, lambda *_, **__: (_ for _ in ()).throw(OSError("no power"))
        )
        with pytest.raises(EnvironmentFault, match="no power"):
            decide(root, versions[1])
    # then the champion is the old one, or recorded
    found, recorded = champion(root, "default"), standing(history(root, "default")).champion
    assert found and found.number in (versions[0], recorded)
    # when it is done again
    decide(root, versions[1])
    # then champion and record agree, previous is right, and nothing is recorded twice
    assert tracking_store.client(root).get_registered_model("default").aliases == {
        "champion": 2,
        "previous": 1,
    }
    assert [each.version for each in history(root, "default")] == [1, 2]


def test_a_record_cannot_be_written_over(root: Path, versions: tuple[int, int]) -> None:
    from mlflow.exceptions import MlflowException

    decide(root, versions[0])
    opened = tracking_store.client(root)
    run = opened.get_registered_model("default").tags[LOG]
    with pytest.raises(MlflowException, match="already logged"):
        opened.log_param(run, "release.000001", "another")
    # and a run of releases that somebody deleted comes back with the next one
    opened.delete_run(run)
    decide(root, versions[1])
    assert [each.version for each in history(root, "default")] == [1, 2]
    assert opened.get_run(run).info.lifecycle_stage == "active"


def test_records_of_an_earlier_gristmill_are_read(root: Path, versions: tuple[int, int]) -> None:
    old = {
        "decision": "promoted",
        "version": 1,
        "before": None,
        "gates": [],
        "mode": "auto",
        "who": "old",
        "why": "w",
        "when": "2026-01-01T00:00:00+00:00",
    }
    opened = tracking_store.client(root)
    opened.set_registered_model_tag("default", "release.2026-01-01T00:00:00Z.ab", json.dumps(old))
    opened.set_registered_model_alias("default", "champion", "1")
    made = decide(root, versions[1])
    assert made.before == 1 and [each.who for each in history(root, "default")] == ["old", "陈"]
    assert opened.get_registered_model("default").aliases == {"champion": 2, "previous": 1}
