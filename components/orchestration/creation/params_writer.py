"""Write the params.yaml of a new pipeline: defaults, values that the data need, and reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.errors import ParamsError
from components.core.escaping import one_line
from components.core.params import read_yaml, validate
from components.orchestration.creation.yaml_scalars import scalar
from components.orchestration.pipeline_params import tree_model
from components.tasks import base
from components.tasks.base import Setting

_WIDTH = 100
_SEED = 7
# Order of the sections in the file. A section that is missing here comes last.
_ORDER = (
    "pipeline",
    "seed",
    "task",
    "cluster",
    "retrain",
    "release_webhook",
    "ingest",
    "clean",
    "augment",
    "tokenize",
    "train",
    "tune",
    "compress",
    "evaluate",
    "serve",
    "registry",
    "monitor",
)
# Comments for the keys that a person needs first, beside those of the task. The params.yaml of the
# root describes all keys.
_DESCRIPTIONS = {
    "cluster.storage": "a folder that all nodes mount, needed with more than one node",
    "retrain.min_rows": "a source that shrank below this share of its rows is refused",
    "release_webhook.url": "http(s)://… or ${NAME}, that receives each decision on a version",
    "ingest.source.path": "the file or folder itself; DVC watches it",
    "ingest.columns": "what the task wants: its column in the source",
    "ingest.max_bytes_per_value": "larger values are quarantined",
    "clean.frozen_split": "filled in by retrain",
    "train.workers": "processes that share the rows of each batch",
    "train.batch_size": "rows of one optimizer step, over all workers",
    "train.patience": "epochs without a better validation metric before the fit stops",
    "tune.trials": "networks that the search tries; 0: no search",
    "tune.epochs": "passes of the longest trial over the train rows",
    "tune.time_budget_s": "seconds; null: no limit",
    "tune.space": "paths below train and their ranges",
    "compress.quantize": "int8; null: skipped",
    "evaluate.resamples": "bootstrap samples, for the intervals",
    "serve.replicas": "a number, or {min: 1, max: 4, target_ongoing: 16}",
    "registry.mode": "auto: released if all gates pass | review: a person decides",
    "registry.gates.baseline_margin": "largest loss against the classical baseline",
    "registry.gates.latency_p95_ms": "of one answer",
    "monitor.keep_text": "keep what was asked: only then feedback becomes training data",
    "monitor.webhook": "http(s)://… that hears of each alarm",
}


@dataclass
class ParamsDraft:
    """Tree of params to which settings are applied, with the reason of each by dotted path."""

    task: str
    tree: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    # values that a setting replaced by null; `--set` of a key below restores them
    _skipped: dict[str, Any] = field(default_factory=dict)

    def apply(self, setting: Setting) -> None:
        """Write the value of a setting into the tree, and record its reason.

        Args:
            setting: a dotted path, its value and the reason.

        Raises:
            ParamsError: a part of the path is no mapping.
        """
        *parents, last = setting.path.split(".")
        node = self.tree
        for number in range(len(parents)):
            rest = ".".join([*parents[number:], last])
            # The search space has dotted keys.
            if rest in node:
                last = rest
                break
            node = self._below(node, parents[: number + 1])
        value = setting.value
        earlier = node.get(last)
        if value is None and isinstance(earlier, Mapping):
            self._skipped[setting.path] = earlier
        if value == {}:
            # --set compress.distill={} restores the value that was skipped.
            value = self._skipped.get(setting.path, {})
        node[last] = value
        below = [path for path in self.reasons if path.startswith(f"{setting.path}.")]
        for path in below:
            del self.reasons[path]
        self.reasons[setting.path] = setting.reason

    def _below(self, node: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
        """Return the mapping at a path, after replacing it by a copy.

        Args:
            node: the mapping around it.
            path: keys from the root of the tree.

        Raises:
            ParamsError: the value at the path is no mapping.
        """
        dotted = ".".join(path)
        below = node.get(path[-1], {})
        if below is None:
            below = self._skipped.get(dotted, {})
            self.reasons.pop(dotted, None)
        if not isinstance(below, Mapping):
            raise ParamsError(
                f"{dotted} is {below!r}, which has no keys below it",
                where="--set",
                remedy="look the key up in the root's params.yaml",
            )
        node[path[-1]] = dict(below)
        return node[path[-1]]  # type: ignore[no-any-return]

    def complete(self, source: str) -> dict[str, Any]:
        """Return the tree with all defaults.

        Args:
            source: name of the params in error messages.

        Raises:
            ParamsError: names all mistakes at once.
        """
        model = validate(tree_model(self.task), self.tree, source)
        tree = _with_defaults(model, self.tree)
        # Only a preset writes it.
        tree.pop("preset")
        names = [*_ORDER, *[name for name in tree if name not in _ORDER]]
        return {name: tree[name] for name in names if name in tree}


def initial_params(
    root: Path,
    task: str,
    name: str,
    ingest: Mapping[str, Any],
) -> ParamsDraft:
    """Return the params of a pipeline before its data are measured.

    Args:
        root: of the project.
        task: its id.
        name: of the pipeline.
        ingest: the section `ingest`.
    """
    tree: dict[str, Any] = {
        "pipeline": {
            "root": "../..",
            "params": f"pipelines/{name}/params.yaml",
            "data": f"data/{name}",
        },
        "seed": _SEED,
        "task": task,
        **{section: {} for section in _ORDER[3:]},
        "ingest": dict(ingest),
    }
    params = ParamsDraft(task, tree)
    # The models have no default for these two. The settings of the task come later, and replace
    # them.
    shipped = _shipped(root, task)
    for section, key in (("tune", "space"), ("compress", "distill")):
        if key in shipped.get(section, {}):
            tree[section][key] = shipped[section][key]
    return params


def _shipped(root: Path, task: str) -> dict[str, Any]:
    """Return the params of a shipped pipeline of the task, the root's first."""
    for path in [root / "params.yaml", *sorted(root.glob("pipelines/[!.]*/params.yaml"))]:
        if not path.is_file():
            continue
        tree = read_yaml(path)
        if tree.get("task") == task:
            return tree
    return {}


