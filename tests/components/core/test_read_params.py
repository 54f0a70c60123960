"""Params as they are read from YAML."""

from __future__ import annotations

from components.core.params import parse_yaml


def test_who_reads_the_same_bytes_may_change_the_tree() -> None:
    content = b"train:\n  epochs: 3\n"
    tree = parse_yaml(content, "params.yaml")
    tree["train"]["epochs"] = 4
    assert parse_yaml(content, "params.yaml") == {"train": {"epochs": 3}}
