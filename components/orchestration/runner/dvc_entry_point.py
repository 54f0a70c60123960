"""Run `dvc` for one pipeline, whatever is wrong with the files of other pipelines.

DVC reads every dvc.yaml of a repository before it runs any. A broken one would stop all pipelines.
So would a copied one, which names the outputs of another pipeline.
"""

from __future__ import annotations

import copy
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.files import write_atomic
from components.core.garbage import collect_rarely

_FILE = "dvc.yaml"
_LOCK = "dvc.lock"
# Color sequences, which DVC puts into its messages.
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def is_foreign(root: Path, target: Path, path: Path) -> bool:
    """Return whether a file is the dvc.yaml of another pipeline than the one that runs.

    Args:
        root: of the project.
        target: the dvc.yaml of the pipeline that runs.
        path: of the file.
    """
    if path.name != _FILE or path == target:
        return False
    return path.parent == root or path.parent.parent == root / "pipelines"


def restrict(root: Path, target: Path) -> None:
    """Make DVC in this process skip the dvc.yaml of other pipelines.

    Args:
        root: of the project.
        target: the dvc.yaml of the pipeline that runs.
    """
    from dvc.repo.index import Index

    load: Callable[[Any, str], Any] = Index.from_file

    def load_own(repo: Any, path: str) -> Any:
        if is_foreign(root, target, Path(path).absolute()):
            return Index(repo)
        return load(repo, path)

    Index.from_file = load_own


def dump_locks_whole() -> None:
    """Make DVC in this process write a lock file whole or not at all.

    DVC empties the file before it serializes the text, so a kill would leave half a lock. For the
    next stage it parses the text again. What this process wrote is not parsed.
    """
    from dvc.utils.serialize import _common, _yaml

    dump: Callable[..., None] = _common._dump_data
    parse: Callable[[str, str], Any] = _yaml.parse_yaml_for_update
    # The last text that was written -> its content.
    written: dict[str, Any] = {}

    def parse_foreign(text: str, path: str) -> Any:
        return written.pop(text) if text in written else parse(text, path)

    def dump_whole(path: Any, data: Any, dumper: Callable[..., None], **options: Any) -> None:
        if Path(path).name != _LOCK:
            dump(path, data, dumper, **options)
            return
        text = io.StringIO()
        dumper(data, text)
        write_atomic(Path(path), text.getvalue())
        written.clear()
        written[text.getvalue()] = data

    _common._dump_data = dump_whole
    _yaml.parse_yaml_for_update = parse_foreign


def parse_once() -> None:
    """Make DVC in this process parse equal YAML files once.

    It reads the params of each stage several times, and dvc.yaml and dvc.lock twice. A parse takes
    50 to 200 ms.
    """
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    parse: Callable[..., Any] = _yaml.parse_yaml

    @lru_cache(maxsize=16)
    def parsed(text: str, path: str, typ: str) -> Any:
        return parse(text, path, typ)

    def parse_copy(text: str, path: str, typ: str = "safe") -> Any:
        return copy.deepcopy(parsed(text, path, typ))

    _yaml.parse_yaml = parse_copy
    strictyaml.parse_yaml = parse_copy


class EscapedRecord(logging.LogRecord):
    """A log record of DVC, whose message quotes names of files, stages and outputs."""

    def getMessage(self) -> str:
        """Return the message without sequences that a terminal would obey."""
        return escaped(super().getMessage())


def escaped(text: str) -> str:
    """Return a text of DVC without its colors and without sequences that a terminal would obey."""
    return escaping.terminal_lines(_COLOR.sub("", text))


def escape_output() -> None:
    """Make DVC in this process escape what it prints: messages, causes of errors and hints."""
    from dvc import logger
    from dvc.ui import Console

    causes: Callable[[BaseException], Iterator[str]] = logger._iter_causes
    write: Callable[..., None] = Console.write

    def write_escaped(console: Console, *objects: object, **options: Any) -> None:
        texts = [escaped(str(value)) for value in objects]
        write(console, *texts, **options)

    logging.setLogRecordFactory(EscapedRecord)
    logger._iter_causes = lambda error: (escaped(cause) for cause in causes(error))
    Console.write = write_escaped


def main() -> None:
    """Run `dvc` with the arguments of this process; the last is the pipeline's dvc.yaml."""
    collect_rarely()
    from dvc.cli import main as dvc

    root = Path.cwd()
    restrict(root, root / sys.argv[-1])
    dump_locks_whole()
    parse_once()
    escape_output()
    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    main()
