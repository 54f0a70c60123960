"""`dvc` for one pipeline, whatever is wrong with the files of another one.

DVC reads every dvc.yaml of a repository before it runs any: one that is broken, or that names the
outputs of another because it was copied, would stop all pipelines.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.files import write_atomic

_FILE = "dvc.yaml"
_LOCK = "dvc.lock"
# The colors that DVC gives its own words.
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def is_foreign(root: Path, target: Path, path: Path) -> bool:
    """Say whether a file is the dvc.yaml of another pipeline than the one that is run.

    Args:
        root: of the project.
        target: the dvc.yaml of the pipeline that is run.
        path: of the file.
    """
    if path.name != _FILE or path == target:
        return False
    return path.parent == root or path.parent.parent == root / "pipelines"


def restrict(root: Path, target: Path) -> None:
    """Have DVC in this process pass over the dvc.yaml of other pipelines."""
    from dvc.repo import index

    collect: Callable[..., Iterator[tuple[str, Any]]] = index.collect_files

    def restricted(
        repo: Any, onerror: Callable[[str, Exception], None] | None = None
    ) -> Iterator[tuple[str, Any]]:
        def report(path: str, error: Exception) -> None:
            if is_foreign(root, target, Path(path).absolute()):
                return
            if onerror is None:
                raise error
            onerror(path, error)

        for path, found in collect(repo, onerror=report):
            if not is_foreign(root, target, Path(path).absolute()):
                yield path, found

    index.collect_files = restricted


def dump_locks_whole() -> None:
    """Have DVC in this process write a lock file whole or not at all.

    DVC empties the file before it has made the text, so a kill would leave half a lock.
    """
    from dvc.utils.serialize import _common

    dump: Callable[..., None] = _common._dump_data

    def dump_whole(path: Any, data: Any, dumper: Callable[..., None], **options: Any) -> None:
        if Path(path).name != _LOCK:
            dump(path, data, dumper, **options)
            return
        text = io.StringIO()
        dumper(data, text)
        write_atomic(Path(path), text.getvalue())

    _common._dump_data = dump_whole


class EscapedRecord(logging.LogRecord):
    """A message of DVC: it quotes names of files, stages and outputs as they are."""

    def getMessage(self) -> str:
        """Return the message as a terminal may show it."""
        return escaped(super().getMessage())


def escaped(text: str) -> str:
    """Return a text of DVC without its colors, and with nothing else that a terminal obeys."""
    return escaping.terminal_lines(_COLOR.sub("", text))


def escape_output() -> None:
    """Have DVC in this process escape what it prints: messages, causes of errors and hints."""
    from dvc import logger
    from dvc.ui import Console

    causes: Callable[[BaseException], Iterator[str]] = logger._iter_causes
    write: Callable[..., None] = Console.write

    def write_escaped(console: Console, *objects: object, **options: Any) -> None:
        write(console, *[escaped(str(each)) for each in objects], **options)

    logging.setLogRecordFactory(EscapedRecord)
    logger._iter_causes = lambda error: (escaped(cause) for cause in causes(error))
    Console.write = write_escaped


def main() -> None:
    """Run `dvc` with the arguments of this process; the last is the pipeline's dvc.yaml."""
    from dvc.cli import main as dvc

    root = Path.cwd()
    restrict(root, root / sys.argv[-1])
    dump_locks_whole()
    escape_output()
    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    main()
