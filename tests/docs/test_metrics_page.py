"""The page of metrics has each metric that the code and the shipped reports have, and no other."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import torch

from components.registry.release.gates import OVERRIDABLE, GateParams
from components.serving.http import request_metrics
from components.serving.http.messages import ModelRef
from components.serving.http.request_metrics import Meters
from components.tasks import base
from components.training.throughput import Throughput
from tests.structure.import_graph import ROOT

PAGES = {
    language: (ROOT / "docs" / language / "reference/metrics.md").read_text(encoding="utf-8")
    for language in ("en", "zh")
}
# Those that git tracks. DVC tracks others, which a clean checkout lacks.
REPORTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "data/*reports/*.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
]
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def cells(page: str) -> list[list[str]]:
    """Return the cells of the rows of all tables whose first cell is a name."""
    lines = [line.replace("\\|", "¦") for line in page.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> list[str]:
    """Return the names that a cell has."""
    return re.findall(r"`([^`]+)`", cell)


def table(page: str, width: int, start: str) -> dict[str, list[str]]:
    """Return rows of a width by their name, for names that begin in a way."""
    rows = {}
    for row in cells(page):
        if len(row) == width and names(row[0])[0].startswith(start):
            rows |= dict.fromkeys(names(row[0]), row[1:])
    return rows


@each_page
def test_the_page_has_each_metric_of_answers_with_its_goal(page: str) -> None:
    shown = {name: row for name, row in table(page, 4, "").items() if row[1] in ("min", "max")}
    metrics = {
        metric.name: metric for task in base.tasks() for metric in base.evaluator(task).metrics
    }
    fit = shown.keys() - metrics.keys()
    assert {name: row[1] for name, row in shown.items() if name in metrics} == {
        name: metric.goal for name, metric in metrics.items()
    }
    shares = {name for name, row in shown.items() if row[2].startswith(("0 to 1", "0 到 1"))}
    assert shares == {name for name, metric in metrics.items() if metric.is_share}
    measured = Throughput(torch.device("cpu")).read().keys()
    trained = {
        key
        for path in REPORTS
        if path.name == "train.json"
        for key in json.loads(path.read_text(encoding="utf-8"))
        if key.endswith("_loss") or key.startswith("validation_")
    }
    assert fit == measured | trained | {"startup_seconds_<fit>"}


@each_page
def test_the_monitored_metrics_are_named(page: str) -> None:
    for task in base.tasks():
        row = table(page, 4, "validation_")[f"validation_{base.learning(task).monitored_metric}"]
        assert re.search("Monitored|受监视", row[0])
        assert row[1] == base.learning(task).monitored_goal


@each_page
def test_the_page_has_each_key_of_the_shipped_reports(page: str) -> None:
    patterns: dict[str, dict[str, bool]] = {}
    for row in cells(page):
        if len(row) == 3 and row[0].endswith(".json`") and "/" not in row[0]:
            keys = patterns.setdefault(names(row[0])[0], {})
            keys.update(dict.fromkeys(names(row[1]), False))
    assert len(REPORTS) > 30
    for path in REPORTS:
        if path.name == "leaderboard.json":
            continue
        for key in json.loads(path.read_text(encoding="utf-8")):
            known = patterns[path.name]
            matching = [name for name in known if re.fullmatch(re.sub("<.*?>", ".+", name), key)]
            assert matching, f"{path}: {key} is not on the page"
            exact = [name for name in matching if name == key]
            known.update(dict.fromkeys(exact or matching, True))
    stale = {(file, key) for file, keys in patterns.items() for key in keys if not keys[key]}
    assert stale == set()


@each_page
def test_the_page_has_each_gate_and_its_limit(page: str) -> None:
    section = page.partition("| `baseline` |")
    rows = cells(section[1] + section[2].partition("\n\n")[0])
    limits = {name for row in rows for name in names(row[2])}
    assert limits == GateParams.model_fields.keys() - {"alpha", "slice_cases"}
    report = json.loads((ROOT / "data/reports/serve.json").read_text(encoding="utf-8"))
    assert {names(row[0])[0] for row in rows} == report["gates"].keys()


@each_page
def test_the_page_has_each_series_of_the_service(page: str) -> None:
    meters = Meters(ModelRef(name="a", version="1", data_hash="d", bundle="b"), "0", ["/"])
    meters.count("/", 500, 0.1, None)
    meters.count_admitted("ann")
    meters.set_gauges(lambda: 0, lambda: 0)
    text = meters.text().decode()
    series = re.findall(r"^# TYPE (gristmill_\w+(?<!_created)) (\w+)$", text, re.MULTILINE)
    shown = table(page, 4, "gristmill_")
    source = (ROOT / "components/serving/http/monitoring_routes.py").read_text(encoding="utf-8")
    monitored = {
        name.replace("{kind}", kind)
        for name in re.findall(r'f?"(gristmill_[\w{}]+)"', source)
        for kind in ("inputs", "<outcome>")
    }
    assert {name: row[0] for name, row in shown.items()} == dict(series) | dict.fromkeys(
        monitored, "gauge"
    )
    for name, _ in series:
        sample = re.search(rf"^{name}(?:_bucket)?\{{(.*?)\}} ", text, re.MULTILINE)
        assert sample, name
        labels = set(re.findall(r'(\w+)="', sample[1])) - {"replica", "le"}
        assert labels == set(names(shown[name][1])), name
    outcomes = {base.evaluator(task).feedback.outcome for task in base.tasks()}
    assert outcomes <= set(names(shown["gristmill_drift_<outcome>"][2]))


@each_page
def test_the_page_has_each_reason_of_a_refusal(page: str) -> None:
    section = page.rpartition("| `key` |")
    rows = cells(section[1] + section[2])
    folder = ROOT / "components/serving/http"
    given = re.compile(r'set_refusal_reason\([\w.]+, "(\w+)"|Refusal\(\s*\d+,\s+"(\w+)"')
    named = {
        first or second
        for path in folder.glob("*.py")
        for first, second in given.findall(path.read_text(encoding="utf-8"))
    }
    assert {name for row in rows for name in names(row[0])} == named | {
        *request_metrics._REASONS.values(),
        "other",
    }


def test_the_registry_page_has_each_gate_its_limits_and_who_may_answer() -> None:
    text = (ROOT / "mlflow/README.md").read_text(encoding="utf-8")
    rows = {names(row[0])[0]: row for row in cells(text.partition("\n## Gates\n")[2])}
    report = json.loads((ROOT / "data/reports/serve.json").read_text(encoding="utf-8"))
    assert rows.keys() == report["gates"].keys()
    assert {name for name, row in rows.items() if row[4] == "yes"} == set(OVERRIDABLE)
    assert {row[4] for row in rows.values()} == {"yes", "no"}
    limits = {name for row in rows.values() for name in names(row[3])}
    assert limits == GateParams.model_fields.keys()
    # The page of metrics names the limit that each gate compares with.
    of_gates = PAGES["en"].partition("\n## Gates\n")[2].partition("\n## ")[0]
    for row in cells(of_gates):
        assert set(names(row[2])) <= set(names(rows[names(row[0])[0]][3]))
