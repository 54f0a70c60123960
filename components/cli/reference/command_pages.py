"""The pages of all commands, from the help texts of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer.main

from components.cli.help_text import PANELS, is_option, param_name, synopsis
from components.cli.main import app
from components.core.params import read_yaml

_LIST = "One of: "
_PAGES = {"en": "commands.en.yaml", "zh": "commands.zh.yaml"}


@dataclass(frozen=True)
class PageWords:
    """What a page has beside the help texts.

    Attributes:
        title: of the page.
        introduction: text below the title.
        columns: headers of a table of arguments and options.
        words: terms of defaults and bounds.
        panels: headings by the name of the panel.
        notes: text at the end.
        translations: by help text. English has none.
    """

    title: str
    introduction: str
    columns: Sequence[str]
    words: Mapping[str, str]
    panels: Mapping[str, str]
    notes: str
    translations: Mapping[str, str] = field(default_factory=dict)

    def translate(self, text: str) -> str:
        """Return a help text in the language of the page.

        A list of names has no translation but that of its first words.
        """
        if text.startswith(_LIST):
            return self.words["one of"].format(text.removeprefix(_LIST).removesuffix("."))
        return self.translations.get(text, text)


def command_pages() -> dict[str, str]:
    """Return the text of each page by its path below the root of the project."""
    return {
        f"docs/{language}/reference/commands.md": render_commands(read_words(language))
        for language in _PAGES
    }


def read_words(language: str) -> PageWords:
    """Return the words of the page in a language, `en` or `zh`."""
    return PageWords(**read_yaml(Path(__file__).with_name(_PAGES[language])))


def help_texts() -> set[str]:
    """Return each sentence and each default in words that the help texts have, without lists."""
    group: Any = typer.main.get_command(app)
    texts = {param.help for param in group.params}
    for _, command in _commands(group, ("gristmill",)):
        texts.update(_sentences(command))
        for param in getattr(command, "params", ()):
            texts.add(param.help)
            if isinstance(param.show_default, str):
                texts.add(param.show_default)
    return {text for text in texts if not text.startswith(_LIST)}


def render_commands(words: PageWords) -> str:
    """Return the page of all commands."""
    group: Any = typer.main.get_command(app)
    lines = [f"# {words.title}", "", words.introduction.strip(), ""]
    lines += _table(group.params, words)
    for panel, names in PANELS.items():
        lines += [f"## {words.panels[panel]}", ""]
        for name in names:
            for path, command in _commands(group.commands[name], ("gristmill", name)):
                lines += _section(path, command, words)
    return "\n".join([*lines, words.notes.strip()]) + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a command or a group and what is below it, each with its words."""
    if len(path) > 1:
        yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


def _section(path: tuple[str, ...], command: Any, words: PageWords) -> list[str]:
    """Return the lines of a command: synopsis, what it does, its params, its examples."""
    is_group = hasattr(command, "commands")
    usage = [*path, "COMMAND"]
    if not is_group:
        usage = [*path, *synopsis(command.params)]
    level = "#" * (len(path) + 1)
    lines = [f"{level} `{' '.join(path)}`", ""]
    lines += ["```text", " ".join(usage), "```", ""]
    lines += [*(words.translate(sentence) for sentence in _sentences(command)), ""]
    # What a group can do is in the sections of its commands.
    if is_group:
        return lines
    lines += _table(command.params, words)
    examples = [line for line in command.epilog.splitlines() if line.startswith("gristmill ")]
    return [*lines, "```console", *(f"$ {line}" for line in examples), "```", ""]


def _sentences(command: Any) -> list[str]:
    return [line for line in command.help.splitlines() if line]


def _table(params: Sequence[Any], words: PageWords) -> list[str]:
    """Return the table of arguments and options, arguments first."""
    if not params:
        return []
    rows = [_row(words.columns), _row("---" for _ in words.columns)]
    for param in sorted(params, key=is_option):
        name = f"`{param_name(param)}`"
        rows.append(_row((name, _default(param, words), _meaning(param, words))))
    return [*rows, ""]


def _row(cells: Any) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _default(param: Any, words: PageWords) -> str:
    if param.required:
        return words.words["required"]
    if isinstance(param.show_default, str):
        return words.translate(param.show_default)
    if param.default is None:
        return "–"
    if param.default is False:
        return words.words["off"]
    return f"`{param.default}`"


def _meaning(param: Any, words: PageWords) -> str:
    """Return the help of a param, with its bounds and its environment variable."""
    parts = [words.translate(param.help)]
    bounds = []
    if getattr(param, "min", None) is not None:
        bounds.append(f"≥ {param.min:,}")
    if getattr(param, "max", None) is not None:
        bounds.append(f"≤ {param.max:,}")
    if bounds:
        parts.append(words.words["bounds"].format(", ".join(bounds)))
    if getattr(param, "envvar", None):
        parts.append(words.words["variable"].format(param.envvar))
    return words.words["space"].join(parts)
