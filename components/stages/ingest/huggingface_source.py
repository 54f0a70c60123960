"""Source `huggingface`: a dataset of the hub, or a folder that `datasets` has written.

Folders are read by pyarrow. Only the download of a dataset needs the library `datasets`.
"""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from components.core.cache import cache_key
from components.core.errors import EnvironmentFault, InputError
from components.core.files import remove_tree, sync_tree
from components.core.workspace import home
from components.stages.ingest.params import Files, HuggingFace
from components.stages.ingest.source_files import Listing, files_of, list_files, locate
from components.tasks.base import TargetWords

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_WHERE = "ingest.source.dataset"
# Written by `save_to_disk` beside the files of a split. It names them.
_STATE = "state.json"
# Written by `DatasetDict.save_to_disk` beside the folders of the splits. It names them.
_SPLITS = "dataset_dict.json"
# Bytes of the longest name of a file.
_LONGEST_NAME = 255
# Builders of `datasets` that only parse files.
_BUILDERS = ("arrow", "csv", "imagefolder", "json", "parquet", "text")
_MODULE = "datasets.packaged_modules"


def list_source(source: HuggingFace, root: Path, words: TargetWords) -> Listing:
    """Return the files of a dataset, with its canonical splits and the names of its targets.

    Args:
        source: section of the params.
        root: of the project, or of a copy, which uses the downloads of the project.
        words: of the task, for messages.

    Raises:
        InputError: the folder holds no dataset, or the hub does not have it.
        EnvironmentFault: the hub cannot be reached, or `datasets` is not installed.
    """
    folder = locate(source.path, root)
    if source.dataset:
        folder = _downloaded(source, home(root))
    kind: Literal["arrow", "parquet"] = "arrow"
    files = _saved_files(folder)
    if not files:
        kind = "parquet"
        files = files_of(folder, "**/*.parquet")
    if not files:
        raise InputError(
            "holds no dataset: no Parquet files, and no folder that save_to_disk has written",
            where=source.place,
            remedy="give the folder itself, or set ingest.source.kind to files",
        )
    params = Files(kind="files", path=source.place, format=kind)
    return list_files(files, params, words, folder)


def _saved_files(folder: Path) -> dict[PurePosixPath, Path]:
    """Return the Arrow files of `Dataset.save_to_disk` and `DatasetDict.save_to_disk`.

    Other Arrow files beside them are caches of `datasets`.

    Raises:
        InputError: a file is missing.
    """
    files = {}
    states = [folder / _STATE, *folder.glob(f"*/{_STATE}")]
    if (folder / _SPLITS).is_file():
        # A split of an earlier save may lie beside those of the last one.
        states = [folder / name / _STATE for name in _split_names(folder / _SPLITS)]
    for path in sorted(states):
        if not path.is_file():
            continue
        for name in _names_in(path):
            file = path.with_name(name)
            if not file.is_file():
                raise InputError(
                    f"names {name!r}, which is not there",
                    where=str(path),
                    remedy="copy the whole folder again",
                )
            files[PurePosixPath(file.relative_to(folder).as_posix())] = file
    return files


def _split_names(file: Path) -> list[str]:
    """Return the names of the splits that `DatasetDict.save_to_disk` has written.

    Raises:
        InputError: it is no such description, or its names lead elsewhere.
    """
    return _names_of(file, lambda stored: stored["splits"])


def _names_in(state: Path) -> list[str]:
    """Return the names of the files of a split.

    Raises:
        InputError: it is no such description, or its names lead elsewhere.
    """
    return _names_of(state, lambda stored: [entry["filename"] for entry in stored["_data_files"]])


def _names_of(file: Path, listed: Callable[[Any], Sequence[Any]]) -> list[str]:
    """Return names that a JSON file lists.

    Args:
        file: that `datasets` has written.
        listed: gives the names in its content.

    Raises:
        InputError: it is no such description, or its names lead elsewhere.
    """
    try:
        names = [str(name) for name in listed(json.loads(file.read_text(encoding="utf-8")))]
        for name in names:
            is_plain = name != ".." and Path(name).name == name
            if not is_plain or not 0 < len(name.encode()) <= _LONGEST_NAME:
                raise ValueError("a name is none of a file in the folder")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"does not name the files of a dataset ({type(error).__name__}: {error})",
            where=str(file),
            remedy="write the folder again with save_to_disk",
        ) from None
    return names


