"""Params files are parsed once, and the models that check them are made once."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from components.core.errors import ParamsError
from components.core.params import parse_yaml
from components.orchestration.pipeline_params import tree_model
from components.tasks import base


def test_equal_files_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"tune: {trials: 8}  # of test_params.py\n"
    first = parse_yaml(content, "params.yaml")
    first["tune"]["trials"] = 9

    def parsed_again(*_: Any) -> None:
        raise AssertionError("is parsed again")

    monkeypatch.setattr(YAML, "load", parsed_again)
    assert parse_yaml(content, "params.yaml") == {"tune": {"trials": 8}}


def test_a_broken_file_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ParamsError, match="is not readable YAML"):
            parse_yaml(b"tune: {", "params.yaml")


def test_the_models_of_a_task_are_made_once() -> None:
    for task in base.tasks():
        assert tree_model(task) is tree_model(task)
