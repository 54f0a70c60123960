"""Whatever MLflow holds, the registry is read, and a version is used or refused in a sentence."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TEXTS, VALUES, as_bytes, changed_tree

from components.core.errors import GristmillError
from components.registry.release.gate_results import Gate, as_rows, from_tag
from components.registry.release.mlflow_requests import requested_decision
from components.registry.release.release_log import Release, records, standing
from components.registry.validation import bundle_source, sha256_digest
from components.registry.versions.reader import LOG, PLACE, RegistrySnapshot, read_snapshot
from components.registry.versions.test_cases import Cases

TABLES = """
CREATE TABLE registered_models (name);
CREATE TABLE registered_model_tags (name, key, value);
CREATE TABLE registered_model_aliases (name, alias, version);
CREATE TABLE model_versions (version, name, source, run_id, creation_time, current_stage);
CREATE TABLE model_version_tags (version, name, key, value);
CREATE TABLE params (run_uuid, key, value);
CREATE TABLE alembic_version (version_num);
"""
TAGS = ("bundle_sha256", "examples", "gates", "review", "review.by", "review.note", "test_hash")
RECORD = {
    "decision": "promoted",
    "version": 1,
    "before": None,
    "gates": as_rows([Gate("service", True)]),
    "mode": "auto",
    "who": "a",
    "why": "b",
    "when": "2026-01-01T00:00:00+00:00",
    "overrides": [],
}
JSON_TEXTS = VALUES.map(lambda value: as_bytes(value).decode("utf-8", "replace"))
VALUE = st.one_of(TEXTS.map(lambda text: text.encode("utf-8", "replace").decode()), JSON_TEXTS)
RECORD_TEXT = changed_tree(RECORD).map(lambda value: as_bytes(value).decode("utf-8", "replace"))


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def shelf_of(tags: dict[str, str], source: str, kept: list[str]) -> RegistrySnapshot:
    """The registry as it is read when somebody has edited a version and the log of releases."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "mlflow").mkdir()
        with closing(sqlite3.connect(root / "mlflow" / "mlflow.db")) as connection:
            connection.executescript(TABLES)
            fill(connection, tags, source, kept)
            connection.commit()
        shelf = read_snapshot(root, "default")
        assert shelf is not None
        return shelf


def fill(
    connection: sqlite3.Connection, tags: dict[str, str], source: str, kept: list[str]
) -> None:
    connection.execute("INSERT INTO registered_models VALUES ('default')")
    connection.execute("INSERT INTO registered_model_tags VALUES ('default', ?, 'log')", (LOG,))
    version = "INSERT INTO model_versions VALUES (1, 'default', ?, 'run', 0, 'None')"
    connection.execute(version, (source,))
    for key, value in tags.items():
        tag = "INSERT INTO model_version_tags VALUES (1, 'default', ?, ?)"
        connection.execute(tag, (key, value))
    for number, text in enumerate(kept, 1):
        record = "INSERT INTO params VALUES ('log', ?, ?)"
        connection.execute(record, (f"{PLACE}{number:06d}", text))


@given(
    st.dictionaries(st.sampled_from(TAGS), VALUE, max_size=len(TAGS)),
    VALUE,
    st.lists(st.one_of(VALUE, RECORD_TEXT), max_size=3),
)
def test_an_edited_registry(tags: dict[str, str], source: str, kept: list[str]) -> None:
    shelf = shelf_of(tags, source, kept)
    decided = records(shelf)
    assert all(isinstance(each, Release) for each in decided)
    assert standing(decided).champion in {None, *(each.version for each in decided)}
    version = shelf.version(1)
    assert requested_decision(version) in ("", "approve", "reject")
    with suppress(GristmillError):
        assert all(isinstance(gate, Gate) for gate in from_tag(tags.get("gates", "[]"), "gates"))
    with suppress(GristmillError):
        Cases.from_json(tags.get("examples", ""))
    with suppress(GristmillError):
        digest = sha256_digest(version.tags.get("bundle_sha256"), "bundle_sha256")
        assert Path(digest).name == digest
        folder = bundle_source(version.source, digest, "source")
        assert ".." not in Path(folder).parts


@given(
    st.one_of(
        VALUE,
        changed_tree(RECORD["gates"]).map(lambda tree: as_bytes(tree).decode("utf-8", "replace")),
    )
)
def test_an_edited_tag_of_gates(text: str) -> None:
    with suppress(GristmillError):
        gates = from_tag(text, "gates")
        assert as_rows(gates) is not None
        assert {gate.verdict for gate in gates} <= {
            "passed",
            "refused",
            "borderline",
            "not applicable",
        }