def _downloaded(source: HuggingFace, root: Path) -> Path:
    """Return the folder of Parquet files of a dataset, after a download where there is none.

    Args:
        source: section of the params.
        root: of the project.

    Raises:
        InputError: the hub does not have the dataset.
        EnvironmentFault: the hub cannot be reached, or the disk is full.
    """
    assert source.dataset
    if Path(source.dataset).exists():
        raise InputError(
            f"{source.dataset!r} is a folder here, which `datasets` would take for the dataset",
            where=_WHERE,
            remedy="set ingest.source.path to the folder, and leave dataset and revision out",
        )
    key = cache_key(
        {"dataset": source.dataset, "config": source.config, "revision": source.revision}
    )
    parent = root / "data" / ".state" / "downloads" / "huggingface"
    folder = parent / key
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f"{key}.lock").open("w") as lock:
        # Another pipeline may download the same dataset.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            part = parent / f"{key}.part"
            remove_tree(part, within=parent)
            prepare(source.dataset, source.config, source.revision, part)
            sync_tree(part)
            part.rename(folder)
    return folder


def prepare(dataset: str, config: str | None, revision: str | None, folder: Path) -> None:
    """Download a dataset and write it as Parquet files, a few for each split.

    No code of the dataset runs: `datasets` has no such ability any more, and only builders that
    parse plain files are used.

    Args:
        dataset: its id on the hub.
        config: name of its configuration; None: the only one.
        revision: commit.
        folder: which is made.

    Raises:
        InputError: the hub does not have the dataset, or it is of a kind that is not read.
        EnvironmentFault: the hub cannot be reached, `datasets` is not installed, or the disk is
            full.
    """
    try:
        import datasets
        from datasets.exceptions import DatasetNotFoundError
    except ImportError:
        raise EnvironmentFault(
            "a dataset of the hub needs the package `datasets`, which is not installed",
            where=_WHERE,
            remedy="pip install -c constraints.txt -e '.[huggingface]'",
        ) from None
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            builder = datasets.load_dataset_builder(
                dataset, name=config, revision=revision, cache_dir=scratch
            )
            _check_builder(builder, dataset)
            builder.download_and_prepare(str(folder), file_format="parquet")
    except DatasetNotFoundError as error:
        raise _refused(dataset, error) from None
    except OSError as error:
        raise EnvironmentFault(
            f"{dataset!r} cannot be downloaded: {_first_line(error)}",
            where=_WHERE,
            remedy="check the network and the disk, then run the same command again",
        ) from None
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _refused(dataset, error) from None


def _check_builder(builder: DatasetBuilder, dataset: str) -> None:
    """Check that a builder only parses plain files.

    Raises:
        InputError: it does not.
    """
    module = type(builder).__module__
    if module not in [f"{_MODULE}.{name}.{name}" for name in _BUILDERS]:
        raise InputError(
            f"{dataset!r} is of the kind {module.rpartition('.')[2]!r}, which is not read",
            where=_WHERE,
            remedy=f"take a dataset of one of {', '.join(_BUILDERS)}",
        )


def _refused(dataset: str, error: Exception) -> InputError:
    """Return the error for a dataset that `datasets` refuses."""
    return InputError(
        f"{dataset!r} cannot be used: {_first_line(error)}",
        where=_WHERE,
        remedy="correct dataset, config and revision; a private dataset needs HF_TOKEN",
    )


def _first_line(error: Exception) -> str:
    """Return the first line of a message of `datasets`, with the message that caused it."""
    causes: list[Any] = [error, error.__cause__]
    lines = [str(cause).strip().partition("\n")[0] for cause in causes if cause]
    return ": ".join(line for line in lines if line)[:300] or type(error).__name__
