"""Run the commands of pages as a reader would, and compare or rewrite the output that pages show.

    python docs/pages.py docs/en/tutorials/first-pipeline.md          run and compare
    python docs/pages.py --write docs/en/tutorials/first-pipeline.md  run and rewrite the output

Each page runs in a copy of the project without data, each `sh` block in a shell of its own. A
comment on the line above a block says what else is to be done with it:

    <!-- not run: needs a Kubernetes cluster -->   left out, with the reason
    <!-- background -->                            runs until the end of the page, as `serve` does
    <!-- file: my/params.yaml -->                  the block is written to this file
    <!-- merge: pipelines/my/params.yaml -->       the YAML block is merged into this file
    <!-- output -->                                what the `sh` block before it printed
    <!-- output: last 3 lines -->                  the end of that
    <!-- output: first 3 lines -->                 the beginning of that

Numbers in an output may differ from machine to machine, words may not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
# Pages write this port. A run takes a free one instead.
PAGE_PORT = 8000
PATIENCE_S = 600.0
# What is interrupted may end its own processes before it is killed.
GRACE_S = 60.0
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SOME_LINES = re.compile(r"output: (first|last) (\d+) lines?")
# A hash comes first: it may begin with a digit.
_NUMBER = re.compile(r"\b(?=\d*[a-f])[0-9a-f]{8,}\b|\d[\d,.]*(e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, code, the comment above it, where its code lies."""

    language: str
    code: str
    note: str
    start: int
    end: int


def read_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of the text of a page, in order."""
    return [
        Block(match["language"], match["code"], match["note"] or "", *match.span("code"))
        for match in _BLOCK.finditer(text)
    ]


def is_run(block: Block) -> bool:
    """Return whether the runner executes or writes the block."""
    return block.language == "sh" and not block.note.startswith("not run: ")


def run_page(page: Path) -> dict[int, str]:
    """Run a page in a copy of the project, and return the outputs by the number of their block.

    Raises:
        RuntimeError: a command failed, or a comment is none of those above.

    """
    outputs: dict[int, str] = {}
    printed = ""
    with tempfile.TemporaryDirectory(prefix="page-") as folder, _project(Path(folder)) as reader:
        for number, block in enumerate(read_blocks(page.read_text(encoding="utf-8"))):
            action, _, path = block.note.partition(": ")
            if action == "output":
                outputs[number] = _some_lines(printed, block.note)
            elif action == "file":
                (reader.root / path).parent.mkdir(parents=True, exist_ok=True)
                (reader.root / path).write_text(block.code, encoding="utf-8")
            elif action == "merge":
                _merge_into(reader.root / path, block.code)
            elif action == "background":
                reader.start(block.code)
            elif action not in {"", "not run"}:
                raise RuntimeError(f"{page.name}: the comment {block.note!r} has no meaning")
            elif is_run(block):
                printed = reader.run(block.code)
    return outputs


def masked(text: str) -> list[str]:
    """Return the lines of an output with numbers, marks of a winner and spaces made equal."""
    lines = (_NUMBER.sub("#", line.removeprefix("* ")) for line in text.strip().splitlines())
    return sorted(" ".join(line.split()) for line in lines)


def differences(page: Path, outputs: Mapping[int, str]) -> list[str]:
    """Return a sentence for each output of a page that another run prints otherwise."""
    blocks = read_blocks(page.read_text(encoding="utf-8"))
    return [
        f"{page.name}: block {number} shows\n{blocks[number].code}\nbut the command prints\n{text}"
        for number, text in outputs.items()
        if masked(blocks[number].code) != masked(text)
    ]


def write_outputs(page: Path, outputs: Mapping[int, str]) -> None:
    """Rewrite the outputs that a page shows."""
    text = page.read_text(encoding="utf-8")
    for number, block in reversed(list(enumerate(read_blocks(text)))):
        if number in outputs:
            text = f"{text[: block.start]}{outputs[number]}\n{text[block.end :]}"
    page.write_text(text, encoding="utf-8")


class Reader:
    """Somebody who types the commands of a page in a copy of the project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = _free_port()
        foreign = ("RAY_", "GRISTMILL_", "DVC_", "MLFLOW_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        folders = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self.environment = kept | {"PYTHONPATH": str(root), "PATH": folders, "COLUMNS": "100"}
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, code: str) -> str:
        """Run a block, and return what it prints."""
        process = subprocess.Popen(
            self._shell(code),
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, errors = process.communicate(timeout=PATIENCE_S)
        except BaseException:
            _end(process)
            raise
        if process.returncode:
            raise RuntimeError(f"{code}ended with {process.returncode}:\n{printed}{errors}")
        return printed.replace(str(self.port), str(PAGE_PORT)).replace(f"{self.root}/", "")

    def start(self, code: str) -> None:
        """Start a block that goes on, and wait until its port answers if it has one.

        A service that has the port is ended first, as a reader would.
        """
        if str(PAGE_PORT) in code:
            for earlier in self.background:
                _end(earlier)
            self.background.clear()
        with (self.root.parent / "background.log").open("ab") as log:
            process = subprocess.Popen(
                self._shell(f"exec {code}"),
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.background.append(process)
        end = time.monotonic() + PATIENCE_S
        while str(PAGE_PORT) in code and not self._answers():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{code}did not start:\n{Path(log.name).read_text()}")
            time.sleep(0.5)

    def leave(self) -> None:
        """End what was started: services first, then Ray."""
        for process in self.background:
            _end(process)
        self.run("gristmill down")

    def _shell(self, code: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", code.replace(str(PAGE_PORT), str(self.port))]

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def _project(folder: Path) -> Iterator[Reader]:
    """Copy the project without data and results, with a history of one commit."""
    root = folder / "gristmill"
    listed = subprocess.run(
        ["git", "-c", "core.quotePath=false", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        is_result = name.startswith("data/") or Path(name).name == "dvc.lock"
        if (ROOT / name).is_file() and not is_result:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    reader = Reader(root)
    reader.run("git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm first")
    try:
        yield reader
    finally:
        reader.leave()


def _some_lines(text: str, note: str) -> str:
    """Return the lines of an output that its comment asks for."""
    wanted = _SOME_LINES.fullmatch(note)
    lines = [line.rstrip() for line in text.strip("\n").rstrip().splitlines()]
    if wanted is None:
        return "\n".join(lines)
    count = int(wanted[2])
    return "\n".join(lines[:count] if wanted[1] == "first" else lines[-count:])


def _merge_into(path: Path, code: str) -> None:
    """Merge YAML into a YAML file, mapping by mapping, and keep its comments."""
    yaml = YAML()
    tree = yaml.load(path.read_text(encoding="utf-8"))
    _merge(tree, yaml.load(code))
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)


def _merge(tree: Any, change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), Mapping):
            _merge(tree[key], value)
        else:
            tree[key] = value


def _end(process: subprocess.Popen[Any]) -> None:
    """Interrupt a process that leads a session, and kill what is left of the session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    """Run the pages of the command line, and compare or rewrite what they show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--write", action="store_true", help="rewrite the outputs in both languages"
    )
    parser.add_argument("pages", nargs="+", type=Path, help="pages below docs/en")
    options = parser.parse_args()
    # A page that is terminated ends what it started, as one that is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    problems: list[str] = []
    for page in options.pages:
        outputs = run_page(page)
        if options.write:
            for language in ("en", "zh"):
                write_outputs(Path(str(page).replace("docs/en", f"docs/{language}")), outputs)
        problems += differences(page, outputs)
        print(f"{page}: {len(outputs)} outputs")
    print("\n\n".join(problems), end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    raise SystemExit(main())
