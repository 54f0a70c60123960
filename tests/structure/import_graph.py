"""What code a stage can reach: definitions followed by name from its `run`, and the modules that are imported on the way.

Following definitions, not files, tells train (which takes only constants from inference/predictor.py) from evaluate (which predicts, and so needs the task's judge).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FACETS = {
    "schema": "schema",
    "encoding": "encode",
    "models": "models",
    "learning": "loss",
    "baselines": "baselines",
    "evaluator": "evaluator",
    "defaults": "defaults",
}  # function of tasks/base.py -> module
BASE = "components.tasks.base"


def file_of(module: str) -> Path | None:
    """The file of a module of this repository."""
    path = ROOT.joinpath(*module.split("."))
    return next(
        (each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None
    )


@cache
def syntax_tree(path: Path) -> ast.Module:
    """The syntax tree of a file, parsed once for all tests of a process. It must not be changed."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of the syntax tree of a file, in the order of `ast.walk`."""
    return tuple(ast.walk(syntax_tree(path)))


@dataclass
class Module:
    """One file: its definitions, what its names are bound to, and the rest, which runs at import."""

    definitions: dict[str, ast.AST] = field(default_factory=dict)
    bound: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # local name -> (module, name in it; "" for the module itself)
    rest: list[ast.AST] = field(default_factory=list)


def bindings(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """What an import statement binds, as far as it is ours."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.split(".")[0]: (alias.name, "")
            for alias in node.names
            if file_of(alias.name)
        }
    assert node.level == 0, "imports are absolute here"
    module = node.module or ""
    found = {
        alias.asname or alias.name: (f"{module}.{alias.name}", "")
        if file_of(f"{module}.{alias.name}")
        else (module, alias.name)
        for alias in node.names
    }
    return found if file_of(module) else {}


@cache
def parse(module: str) -> Module:
    """A module of this repository."""
    path = file_of(module)
    assert path is not None
    parsed = Module()
    for node in syntax_tree(path).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            parsed.bound |= bindings(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            parsed.definitions[node.name] = node
        else:
            parsed.rest.append(node)
    return parsed


@cache
def executed(node: ast.AST) -> tuple[ast.AST, ...]:
    """The nodes below that run: not the annotations of functions, which are never evaluated."""
    hidden = {id(each) for inner in ast.walk(node) for each in _annotations(inner)}
    found, queue = [], [node]
    while queue:
        here = queue.pop()
        found.append(here)
        queue += [child for child in ast.iter_child_nodes(here) if id(child) not in hidden]
    return tuple(found)


def _annotations(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        inner = [each.annotation for each in ast.walk(node) if isinstance(each, ast.AnnAssign)]
        return [each for each in [*inner, node.returns] if each]
    return [node.annotation] if isinstance(node, ast.arg) and node.annotation else []


class Walk:
    """Everything reached from some definitions.

    Args:
        task: whose facets `base.schema(...)` and its kind mean.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.modules: set[str] = set()
        self.nodes: list[ast.AST] = []  # that can run
        self._seen: set[tuple[str, str]] = set()
        self._todo: list[tuple[str, str]] = []

    def start(self, module: str, name: str) -> Walk:
        """Follow a definition to the end."""
        self._reach(module, name)
        while self._todo:
            self._follow(*self._todo.pop())
        return self

    def _reach(self, module: str, name: str) -> None:
        if (module, name) in self._seen:
            return
        self._seen.add((module, name))
        self._todo.append((module, name))
        if name:
            self._reach(module, "")
            if module == BASE and name in FACETS:
                self._reach(f"components.tasks.{self.task}.{FACETS[name]}", "")

    def _follow(self, module: str, name: str) -> None:
        """`name` is a definition or a name that the module imports; "" is what runs when it is imported."""
        parsed = parse(module)
        if not name:
            self.modules.add(module)
            for target, _ in parsed.bound.values():
                self._reach(target, "")
            if "." in module:
                self._reach(module.rpartition(".")[0], "")
            roots = parsed.rest + [
                decorator
                for node in parsed.definitions.values()
                for decorator in getattr(node, "decorator_list", [])
            ]
        elif name in parsed.definitions:
            roots = [parsed.definitions[name]]
        else:
            if name in parsed.bound:
                self._reach(*parsed.bound[name])
            return
        for root in roots:
            self._names(module, root, parsed)

    def _names(self, module: str, root: ast.AST, parsed: Module) -> None:
        nodes = executed(root)
        self.nodes += nodes
        bound = dict(parsed.bound)
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                bound |= bindings(node)
                for target, _ in bindings(node).values():
                    self._reach(target, "")
        for node in nodes:
            if isinstance(node, ast.Name):
                if node.id in bound:
                    self._reach(*bound[node.id])
                elif node.id in parsed.definitions:
                    self._reach(module, node.id)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and bound.get(node.value.id, ("", "-"))[1] == ""
            ):
                self._reach(bound[node.value.id][0], node.attr)


@cache
def reached(stage: str, task: str) -> Walk:
    """What a stage's code reaches for a task."""
    return Walk(task).start(f"components.stages.{stage}.stage", "run")


@cache
def has_code(path: Path) -> bool:
    """Whether a file holds more than its docstring."""
    return len(syntax_tree(path).body) > 1


@cache
def files(stage: str, task: str) -> set[str]:
    """Files below components/ that a stage needs, relative to the root; those that only hold a docstring say nothing."""
    paths = (file_of(module) for module in reached(stage, task).modules)
    return {path.relative_to(ROOT).as_posix() for path in paths if path and has_code(path)}
