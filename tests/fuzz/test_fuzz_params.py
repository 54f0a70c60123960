"""Whatever stands in params.yaml, reading it gives params or an error that names the file."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import TEXTS, as_bytes, changed_bytes, changed_tree

from components.core.errors import GristmillError
from components.core.params import read_yaml
from components.orchestration.pipeline_params import Params, load
from tests.structure.import_graph import ROOT

# Reading YAML costs more than most of what is tested here.
FEWER = settings(max_examples=max(1, settings().max_examples // 4))


@cache
def whole_tree() -> Any:
    """The params of the default pipeline."""
    return read_yaml(ROOT / "params.yaml")


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "params.yaml"
        path.write_bytes(content)
        try:
            assert isinstance(load(path), Params)
        except GristmillError as error:
            assert error.exit_code == 2
            assert "params.yaml" in str(error)


def test_what_is_changed_is_whole_before(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(as_bytes(whole_tree()))
    assert isinstance(load(path), Params)


@FEWER
@given(st.data())
def test_a_changed_value(data: st.DataObject) -> None:
    read(as_bytes(data.draw(changed_tree(whole_tree()))))


@FEWER
@given(st.data())
def test_changed_text(data: st.DataObject) -> None:
    read(data.draw(changed_bytes((ROOT / "params.yaml").read_bytes()[:3000])))


YAML_ODDITIES = [
    b"task: 2001-99-99",
    b"? [task]\n: b",
    b"? {a: b}\n: b",
    b"task: !!python/object:os.system {}",
    b"task: !!binary x",
    b"task: !!int x",
    b"task: !!float x",
    b"task: &a [*a]",
    b"task: *a",
    b"<<: 1",
    b"task: !!timestamp 1",
    b"%YAML 9.9\n---\ntask: 1",
    b"--- 1\n--- 2",
    b"task: 0o9",
    b"task: 1:99:99",
    b"task: 1e999999999999",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]",
    b"\xef\xbb\xbftask: 1",
    b"\xff\xfet\0",
    b"task: \x1b[2J",
]


@pytest.mark.parametrize("content", YAML_ODDITIES)
def test_oddities_of_yaml(content: bytes) -> None:
    read(content)


@given(st.one_of(st.binary(max_size=200), TEXTS.map(lambda text: text.encode("utf-8", "replace"))))
def test_any_text(content: bytes) -> None:
    read(content)
