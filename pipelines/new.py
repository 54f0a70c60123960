"""`gristmill new`: a pipeline of one's own, from a file and what can be guessed of it."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import GristmillError
from components.core.params import read_yaml, validate
from components.ingest.columns import layout, nearest
from components.ingest.params import IngestParams
from components.tasks import base
from pipelines.look import Look, choose_columns, look_at, preview
from pipelines.outputs import check_input_path, check_new_outputs

RESERVED = ("raw", "clean", "augmented", "tokens", "models", "reports", "audit", ".state", "default", "deploy", "sources", "feedback", "retrains")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def create(root: Path, name: str, task: str, data: Path, text: str | None = None, label: str | None = None) -> list[str]:
    """Write `pipelines/<name>/` with a params.yaml for this data and a copy of dvc.yaml; the data stay where they are.

    Args:
        root: of the repository.
        name: of the pipeline.
        task: its id.
        data: a file or folder, relative to the current folder or absolute.
        text: the column of the task's input; guessed if None.
        label: the column of its target; guessed if None.

    Returns:
        The preview: lines of plain text.

    Raises:
        GristmillError: a bad or taken name, an unknown task, data that cannot be read, a guess that would be a gamble. Nothing is left behind then.
    """
    _check_name(root, name)
    check_new_outputs(root, name)
    if task not in base.tasks():
        raise GristmillError(f"{task!r} is not one of {', '.join(base.tasks())}{nearest(task, base.tasks())}", where="--task", remedy="take one of these")
    template = _template(root, task)
    if not data.exists():
        raise GristmillError(f"there is no file or folder {str(data)!r}", where="--data", remedy="give the path of what you have, relative to this folder or absolute")
    path = _written(root, data)
    check_input_path(root, name, path, "--data")
    wanted = layout(base.schema(task).roles, {}, 2**31)
    look = look_at(root, path, wanted)
    columns = choose_columns(look, wanted, text, label)
    section = _section(path, data, look, columns, read_yaml(template)["ingest"])
    params = _params(template, name, section)
    _publish(root, name, params)
    return [*preview(name, look, wanted, columns), f"wrote pipelines/{name}/params.yaml and dvc.yaml; the data stay at {path}", f"next: gristmill run {name}"]


def _check_name(root: Path, name: str) -> None:
    if not _NAME.fullmatch(name) or name in RESERVED:
        what = f"{name!r} cannot be a pipeline's name" + (": it is taken" if name in RESERVED else "")
        raise GristmillError(what, where="NAME", remedy="use small letters, digits, - and _, such as my-reviews")
    if (root / "pipelines" / name).exists():
        raise GristmillError(f"pipelines/{name} is there already and is not overwritten", where="NAME", remedy=f"take another name, edit pipelines/{name}/params.yaml, or remove the folder")


def _template(root: Path, task: str) -> Path:
    """A shipped params.yaml of the task, the root's first."""
    for path in [root / "params.yaml", *sorted(root.glob("pipelines/*/params.yaml"))]:
        if path.is_file() and read_yaml(path).get("task") == task:
            return path
    raise GristmillError(f"no params.yaml here is for the task {task!r}", where=str(root), remedy="start from a complete checkout: git checkout -- params.yaml pipelines")


def _written(root: Path, data: Path) -> str:
    """How params.yaml says where the data lie."""
    place = data.absolute() if data.is_symlink() else data.resolve()
    return place.relative_to(root.resolve()).as_posix() if place.is_relative_to(root.resolve()) else place.as_posix()


def _section(path: str, data: Path, look: Look, columns: Mapping[str, str], old: Mapping[str, Any]) -> dict[str, Any]:
    """The `ingest` section, validated."""
    stated = look.encodings - {"utf-8", "utf-8-sig"}
    source = {
        "kind": "files",
        "path": path,
        "format": "auto" if data.is_dir() else look.units[0].format,
        "encoding": next(iter(stated)) if len(look.encodings) == len(stated) == 1 else "auto",
    }
    section = {**{key: value for key, value in old.items() if key not in ("feedback", "seen")}, "source": source, "columns": dict(columns)}
    validate(IngestParams, section, "ingest")
    return section


def _params(template: Path, name: str, section: Mapping[str, Any]) -> str:
    """The template with two sections replaced; every other byte, comments too, stays."""
    from ruamel.yaml import YAML

    pipeline = {"root": "../..", "params": f"pipelines/{name}/params.yaml", "data": f"data/{name}"}
    text = template.read_text(encoding="utf-8")
    for key, value in (("pipeline", pipeline), ("ingest", section)):
        text = _spliced(text, key, _yaml({key: value}))
    expected = {**read_yaml(template), "pipeline": pipeline, "ingest": dict(section)}
    if YAML(typ="safe", pure=True).load(text) != expected:
        raise RuntimeError(f"{template} has a shape that cannot be edited section by section")
    return text


def _spliced(text: str, key: str, section: str) -> str:
    """Replace a top-level section; the comment above the next one is the next one's."""
    lines = text.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
    end = next((number for number in range(start + 1, len(lines)) if lines[number][0] not in " #-\r\n"), len(lines))
    while end > start + 1 and lines[end - 1][0] in "#\r\n":
        end -= 1
    return "".join([*lines[:start], section, *lines[end:]])


def _yaml(tree: Mapping[str, Any]) -> str:
    """Blocks outside, one line a mapping inside."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    def leaf(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        mapping = CommentedMap({name: leaf(each) for name, each in value.items()})
        if not any(isinstance(each, Mapping) for each in value.values()) and len(value) < 4:
            mapping.fa.set_flow_style()
        return mapping

    stream = io.StringIO()
    writer = YAML()
    writer.width = 10_000
    writer.dump(leaf(tree), stream)
    return stream.getvalue()


def _publish(root: Path, name: str, params: str) -> None:
    """Both files at once, by a rename of their folder."""
    source = root / "dvc.yaml"
    if not source.is_file():
        raise GristmillError("there is no dvc.yaml to copy", where=str(root), remedy="start from a complete checkout: git checkout -- dvc.yaml")
    part = root / "pipelines" / f".{name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        (part / "params.yaml").write_text(params, encoding="utf-8")
        shutil.copyfile(source, part / "dvc.yaml")
        part.rename(root / "pipelines" / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
