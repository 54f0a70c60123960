"""Questions to a person at a terminal, where a guess would be a gamble."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from components.core import escaping
from components.core.terminal import print_line


def is_interactive() -> bool:
    """Return whether somebody can read a question and answer it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Wizard:
    """Asks on the terminal. Ctrl-C and the end of input leave nothing behind."""

    def choose(self, question: str, choices: Sequence[str]) -> str:
        """Return one of the choices, by its number or its name."""
        print_line(question)
        for number, choice in enumerate(choices, 1):
            print_line(f"  {number}  {escaping.one_line(choice)}")
        while True:
            answer = str(typer.prompt("number or name", default="1")).strip()
            if answer in choices:
                return answer
            if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(choices):
                return choices[int(answer) - 1]
            print_line(f"answer a number from 1 to {len(choices)}, or one of the names")

    def agrees(self, question: str, default: bool) -> bool:
        """Return whether the person says yes."""
        return typer.confirm(escaping.log_line(question), default=default)

    def show(self, lines: Sequence[str]) -> None:
        """Show lines before a question about them."""
        for line in lines:
            print_line(line)
