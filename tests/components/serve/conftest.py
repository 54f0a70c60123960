"""A predictor that needs no model: it answers by whether the text holds a word."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from components.core.bundles import Card
from components.fields.base import Reject
from components.serve.app import build_app
from components.serve.params import ServeParams
from components.serve.wire import ModelInfo

HASH = "ab" * 32
CARD = Card(
    task="text_classification", runtime="numpy", architecture="stub", config={}, classes=["差评", "好评"], seed=7, data_hash=HASH, params_hash="cd" * 32, origin=["train"], versions={"numpy": "2"}
)
MODEL = ModelInfo(name="stub", version="3", data_hash=HASH, examples=[{"text": "质量很好"}])


class Stub:
    """Rejects white space and breaks on "boom"."""

    card = CARD

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, queries: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(len(queries))
        for query in queries:
            if not query.text.strip():
                raise Reject("empty", query.text)
            if query.text == "boom":
                raise RuntimeError("boom")
        return [self._answer(query.text) for query in queries]

    def _answer(self, text: str) -> Any:
        good = 0.9 if "好" in text or "good" in text else 0.2
        return {"label": "好评" if good > 0.5 else "差评", "probability": max(good, 1 - good), "probabilities": {"差评": 1 - good, "好评": good}}


@pytest.fixture
def stub() -> type[Stub]:
    return Stub


@pytest.fixture
def model() -> ModelInfo:
    return MODEL


@pytest.fixture
def client() -> Callable[..., TestClient]:
    """Makes a client of an app around a stub; without `with`, the app's shutdown is not run."""

    def make(predictor: Stub | None = None, params: ServeParams | None = None, **options: Any) -> TestClient:
        return TestClient(build_app(predictor or Stub(), MODEL, params, **options), raise_server_exceptions=False)

    return make


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
