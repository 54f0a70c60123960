"""The last lines of a run: what they name exists, and what comes next fits the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.orchestration.retraining.retrain import keep_report
from components.orchestration.runner import summary
from components.orchestration.runner.summary import report_path, show_summary
from components.registry.release.retrain_record import RetrainRecord


def params(name: str) -> Any:
    return SimpleNamespace(
        name=name,
        task="text_classification",
        pipeline=SimpleNamespace(data="data" if name == "default" else f"data/{name}"),
    )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that were printed; the table as its columns."""
    lines: list[str] = []

    def keep(what: Any) -> None:
        lines.append(
            what
            if isinstance(what, str)
            else " | ".join(str(column.header) for column in what.columns)
        )

    monkeypatch.setattr(summary, "console", SimpleNamespace(print=keep))
    return lines


def reports(root: Path, name: str, decision: str, metric: str = "macro_f1") -> Path:
    """What the stages of a run leave."""
    folder = root / params(name).pipeline.data / "reports"
    folder.mkdir(parents=True)
    figures = {"accuracy": 0.8654, "macro_f1": 0.85}
    row = {
        "name": "int8",
        "winner": True,
        "validation": figures,
        "test": figures,
        "test_interval": {"accuracy": [0.8, 0.9], "macro_f1": [0.81, 0.89]},
    }
    row |= {"size_bytes": 3.6e6, "latency_ms": {"p50": 1.3}, "throughput_per_s": 408.0}
    (folder / "leaderboard.json").write_text(
        json.dumps({"deciding_metric": metric, "candidates": [row]})
    )
    (folder / "serve.json").write_text(
        json.dumps(
            {"model": name, "version": 3, "decision": decision, "gates": {"baseline": "refused"}}
        )
    )
    (folder / "report.html").write_text("<p>report</p>")
    return folder


@pytest.mark.parametrize("name", ["default", "mine"])
@pytest.mark.parametrize("decision", ["refused", "rejected", "experiment", "waiting"])
def test_next_is_the_review_where_nothing_was_released(
    tmp_path: Path, shown: list[str], decision: str, name: str
) -> None:
    reports(tmp_path, name, decision)
    show_summary(tmp_path, params(name), "gristmill run")
    of = "" if name == "default" else " mine"
    assert f"next     gristmill review show{of} 3" in shown[-1] and "serve" not in shown[-1]


def test_next_is_to_serve_what_was_released(tmp_path: Path, shown: list[str]) -> None:
    reports(tmp_path, "mine", "promoted")
    show_summary(tmp_path, params("mine"), "gristmill run mine")
    assert (
        shown[-1]
        == "next     gristmill serve mine   gristmill predict mine …   gristmill mlflow up   "
        "gristmill run mine"
    )


@pytest.mark.parametrize(
    ("metric", "columns"),
    [
        ("macro_f1", "test macro_f1 | interval | accuracy"),
        ("accuracy", "test accuracy | interval | size"),
    ],
)
def test_the_table_shows_the_metric_of_the_gates_first(
    tmp_path: Path, shown: list[str], metric: str, columns: str
) -> None:
    reports(tmp_path, "default", "promoted", metric)
    show_summary(tmp_path, params("default"), "gristmill run")
    assert columns in shown[0]


def test_a_report_that_is_not_there_is_not_named(tmp_path: Path, shown: list[str]) -> None:
    folder = reports(tmp_path, "default", "promoted")
    show_summary(tmp_path, params("default"), "gristmill run")
    assert any("data/reports/report.html" in line for line in shown)
    shown.clear()
    (folder / "report.html").unlink()
    show_summary(tmp_path, params("default"), "gristmill run")
    assert not any("report.html" in line for line in shown)


def test_in_a_copy_the_report_is_named_where_it_will_be(tmp_path: Path, shown: list[str]) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "retrain" / "mine"
    reports(copy, "mine", "promoted")
    show_summary(copy, params("mine"), "gristmill run mine")
    assert "report   data/retrains/mine/version-3.html" in shown


def test_the_report_of_a_retrain_is_kept_and_writes_over_nothing(tmp_path: Path) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    folder = reports(copy, "mine", "promoted")
    made = RetrainRecord(
        "a1b2", "by hand", "promoted", "", "", "", "", {}, "", "", "", "", 0, version=3
    )
    assert keep_report(root, copy, params("mine"), made) == report_path("mine", 3)
    assert (root / report_path("mine", 3)).read_text() == "<p>report</p>"
    # The same again is the same file; another report does not replace one that a person may have
    # edited.
    assert keep_report(root, copy, params("mine"), made) == report_path("mine", 3)
    (root / report_path("mine", 3)).write_text("<p>report</p> with my notes")
    assert keep_report(root, copy, params("mine"), made) == "data/retrains/mine/version-3-a1b2.html"
    assert "my notes" in (root / report_path("mine", 3)).read_text()
    (folder / "report.html").unlink()
    assert keep_report(root, copy, params("mine"), made) is None
