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
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


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
    found: list[ast.AST] = []
    queue = [(node, False)]
    while queue:
        here, in_function = queue.pop()
        found.append(here)
        in_function = in_function or isinstance(here, FUNCTIONS)
        hidden = _annotation(here, in_function)
        queue += [
            (child, in_function) for child in ast.iter_child_nodes(here) if child is not hidden
        ]
    return tuple(found)


def _annotation(node: ast.AST, in_function: bool) -> ast.AST | None:
    """The annotation of a node that is never evaluated."""
    if isinstance(node, FUNCTIONS):
        return node.returns
    if isinstance(node, ast.arg) or (isinstance(node, ast.AnnAssign) and in_function):
        return node.annotation
    return None


@cache
def references(module: str, root: ast.AST) -> tuple[tuple[str, str], ...]:
    """What the nodes below a node of a module that run refer to: (module, name in it)."""
    parsed = parse(module)
    bound = dict(parsed.bound)
    found: dict[tuple[str, str], None] = {}
    for node in executed(root):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= bindings(node)
            found |= {(target, ""): None for target, _ in bindings(node).values()}
    for node in executed(root):
        if isinstance(node, ast.Name):
            if node.id in bound:
                found[bound[node.id]] = None
            elif node.id in parsed.definitions:
                found[module, node.id] = None
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and bound.get(node.value.id, ("", "-"))[1] == ""
        ):
            found[bound[node.value.id][0], node.attr] = None
    return tuple(found)


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
            self.nodes += executed(root)
            for target in references(module, root):
                self._reach(*target)


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
