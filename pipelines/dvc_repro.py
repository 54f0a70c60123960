"""`dvc` for one pipeline, whatever is wrong with the files of another one.

DVC reads every dvc.yaml of a repository before it runs any: one that is broken, or that names the
outputs of another because it was copied, would stop all pipelines.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.core.files import write_atomic

_FILE = "dvc.yaml"
_LOCK = "dvc.lock"


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


def main() -> None:
    """Run `dvc` with the arguments of this process; the last is the pipeline's dvc.yaml."""
    from dvc.cli import main as dvc

    root = Path.cwd()
    restrict(root, root / sys.argv[-1])
    dump_locks_whole()
    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    main()
