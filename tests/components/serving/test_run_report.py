"""The gates in the report of a run."""

from __future__ import annotations

from typing import Any

import pytest

from components.registry.release.gates import Gate, as_rows
from components.registry.release.release_log import Release
from components.stages.serve.run_report import with_gates

PAGE = "<main><!-- gates --><p>later</p><!-- end of gates --><p>the rest</p></main>"


def made(decision: Any, *gates: Gate, before: int | None = None) -> Release:
    return Release(
        decision, 3, before, as_rows(gates), "auto", "stage", "why not", "2026-01-01T00:00:00"
    )


def test_names_each_gate_and_the_outcome() -> None:
    gates = (
        Gate("baseline", False, -0.02, -0.01, "gain of macro_f1", (-0.04, 0.0)),
        Gate("size", True, 3.6, 200.0, "bundle, megabytes"),
        Gate("champion", None, detail="none <yet>"),
    )
    page = with_gates(PAGE, "mine", made("refused", *gates, before=2))
    assert (
        page.startswith("<main>")
        and page.endswith("<p>the rest</p></main>")
        and "later" not in page
    )
    for part in (
        "It was not released: baseline refused.",
        "version 2 was champion",
        "-0.04 to 0",
        "<b>refused</b>",
        ">passed<",
        "none &lt;yet&gt;",
        "gristmill review show mine 3",
    ):
        assert part in page


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ("promoted", "version 3 is champion"),
        ("unchanged", "Version 3 was champion already"),
        ("waiting", "It waits for a person: why not"),
        ("rejected", "a person rejected version 3 before"),
        ("experiment", "experiments are never released"),
    ],
)
def test_says_what_became_of_the_version(decision: str, said: str) -> None:
    assert said in with_gates(PAGE, "default", made(decision))


def test_a_page_without_the_place_stays_as_it_is() -> None:
    assert with_gates("<p>old</p>", "default", made("promoted")) == "<p>old</p>"
