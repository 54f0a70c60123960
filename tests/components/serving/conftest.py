"""A predictor that needs no model: it answers by whether the text holds a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from stub import MODEL, Stub, Stuck

from components.serving.http.app import build_app
from components.serving.http.messages import ModelInfo
from components.serving.params import ServeParams
from tests.ports import free_port


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.go.set()


@pytest.fixture
def stub() -> type[Stub]:
    return Stub


@pytest.fixture
def model() -> ModelInfo:
    return MODEL


@pytest.fixture
def client() -> Callable[..., TestClient]:
    """Makes a client of an app around a stub; without `with`, the app's shutdown is not run."""

    def make(
        predictor: Stub | None = None, params: ServeParams | None = None, **options: Any
    ) -> TestClient:
        return TestClient(
            build_app(predictor or Stub(), MODEL, params, **options),
            base_url="http://localhost",
            raise_server_exceptions=False,
        )

    return make


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    return free_port()
