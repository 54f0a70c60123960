"""A predictor that needs no model: it answers by whether the text holds a word."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from scenario import STUCK

from components.core.bundles import Card
from components.fields.base import Reject
from components.inference.predictor import Prepared
from components.serving.http.messages import ModelInfo
from components.tasks.shared.evaluator.classification.evaluator import Answer

HASH = "ab" * 32
CARD = Card(
    task="text_classification",
    runtime="numpy",
    architecture="stub",
    config={},
    targets={"classes": ["差评", "好评"]},
    seed=7,
    data_hash=HASH,
    params_hash="cd" * 32,
    origin=["train"],
    versions={"numpy": "2"},
)
MODEL = ModelInfo(
    name="stub", version="3", data_hash=HASH, bundle="ef" * 6, examples=[{"text": "质量很好"}]
)


class Stub:
    """Rejects white space and breaks on "boom"."""

    card = CARD

    def __init__(self) -> None:
        self.batches: list[int] = []

    def prepare(self, queries: Sequence[Any]) -> Sequence[Prepared]:
        for query in queries:
            if not query.text.strip():
                raise Reject("empty", query.text)
        return [Prepared({"text": query.text}, len(query.text)) for query in queries]

    def score(self, rows: Sequence[Prepared]) -> Sequence[Any]:
        self.batches.append(len(rows))
        if any(row.row["text"] == "boom" for row in rows):
            raise RuntimeError("boom")
        return [self._answer(row.row["text"]) for row in rows]

    def _answer(self, text: str) -> Any:
        good = 0.9 if "好" in text or "good" in text else 0.2
        return Answer(
            label="好评" if good > 0.5 else "差评",
            probability=max(good, 1 - good),
            probabilities={"差评": 1 - good, "好评": good},
        )


class Stuck(Stub):
    """Does not come back from the text STUCK until it may go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def score(self, rows: Sequence[Prepared]) -> Sequence[Any]:
        if any(row.row["text"] == STUCK for row in rows):
            self.go.wait(30)
        return super().score(rows)
