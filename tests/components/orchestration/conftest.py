"""A guard: only tests of `CLUSTER` reach a Ray from their own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from components.orchestration.cluster import connection, local_cluster


@pytest.fixture(autouse=True)
def no_token(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse a connection to Ray: its token would stay for all later tests of the process."""
    if request.node.get_closest_marker("cluster"):
        return

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("reaches a Ray with a token: add its file to CLUSTER in tests/conftest.py")

    for module in (connection, local_cluster):
        monkeypatch.setattr(module, "connected", refuse)


@pytest.fixture(scope="module")
def one_child() -> Iterator[None]:
    """Let all exports of a file ask their champions in one child process, which imports torch once.

    `test_serve_stage.py` and the tests of commands start a child for each call.
    """
    from components.core import sandbox
    from components.inference.predictor import first_answers

    with sandbox.SandboxedCall(first_answers) as child, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "SandboxedCall", lambda _: nullcontext(child))
        yield
