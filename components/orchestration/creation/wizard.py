"""Ask a person at the terminal, where a guess would be uncertain."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from components.core import escaping
from components.core.terminal import print_line


def is_interactive() -> bool:
    """Return whether a person can read a question and answer it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Wizard:
    """Asks on the terminal. Ctrl-C and the end of input leave no files behind."""

    def choose(self, question: str, choices: Sequence[str]) -> str:
        """Ask for one of the choices, by its number or its name, and return it.

        Args:
            question: one line.
            choices: names.
        """
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
        """Ask a question and return whether the answer is yes.

        Args:
            question: one line.
            default: the answer to an empty line.
        """
        return typer.confirm(escaping.log_line(question), default=default)

    def show(self, lines: Sequence[str]) -> None:
        """Print lines before a question about them.

        Args:
            lines: of plain text.
        """
        for line in lines:
            print_line(line)
