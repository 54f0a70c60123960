"""The page of MLflow has each name that the code writes there, and no other."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any, get_args

import pytest

from components.orchestration.drift import drift_alerts
from components.orchestration.runner.stage_task import run_tags
from components.registry.release import aliases, mlflow_requests
from components.registry.release.release_log import Decision, Release
from components.registry.release.retrain_record import DONE, RetrainRecord
from components.registry.versions.model_versions import BUNDLE
from components.stages.serve import version_description
from components.tasks import base
from tests.structure.import_graph import ROOT

PAGES = {
    language: (ROOT / "docs" / language / "reference/mlflow.md").read_text(encoding="utf-8")
    for language in ("en", "zh")
}
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
KEY = re.compile(r'"(\w+)": |tags\["(\w+)"\]')


def tables(page: str) -> list[set[str]]:
    """Return the names in the first cells of each table, in order."""
    parts = re.findall(r"^\| ---.*\n((?:^\|.*\n)+)", page, re.MULTILINE)
    first_cells = [[line.split("|")[1] for line in part.splitlines()] for part in parts]
    return [set(re.findall(r"`([^`]+)`", " ".join(cells))) for cells in first_cells]


def table_with(page: str, name: str) -> set[str]:
    """Return the first table that has a name in its first column."""
    return next(table for table in tables(page) if name in table)


def keys(function: Any) -> set[str]:
    """Return the keys of the dictionaries in the source of a function."""
    pairs = KEY.findall(inspect.getsource(function).rpartition('"""')[2])
    return {first or second for first, second in pairs}


@each_page
def test_the_page_has_each_name_with_the_prefix_of_gristmill(page: str) -> None:
    written = {
        name
        for folder in ("registry", "orchestration")
        for path in (ROOT / "components" / folder).rglob("*.py")
        for name in re.findall(r'"(gristmill\.[a-z]+)"', path.read_text(encoding="utf-8"))
    }
    shown = {name for table in tables(page) for name in table if name.startswith("gristmill.")}
    assert shown == written


@each_page
def test_the_page_has_each_tag_of_a_run(page: str) -> None:
    shown = {name for name in table_with(page, "params_file") if "." not in name}
    result = {"winner", "version", "decision"}
    assert shown == keys(run_tags) | result
    source = (ROOT / "components/stages/serve/stage.py").read_text(encoding="utf-8")
    logged = re.search(r"result = \{(.*?)\}", source, re.DOTALL)
    assert logged
    assert set(re.findall(r'"(\w+)": ', logged[1])) == result


@each_page
def test_the_page_has_each_tag_of_a_version(page: str) -> None:
    position = next(number for number, table in enumerate(tables(page)) if BUNDLE in table)
    shown = set().union(*tables(page)[position : position + 4])
    described = keys(version_description.tags) - {"input", "output", "python", "platform"}
    described -= {"params_file"}
    targets = {
        name for task in base.tasks() for name in base.schema(task).targets.Info.model_fields
    }
    requests = {"review", "review.by", "review.note"}
    others = {BUNDLE, "gates", "service", "<metric>", "<metric>_interval"}
    decided = {name for name in keys(aliases._tag_versions) if name.startswith("decision")}
    assert shown == described | targets | requests | others | decided
    asked = inspect.getsource(mlflow_requests)
    assert all(f'"{name}"' in asked for name in requests)


@each_page
def test_the_page_has_each_alias(page: str) -> None:
    synced = keys(aliases.expected_aliases)
    assert table_with(page, "champion") == synced | {"challenger", mlflow_requests.ALIAS}


@each_page
def test_the_page_has_each_field_of_a_record(page: str) -> None:
    release, retrain = (table_with(page, name) for name in ("overrides", "trigger"))
    assert release == {item.name for item in fields(Release)}
    assert retrain == {item.name for item in fields(RetrainRecord)}
    decisions = re.search(r"^\| `decision` \| (`promoted`.*) \|$", page, re.MULTILINE)
    outcomes = re.search(r"^\| `outcome` \| (.*) \|$", page, re.MULTILINE)
    assert decisions
    assert outcomes
    assert set(re.findall(r"`([^`]+)`", decisions[1])) == set(get_args(Decision))
    assert set(re.findall(r"`([^`]+)`", outcomes[1])) >= set(DONE)


@each_page
def test_the_page_has_each_name_of_a_drift_check(page: str) -> None:
    source = inspect.getsource(drift_alerts)
    written = set(re.findall(r'f"(\w+)\.\{', source))
    shown = {name for name in table_with(page, "gristmill.watches") if "<" in name}
    assert {name.partition(".")[0] for name in shown} == written
