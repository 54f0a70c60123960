"""The pages of the params and the comments of the shipped params.yaml say what the models say."""

from __future__ import annotations

import re
from functools import cache

import pytest

from components.core.params import read_yaml
from components.orchestration.params_reference.generate import (
    commented_files,
    generate,
    read_chinese,
)
from components.orchestration.params_reference.model_walk import walk
from components.orchestration.params_reference.yaml_comments import (
    WIDTH,
    Comment,
    comments_of,
    with_comments,
)
from components.tasks import base
from tests.structure.import_graph import ROOT

SHIPPED = commented_files(ROOT)
FILES = ["docs/en/reference/params.md", "docs/zh/reference/params.md", *SHIPPED]
COMMAND = "python -m components.orchestration.params_reference"


generated = cache(generate)


@cache
def descriptions() -> dict[str, set[str]]:
    """Return the descriptions of each param and section by name; tasks may differ."""
    texts: dict[str, set[str]] = {}
    for section in (section for task in base.tasks() for section in walk(task)):
        if section.path and not section.kind and "<" not in section.path:
            texts.setdefault(section.path, set()).add(section.description)
        for param in section.params:
            name = section.name + param.path.removeprefix(section.path)
            texts.setdefault(name, set()).add(param.description)
    return texts


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_the_models_say(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == generated(ROOT)[name], f"{name} is out of date: {COMMAND}"


def test_each_param_has_a_description_of_one_line() -> None:
    texts = [(name, text) for name, each in descriptions().items() for text in each]
    assert not [(name, text) for name, text in texts if not re.fullmatch(r"[A-Z].*\.", text)]
    assert not [(name, len(text)) for name, text in texts if len(text) > 100]


def test_each_param_has_a_chinese_description() -> None:
    chinese = read_chinese().descriptions
    assert set(chinese) == set(descriptions())
    assert not [name for name, text in chinese.items() if not re.search(r"[\u4e00-\u9fff]", text)]


def test_each_section_has_a_chinese_heading() -> None:
    # Only `gristmill run --preset` and `new --preset` write the section `preset`.
    sections = set(read_yaml(ROOT / "params.yaml")) | {"preset"}
    assert set(read_chinese().headings) == sections - {"seed", "task"}


@pytest.mark.parametrize("name", SHIPPED)
def test_comments_keep_to_the_width_and_values_stay(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    comments = comments_of(walk(read_yaml(ROOT / name)["task"]), read_yaml(ROOT / name))
    bare = with_comments(text, {})
    commented = with_comments(bare, comments)
    assert with_comments(commented, {}) == bare
    long = [line for line in commented.splitlines() if len(line) > WIDTH]
    # Lines of a value alone are as long as people wrote them.
    assert not [line for line in long if line not in bare.splitlines()]


def test_comments_are_replaced_and_nothing_else() -> None:
    text = (
        "# by hand\n\n"
        "a: {b: '#1', c: 2}  # old\n"
        "d:  # old\n"
        "  # old\n"
        '  e: "x # y"   # old\n'
        "  unknown: [1,\n    2]  # old\n"
    )
    comments = {
        "a": Comment("A pair."),
        "a.b": Comment("Text.", "#1 | #2"),
        "d": Comment("A section."),
        "d.e": Comment("More text."),
    }
    assert with_comments(text, comments) == (
        "# by hand\n\n"
        "# A pair\n"
        "#   b: Text: #1 | #2\n"
        "a: {b: '#1', c: 2}\n"
        "# A section\n"
        "d:\n"
        '  e: "x # y"                  # More text\n'
        "  unknown: [1,\n    2]\n"
    )
