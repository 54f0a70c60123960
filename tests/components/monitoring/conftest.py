"""Rows as a service logs them, from made-up reviews."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from label_answers import validation_profile
from stage_runner import TEXT, sentences

from components.fields.text import Text
from components.monitoring.params import MonitorParams
from components.monitoring.profile import Profiler, profile_of
from components.monitoring.request_log import AnswerLogger, RequestLog
from components.tasks.base import evaluator
from components.tasks.shared.evaluator.classification.evaluator import Answer

CLEAN = {"min_characters": 2, "max_characters": 2000}


@pytest.fixture(scope="session")
def profile() -> dict[str, Any]:
    """Of 1,500 made-up reviews, half Chinese, half English; the model says one class in two, and is right nine times in ten."""
    texts = [row["text"] for row in sentences(1500)]
    told = profile_of({"text": texts}, {"text": Text()}, CLEAN)
    return told | {
        "predictions": validation_profile(
            ["好评", "差评"] * 200,
            [0.6 + i / 1000 for i in range(400)],
            [i % 10 != 0 for i in range(400)],
        )
    }


class Traffic:
    """Asks and answers, and leaves them to a log."""

    def __init__(self, folder: Path, profile: dict[str, Any]) -> None:
        self.folder, self.profile, self.logs, self.now = (
            folder,
            profile,
            list[RequestLog](),
            1_000_000.0,
        )

    def log(self, replica: str = "0", **params: Any) -> RequestLog:
        """A replica's log; its clock stands still unless it is told."""
        made = RequestLog(
            self.folder,
            MonitorParams(**({"rows_per_s": 10_000.0} | params)),
            replica,
            lambda: self.now,
        )
        self.logs.append(made)
        return made

    def recorder(self, log: RequestLog, version: str = "1") -> AnswerLogger:
        """Of a version."""
        rules = evaluator(TEXT)
        return AnswerLogger(log, version, Profiler(TEXT, self.profile), rules)

    def ask(self, log: RequestLog, *texts: str, id_: str = "a" * 32, version: str = "1") -> None:
        """One request."""
        queries = [evaluator(TEXT).Query(text=text) for text in texts]
        self.recorder(log, version).log_sample(
            id_,
            queries,
            [Answer(label="好评", probability=0.9, probabilities={"差评": 0.1, "好评": 0.9})]
            * len(texts),
        )


@pytest.fixture
def traffic(tmp_path: Path, profile: dict[str, Any]) -> Iterator[Traffic]:
    made = Traffic(tmp_path / "requests", profile)
    yield made
    for log in made.logs:
        log.close()
