"""Copy the definitions that a module needs, so that the copy runs without gristmill.

So an exported folder prepares its input by the code of the pipeline itself, not by a second one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "components."


@dataclass
class _Source:
    """A module: its lines, its statements by the names that they define, its imports by name."""

    lines: list[str]
    docstring: str
    statements: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)


def copy_modules(module: str, package: str) -> dict[str, str]:
    """Return a module and what it needs of other modules of this project.

    Args:
        module: dotted name. It is copied whole.
        package: name of the package that the copies form.

    Returns:
        File name -> Python code.
    """
    needed: dict[str, set[str]] = {module: set(_parse(module).statements)}
    pending = [module]
    while pending:
        name = pending.pop()
        source = _parse(name)
        for used in _reachable(source, needed[name]):
            origin, original = source.imports.get(used, ("", ""))
            if origin.startswith(_PACKAGE) and original not in needed.get(origin, set()):
                needed.setdefault(origin, set()).add(original)
                pending.append(origin)
    files = {"__init__.py": '"""Prepare input and answers as the pipeline does."""\n'}
    for name, names in needed.items():
        file = f"{_short(name)}.py"
        if file in files:
            raise ValueError(f"two modules would become {file}")
        files[file] = _code(_parse(name), names, package)
    return files


def _short(module: str) -> str:
    return module.rpartition(".")[2]


def _parse(module: str) -> _Source:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    tree = ast.parse(text)
    source = _Source(text.splitlines(), ast.get_docstring(tree, clean=False) or "")
    for statement in tree.body:
        is_checking = isinstance(statement, ast.If) and _names(statement.test) == {"TYPE_CHECKING"}
        for part in statement.body if is_checking else [statement]:  # type: ignore[attr-defined]
            _add(source, part)
    return source


def _add(source: _Source, statement: ast.stmt) -> None:
    """Add a statement of a module under each name that it defines."""
    if isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            source.imports[alias.asname or alias.name] = (statement.module or "", alias.name)
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            source.imports[alias.asname or alias.name] = ("", alias.name)
    elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
        source.statements[statement.name] = statement
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            for name in _names(target):
                source.statements[name] = statement
    elif isinstance(statement, ast.AnnAssign):
        for name in _names(statement.target):
            source.statements[name] = statement


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _reachable(source: _Source, names: Set[str]) -> set[str]:
    """Return the names that definitions use, directly or through others of their module."""
    result: set[str] = set()
    pending = sorted(names)
    while pending:
        name = pending.pop()
        if name in result:
            continue
        result.add(name)
        if name in source.statements:
            pending += sorted(_names(source.statements[name]) - result)
        if name == "__all__":
            pending += ast.literal_eval(source.statements[name].value)  # type: ignore[attr-defined]
    return result


def _code(source: _Source, names: Set[str], package: str) -> str:
    """Return the code of some definitions with the imports and definitions that they use."""
    used = _reachable(source, names)
    chosen = {id(node): node for name, node in source.statements.items() if name in used}
    statements = sorted(chosen.values(), key=lambda statement: statement.lineno)
    imports = {name: origin for name, origin in source.imports.items() if name in used}
    blocks = [f'"""{source.docstring}"""', "from __future__ import annotations"]
    blocks.append("\n".join(sorted(set(_import_lines(imports, package)))))
    blocks += [_text_of(source, statement) for statement in statements]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _import_lines(imports: Mapping[str, tuple[str, str]], package: str) -> Iterator[str]:
    """Yield the import of each name.

    Args:
        imports: name -> its module ("": the name is a module) and its name there.
        package: of the copies.
    """
    for name, (module, original) in imports.items():
        alias = "" if name == original else f" as {name}"
        if not module:
            yield f"import {original}{alias}"
        elif module.startswith(_PACKAGE):
            yield f"from {package}.{_short(module)} import {original}{alias}"
        else:
            yield f"from {module} import {original}{alias}"


def _text_of(source: _Source, statement: ast.stmt) -> str:
    """Return the lines of a statement, with its decorators and the comment above it."""
    decorators = getattr(statement, "decorator_list", [])
    start = min([statement.lineno, *(node.lineno for node in decorators)]) - 1
    while start and source.lines[start - 1].startswith("#"):
        start -= 1
    return "\n".join(source.lines[start : statement.end_lineno])
