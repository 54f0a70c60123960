"""The description of a version on MLflow's page is a table of plain words, whatever names hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from components.core.bundles import Card, write_bundle
from components.registry.release.gates import Gate
from components.stages.serve.version_description import page
from tests.hostile import HOSTILE, READABLE, raw_in

TEXTS = HOSTILE | READABLE


@dataclass
class Stage:
    """What the page reads of a job."""

    inputs: dict[str, Path]
    task: str = "text_classification"
    tags: dict[str, str] = field(default_factory=dict)


def described(folder: Path, text: str) -> str:
    """Return the description of a version all of whose names are a text."""
    card = Card(
        task="any",
        runtime="numpy",
        architecture="linear",
        config={},
        targets={"classes": ["a", "b"]},
        seed=1,
        data_hash="ab" * 32,
        params_hash="p" * 64,
        origin=["train"],
        versions={"numpy": "2"},
    )
    write_bundle(folder / "winner", card, {"weights.safetensors": bytes(8)})
    row: dict[str, Any] = {
        "name": text,
        "title": text,
        "winner": True,
        "validation": {"macro_f1": 0.5},
        "test": {"macro_f1": 0.5},
        "test_interval": {"macro_f1": [0.4, 0.6]},
        "size_bytes": 8,
        "latency_ms": {"p95": 2.0},
    }
    tags = dict.fromkeys(("params_hash", "dvc_lock", "git_commit", "git_dirty"), text)
    stage: Any = Stage({"winner": folder / "winner"}, tags=tags)
    gate = Gate(text, False, 0.1, 0.2, text, (0.0, 0.2))
    plan_files = {"deciding_metric": "macro_f1", "candidates": [row]}
    return page(stage, row, plan_files, [gate, gate])


@pytest.mark.parametrize("name", TEXTS)
def test_a_description_is_plain_words_in_two_tables(name: str, tmp_path: Path) -> None:
    text = described(tmp_path, TEXTS[name])
    assert len(text) <= 5000 and not raw_in(text)
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    tokens += [child for token in tokens for child in token.children or ()]
    kinds = [token.type for token in tokens]
    assert not {"html_block", "html_inline", "link_open", "image", "fence", "em_open"} & set(kinds)
    code = [token.content for token in tokens if token.type == "code_inline"]
    assert code == ["gristmill review", "review.by", "review.note", "review", "approve", "reject"]
    assert kinds.count("table_open") == 2
    # Two gates of five cells and their header, one candidate of six and its header.
    assert (kinds.count("tr_open"), kinds.count("td_open") + kinds.count("th_open")) == (5, 27)
    shown = parser.render(text)
    assert "<script" not in shown and "<a " not in shown and "<img" not in shown


@pytest.mark.parametrize("name", READABLE)
def test_ordinary_names_are_readable(name: str, tmp_path: Path) -> None:
    assert READABLE[name] in described(tmp_path, READABLE[name])
