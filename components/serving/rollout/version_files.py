"""Preparation of a candidate: its files are copied and verified before anything loads them.

Everything about a candidate comes from outside: tags that anybody can edit, and files that
anybody who reaches the artifact store can exchange.
`components.orchestration.service.version_files_process` runs this module in a process of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from components.core.bundles import CARD, Card, read_bundle
from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import remove_tree, sha256, sync_tree
from components.registry import validation
from components.registry.versions.model_versions import BUNDLE, Version, download
from components.serving.http.messages import ModelInfo
from components.serving.rollout.plan import ServedVersion

_MOST_FILES = 10_000
# bytes that a copy leaves free
_FREE_BYTES = 64 << 20
# The end of the name of a folder in which one attempt works.
PART = ".part"
_REMEDY = "take another version: gristmill status"
# errors of the system that may pass
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNRESET,
    errno.EDQUOT,
    errno.EHOSTDOWN,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ENOTCONN,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


def prepare(root: Path, version: Version, folder: Path, part: Path) -> ServedVersion:
    """Copy a version's files into the service's folder and verify them.

    A good copy that exists already is used again.

    Args:
        root: of the project.
        version: as the registry has it.
        folder: of the service.
        part: an empty folder within it, for this call alone.

    Raises:
        InputError: it cannot be served.
        EnvironmentFault: not now.
    """
    name = f"version {version.number} of {version.pipeline!r}"
    digest = validation.sha256_digest(version.tags.get(BUNDLE), f"{name}, tag {BUNDLE}")
    examples = validation.examples(version.tags.get("examples", "[]"), f"{name}, tag examples")
    copy = folder / f"{int(version.number)}-{digest[: validation.PREFIX]}"
    card = _verified_copy(copy, digest)
    bundle = part / "bundle"
    if card is None:
        copy_files(download(root, version, part / "download"), bundle)
        card = verify(bundle, digest)
    model = ModelInfo(
        name=version.pipeline,
        version=str(version.number),
        data_hash=card.data_hash,
        bundle=digest[: validation.PREFIX],
        examples=examples,
    )
    served = ServedVersion(bundle=copy, model=model)
    if bundle.is_dir():
        sync_tree(bundle)
        remove_tree(copy, within=folder)
        bundle.rename(copy)
    return served


def verify(bundle: Path, digest: str) -> Card:
    """Return the card of a copy whose files are those that were registered.

    Args:
        bundle: the copy.
        digest: the SHA-256 of its card, or its beginning.

    Raises:
        InputError: they are not.
    """
    for path in regular_files(bundle):
        if path.is_symlink():
            raise InputError("is a link, and no file", where=str(path), remedy=_REMEDY)
    if not sha256(bundle / CARD).startswith(digest):
        raise InputError(
            f"its {CARD} is not the one that was registered: the SHA-256 differs",
            where=str(bundle),
            remedy=_REMEDY,
        )
    return read_bundle(bundle)[0]


def copy_files(source: Path, target: Path) -> None:
    """Copy a folder of regular files; anything else in it is refused, and never waited for.

    Args:
        source: the folder.
        target: a new folder.

    Raises:
        InputError: it holds a pipe, a device, a link to nothing or to a folder, or too much.
        EnvironmentFault: the disk has too little free space.
    """
    files = list(regular_files(source))
    size = sum(path.stat().st_size for path in files)
    target.mkdir(parents=True)
    if size + _FREE_BYTES > shutil.disk_usage(target).free:
        # Without the free bytes and the name of the part: each attempt has the same message, which
        # is logged once.
        raise EnvironmentFault(
            f"the copy takes {size / 1e6:,.0f} MB, more than are free",
            where=_without_part(str(target.parent)),
            remedy="free disk space",
        )
    for path in files:
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path) as stream, copied.open("xb") as out:
            shutil.copyfileobj(stream, out)


def regular_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, those behind links as well.

    Raises:
        InputError: something in it is no regular file, or there are too many.
    """
    count = 0
    for parent, folders, names in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(parent) / name
            count += 1
            if count > _MOST_FILES:
                raise InputError(
                    f"holds more than {_MOST_FILES:,} files", where=str(folder), remedy=_REMEDY
                )
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError("is no regular file", where=str(path), remedy=_REMEDY)
            yield path


def as_fault(error: BaseException) -> GristmillError:
    """Return the error to report for an error in preparing a candidate.

    An EnvironmentFault may pass, so that it is tried again. Anything else is the candidate's.
    """
    if isinstance(error, GristmillError):
        return error
    if isinstance(error, OSError):
        where = _without_part(str(error.filename or ""))
        what = f"cannot be read or copied: {error.strerror or type(error).__name__}"
        if error.errno in _PASSING:
            return EnvironmentFault(what, where=where, remedy="free disk space, or mend the disk")
        return InputError(what, where=where, remedy=_REMEDY)
    if isinstance(error, ValidationError):
        mistake = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, mistake["loc"]))
        return InputError(f"{place}: {mistake['msg']}", remedy=_REMEDY)
    text = validation.storable(str(error), 200)
    return InputError(f"it fails: {type(error).__name__}: {text}", remedy=_REMEDY)


def _without_part(path: str) -> str:
    """Return a path without the part folder of one attempt.

    Its name is random, and each attempt shall have the same message, which is logged once.
    """
    names = [name for name in Path(path).parts if not name.endswith(PART)]
    return str(Path(*names)) if names else ""


def _verified_copy(copy: Path, digest: str) -> Card | None:
    """Return the card of an existing copy; None if it has to be copied again."""
    if not copy.is_dir() or copy.is_symlink():
        return None
    try:
        return verify(copy, digest)
    except (InputError, OSError, ValueError):
        return None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; what has become a pipe meanwhile is refused and not waited for."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as stream:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise InputError("is no regular file", where=str(path), remedy=_REMEDY)
        yield stream


def _raise(error: OSError) -> None:
    raise error
