"""All generated files: pages of the params, and the shipped params.yaml with their comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.params import read_yaml
from components.orchestration.params_reference.markdown_pages import ENGLISH, Language, render_page
from components.orchestration.params_reference.model_walk import Section, walk
from components.orchestration.params_reference.yaml_comments import comments_of, with_comments
from components.tasks import base

# The pipeline of the root has all sections.
_ROOT_PARAMS = "params.yaml"
# A file whose comments are generated says so at its top. Those of people do not: `gristmill new`
# writes reasons as comments.
_MARK = "# Comments come from the models: python -m components.orchestration.params_reference"
CHINESE_FILE = Path(__file__).with_name("descriptions.zh.yaml")
TASKS = Path(base.__file__).parent


def generate(root: Path) -> dict[str, str]:
    """Return the text of each generated file by its path below the root."""
    sections = {task: walk(task) for task in base.tasks()}
    order = list(read_yaml(root / _ROOT_PARAMS))
    files = {
        "docs/en/reference/params.md": render_page(sections, order, ENGLISH),
        "docs/zh/reference/params.md": render_page(sections, order, read_chinese()),
    }
    for name in commented_files(root):
        files[name] = _commented(root / name, sections)
    return files


def commented_files(root: Path) -> list[str]:
    """Return the params.yaml files whose comments are generated, relative to the root."""
    files = [root / _ROOT_PARAMS, *sorted(root.glob(f"pipelines/*/{_ROOT_PARAMS}"))]
    return [
        file.relative_to(root).as_posix()
        for file in files
        if _MARK in file.read_text(encoding="utf-8").splitlines()
    ]


def read_chinese() -> Language:
    """Return the Chinese words and descriptions: those of all pipelines and those of each task."""
    language = read_yaml(CHINESE_FILE)
    for path in sorted(TASKS.rglob("descriptions.zh.yaml")):
        language["descriptions"].update(read_yaml(path))
    return Language(**language)


def _commented(path: Path, sections: Mapping[str, Sequence[Section]]) -> str:
    """Return the text of a params.yaml with generated comments."""
    tree: Mapping[str, Any] = read_yaml(path)
    comments = comments_of(sections[tree["task"]], tree)
    return with_comments(path.read_text(encoding="utf-8"), comments)