def _with_defaults(model: BaseModel, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model as a tree with all defaults.

    Args:
        model: the validated params.
        written: the tree that was validated. Its mappings without a model stay as they are.
    """
    tree: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        original = written.get(name)
        if isinstance(value, BaseModel):
            tree[name] = _with_defaults(value, original if isinstance(original, Mapping) else {})
        elif name in written and isinstance(value, Mapping):
            tree[name] = original
        elif isinstance(value, tuple):
            tree[name] = list(value)
        else:
            tree[name] = value
    return tree


def render(
    tree: Mapping[str, Any],
    reasons: Mapping[str, str],
    descriptions: Mapping[str, str],
    header: Iterable[str],
) -> str:
    """Return the text of a params.yaml: one block for each section, with reasons as comments.

    Args:
        tree: of plain values.
        reasons: dotted path -> reason. The most important other keys get a description.
        descriptions: dotted path -> description, of the task.
        header: lines of the comment at the top.
    """
    comments = {**_DESCRIPTIONS, **descriptions, **reasons}
    parents = _parents(comments)
    lines = [f"# {one_line(line, 400)}" for line in header]
    for section, value in tree.items():
        if not isinstance(value, Mapping) or not value:
            lines += _entry(section, value, "", comments.get(section, ""))
            continue
        # Values with a reason come first.
        ordered = {key: item for key, item in value.items() if _has_comment(reasons, section, key)}
        for key, item in value.items():
            ordered.setdefault(key, item)
        lines += ["", f"{section}:", *_block(ordered, section, comments, parents, "  ")]
    return "\n".join(lines) + "\n"


def _parents(paths: Iterable[str]) -> set[str]:
    """Return the dotted paths above some others."""
    parents: set[str] = set()
    for path in paths:
        keys = path.split(".")
        parents.update(".".join(keys[:number]) for number in range(1, len(keys)))
    return parents


def _has_comment(comments: Mapping[str, str], section: str, key: str) -> bool:
    """Return whether a key or one below it has a comment."""
    path = f"{section}.{key}"
    return any(comment == path or comment.startswith(f"{path}.") for comment in comments)


def _block(
    mapping: Mapping[str, Any],
    path: str,
    comments: Mapping[str, str],
    parents: Collection[str],
    indent: str,
) -> list[str]:
    """Return the lines of a mapping.

    A mapping inside is a block where a key in it has a comment, or where the line would be too
    long.

    Args:
        mapping: of plain values.
        path: its dotted path.
        comments: dotted path -> comment.
        parents: paths above those of the comments.
        indent: spaces before the keys.
    """
    lines: list[str] = []
    for key, value in mapping.items():
        inner = f"{path}.{key}"
        comment = comments.get(inner, "")
        entry = _entry(str(key), value, indent, comment)
        is_block = inner in parents or len(entry[-1]) > _WIDTH
        if isinstance(value, Mapping) and value and is_block:
            head = f"{indent}{scalar(str(key))}:"
            lines += _with_comment(head, indent, comment)
            lines += _block(value, inner, comments, parents, indent + "  ")
        else:
            lines += entry
    return lines


def _entry(
    key: str,
    value: Any,
    indent: str,
    comment: str,
) -> list[str]:
    return _with_comment(f"{indent}{scalar(key)}: {flow(value)}", indent, comment)


def _with_comment(line: str, indent: str, comment: str) -> list[str]:
    """Return a line with its comment after it, or above it where the line would be too long."""
    if not comment:
        return [line]
    comment = one_line(comment, 400)
    whole = f"{line}  # {comment}"
    if len(whole) <= _WIDTH:
        return [whole]
    wrapped = textwrap.wrap(comment, _WIDTH - len(indent) - 2, break_on_hyphens=False)
    above = [f"{indent}# {part}" for part in wrapped]
    return [*above, line]


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{scalar(str(key))}: {flow(item)}" for key, item in value.items())
        return f"{{{pairs}}}"
    if isinstance(value, list | tuple):
        items = ", ".join(map(flow, value))
        return f"[{items}]"
    return scalar(value)


def sections_of(task: str) -> Sequence[str]:
    """Return the keys with which `--set` may begin.

    Args:
        task: its id.
    """
    return [name for name in tree_model(task).model_fields if name not in ("pipeline", "task")]


def check_task(task: str) -> None:
    """Refuse a task that does not exist.

    Args:
        task: its id.

    Raises:
        ParamsError: names the tasks that exist.
    """
    if task not in base.tasks():
        from components.core.params import nearest

        names = ", ".join(base.tasks())
        raise ParamsError(
            f"{task!r} is not one of {names}{nearest(task, base.tasks())}",
            where="--task",
            remedy="take one of these; gristmill tasks says what they do",
        )
