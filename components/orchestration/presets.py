"""Presets: named sets of params that a task declares, written into params.yaml and taken back.

The section `preset` of params.yaml records what a preset replaced. So `good`, which is the params
without a preset, needs no other file, and a value that a person changed meanwhile stays.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import ParamsError
from components.core.files import write_atomic
from components.core.params import nearest, parse_yaml, validate
from components.orchestration.creation.params_writer import flow
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import load, tree_model
from components.orchestration.yaml_edits import at_path, replace_section, set_values
from components.tasks import base
from components.tasks.base import DeclaresPresets, Setting

# The params as they are without a preset.
GOOD = "good"
_SECTION = "preset"


@dataclass(frozen=True)
class PresetChange:
    """The text of a params.yaml with a preset, and what changed, for a person."""

    text: str
    lines: Sequence[str]


def check_preset(task: str, name: str) -> None:
    """Refuse a preset that the task does not declare.

    Raises:
        ParamsError: names those that exist.
    """
    names = preset_names(task)
    if name not in names:
        raise ParamsError(
            f"{name!r} is not one of {', '.join(names)}{nearest(name, names)}",
            where="--preset",
            remedy=f"these are the presets of {task}",
        )


def preset_names(task: str) -> list[str]:
    """Return the names of a task's presets."""
    facet = base.defaults(task)
    declared = list(facet.presets) if isinstance(facet, DeclaresPresets) else []
    return [GOOD, *declared]


def use_preset(root: Path, file: Path, name: str) -> list[str]:
    """Write a preset into a params.yaml, and return what changed.

    Args:
        root: of the project.
        file: the params.yaml.
        name: of the preset.

    Raises:
        ParamsError: no such preset, or the params are wrong. The file stays as it was.
        EnvironmentFault: a run is under way, which reads the file.
    """
    shown = file.relative_to(root).as_posix()
    task = load(file, shown=shown).task
    check_preset(task, name)
    with only_one(root / "data" / ".state" / "run.lock", "a run of this project"):
        change = with_preset(file.read_text(encoding="utf-8"), name, shown)
        _check(file, change.text, shown)
        write_atomic(file, change.text)
    return list(change.lines)


def _check(file: Path, text: str, shown: str) -> None:
    """Validate a text as the content of a params.yaml, before it replaces the file."""
    part = file.with_name(f".{file.name}.{os.getpid()}.preset")
    try:
        write_atomic(part, text)
        load(part, shown=shown)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def with_preset(text: str, name: str, source: str, keep: Collection[str] = ()) -> PresetChange:
    """Return the text of a params.yaml with a preset in place of the one that it has.

    Args:
        text: of the params.yaml, valid.
        name: of the preset.
        source: name of the file, for messages.
        keep: dotted paths that the preset leaves as they are.
    """
    text, lines = _without_preset(text)
    if name == GOOD:
        return PresetChange(text, lines or [f"preset {GOOD}: no value is replaced"])
    tree = parse_yaml(text.encode(), source)
    task = tree["task"]
    values = validate(tree_model(task), tree, source).model_dump(mode="json")
    replaced = {}
    for setting in _settings(task, name, values):
        before = at_path(values, setting.path)
        if setting.path in keep or before == setting.value:
            continue
        replaced[setting.path] = (before, setting)
        lines.append(
            f"preset {name}: {setting.path}: {flow(before)} -> {flow(setting.value)}  "
            f"({setting.reason})"
        )
    edits = {path: flow(setting.value) for path, (_, setting) in replaced.items()}
    text = set_values(text, edits)
    return PresetChange(replace_section(text, _SECTION, _record(name, replaced)), lines)


def _settings(task: str, name: str, values: Mapping[str, Any]) -> Sequence[Setting]:
    facet = base.defaults(task)
    assert isinstance(facet, DeclaresPresets), "check_preset has found the name"
    return facet.presets[name](values)


def _record(name: str, replaced: Mapping[str, tuple[Any, Setting]]) -> str:
    """Return the section `preset` as text."""
    lines = [
        f"{_SECTION}:",
        f"  # gristmill run --preset {GOOD} puts the replaced values back",
        f"  name: {name}",
        "  replaced:" if replaced else "  replaced: {}",
    ]
    for path, (before, setting) in replaced.items():
        lines.append(f"    # {setting.reason}")
        lines.append(f"    {path}: {{before: {flow(before)}, now: {flow(setting.value)}}}")
    return "\n".join(lines) + "\n"


def _without_preset(text: str) -> tuple[str, list[str]]:
    """Return a text without its preset, and what changed.

    A value that is no longer the one of the preset is a person's, and stays.
    """
    tree = parse_yaml(text.encode(), "params.yaml")
    record = tree.get(_SECTION) or {}
    edits = {}
    lines = []
    for path, entry in (record.get("replaced") or {}).items():
        if at_path(tree, path) != entry["now"]:
            lines.append(f"{path} stays {flow(at_path(tree, path))}: it was edited")
            continue
        edits[path] = flow(entry["before"])
        lines.append(f"{path}: {flow(entry['now'])} -> {flow(entry['before'])}")
    return replace_section(set_values(text, edits), _SECTION, ""), lines
