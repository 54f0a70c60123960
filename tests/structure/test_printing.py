"""Values reach people only through the escapes: no markup of values, no raw printing, no raw HTML."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT

# Where the rules are kept by the code itself.
PRINTERS = {
    "components/core/terminal.py",
    "components/core/console.py",
    "components/core/escaping.py",
}
# What else may print, and why.
ALLOWED = {
    # Its questions are escaped, and Typer reads the answer.
    "components/orchestration/creation/wizard.py": {"typer.prompt", "typer.confirm"},
    # A worker's output goes to Ray's log, as an escaped line.
    "components/stages/tune/multi_worker_trial.py": {"print"},
    # One escaped line, written without the lock of a stream that the main thread may hold.
    "components/orchestration/interrupt.py": {"os.write"},
    # Each value of these templates is escaped for Markdown.
    "components/core/markdown_templates.py": {"jinja without autoescape=True"},
    # Its templates are Python and Markdown, and texts of the card are escaped for Markdown.
    "components/orchestration/export/export_folder.py": {
        "jinja without autoescape and finalize",
        "jinja without autoescape=True",
    },
}
RAW_PRINTING = {
    "print",
    "rich.print",
    "typer.echo",
    "typer.secho",
    "typer.prompt",
    "typer.confirm",
    "click.echo",
    "click.secho",
    "sys.stdout.write",
    "sys.stderr.write",
    "os.write",
}
# HTML that the code itself made of escaped parts.
SAFE = {"plot.svg", "plots.importance.svg", "case.query", "case.changed"}
SWITCHES = ("markup", "emoji", "highlight", "pretty_exceptions_enable")
SOURCES = sorted((ROOT / "components").rglob("*.py"))
PAGES = sorted((ROOT / "components").rglob("*.html"))
TEMPLATES = sorted((ROOT / "components").rglob("*.j2"))


def faults(code: str) -> Iterator[str]:
    """Yield what a module does that could show a value raw."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module in ("html", "rich.markup"):
            yield f"from {node.module} import"
        elif isinstance(node, ast.Call):
            yield from _faults_of_call(node)
            # A task may call a field Text.
            yield from _faults_of_text(node) if "rich.text" in code else ()


def _faults_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in RAW_PRINTING or name == "html.escape":
        yield name
    if name in ("Console", "Prompt.ask", "Confirm.ask", "Panel", "rich.get_console"):
        yield f"{name}: take components.core.console"
    if name == "TextColumn" and keywords.get("markup") != "False":
        yield "TextColumn without markup=False"
    yield from (f"{name}({key}=True)" for key in SWITCHES if keywords.get(key) == "True")
    if name == "Environment" and not {"autoescape", "finalize"} <= keywords.keys():
        yield "jinja without autoescape and finalize"
    if name == "Environment" and keywords.get("autoescape") != "True":
        yield "jinja without autoescape=True"
    if name in ("Template", "Markup", "jinja2.Template", "markupsafe.Markup"):
        yield name


def _faults_of_text(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    first = node.args[0] if node.args else None
    if name == "Text" and first is not None and not isinstance(first, ast.Constant):
        yield "Text of a value: take styled"
    if name.startswith("Text.") and name != "Text.join":
        yield f"{name}: take styled"


def test_no_module_shows_values_raw() -> None:
    assert len(SOURCES) > 200
    found = [
        (path, fault)
        for path in (each.relative_to(ROOT).as_posix() for each in SOURCES)
        if path not in PRINTERS
        for fault in faults((ROOT / path).read_text(encoding="utf-8"))
        if fault not in ALLOWED.get(path, set())
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "print(label)",
        "typer.echo(text)",
        "typer.secho(text, err=True)",
        "sys.stderr.write(text)",
        "from rich.markup import escape",
        "from html import escape",
        "html.escape(text)",
        "Console(file=stream)",
        "from rich.text import Text; Text(label, 'bold')",
        "from rich.text import Text; Text.from_markup(label)",
        "from rich.text import Text; Text.assemble(label)",
        "TextColumn(stage)",
        "console.print(label, markup=True)",
        "console.print(label, emoji=True)",
        "Environment(loader=loader)",
        "Environment(autoescape=False, finalize=visible)",
        "Environment(autoescape=True)",
        "Template(text)",
        "Markup(text)",
        "typer.Typer(pretty_exceptions_enable=True)",
    ],
)
def test_the_test_above_sees_what_it_is_for(code: str) -> None:
    assert list(faults(code))


def test_it_lets_pass_what_is_safe() -> None:
    code = (
        "from rich.text import Text; console.print(styled(label)); print_line(text); Text('  ').join(parts); "
        "Environment(autoescape=True, finalize=visible); TextColumn(stage, markup=False)"
    )
    assert not list(faults(code))


def test_no_console_message_is_written_as_markup() -> None:
    markup = re.compile(
        r"\[/(?:bold|dim|red|green|yellow|link)?\]|\[(?:bold|red|green|yellow)|(?<!\w)\[dim"
    )
    assert not [
        path.name
        for path in SOURCES
        if path.name != "console.py" and markup.search(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_trusts_only_html_of_our_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"([\w.]+) *\| *safe", text)) <= SAFE
    assert not re.search(r"autoescape\s+false|Markup|\{%\s*raw", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_writes_text_and_no_html(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    assert "/* visible.js */" in text and "visible(" in text
