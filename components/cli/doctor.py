"""`gristmill doctor`: what is wrong with this machine, and how to mend it.

The checks change nothing and import none of the heavy libraries.
"""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from components.cli.version import installed_version
from components.core.cpus import cpu_limits
from components.orchestration.cluster.supervisor import load
from components.orchestration.git import run_git
from components.registry.store.backup import remains
from components.registry.store.tracking_store import database, tracking_uri

_GIB = 2**30
# Longest check of the database.
_CHECK_S = 1.0
# The default port of `gristmill serve`.
_PORT = 8000
_NEEDED = ("ray", "dvc", "mlflow", "torch", "pyarrow", "tokenizers", "scikit-learn", "onnxruntime")
_CJK = (
    "cjk",
    "wqy",
    "sourcehan",
    "source-han",
    "simhei",
    "simsun",
    "msyh",
    "pingfang",
    "hiragino",
    "stheiti",
    "songti",
    "droidsansfallback",
    "arplumi",
    "uming",
    "ukai",
    "lxgw",
)
_FONTS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
)

Verdict = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """Holds the result of one check.

    Args:
        name: of what was checked.
        ok: the verdict.
        detail: what was measured.
        remedy: what to do; empty if nothing needs mending.
    """

    name: str
    ok: Verdict
    detail: str
    remedy: str = ""


def examine(root: Path) -> list[Finding]:
    """Check everything that has made runs fail before.

    Args:
        root: of the project.

    Returns:
        A finding for each check.
    """
    root = root.resolve()
    findings = [
        _python(),
        _versions(root / "constraints.txt"),
        _disk("disk", root),
        _disk("temporary folder", Path(tempfile.gettempdir())),
        _shared_memory(Path("/dev/shm")),  # noqa: S108
    ]
    findings += [
        Finding("CPUs", "ok", str(cpu_limits())),
        _memory(),
        _port(_PORT),
        _git(root),
        _dvc(root),
        _tracking(root),
        _embedded_ray(root),
        _fonts([Path(folder).expanduser() for folder in _FONTS]),
    ]
    address = os.environ.get("RAY_ADDRESS")
    if address:
        findings.append(_ray_address(address))
    return findings


def render(findings: Sequence[Finding]) -> int:
    """Print the findings as a table.

    Args:
        findings: of `examine`.

    Returns:
        The exit code: 4 if any finding is bad, else 0.
    """
    from rich.table import Table

    from components.core.console import ValueConsole, styled

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    styles = {"ok": "green", "warn": "yellow", "bad": "bold red"}
    for finding in findings:
        table.add_row(styled((finding.ok, styles[finding.ok])), finding.name, finding.detail)
        if finding.remedy:
            table.add_row("", "", f"-> {finding.remedy}")
    ValueConsole().print(table)
    return 4 if any(finding.ok == "bad" for finding in findings) else 0


def _python() -> Finding:
    shown = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036
        return Finding(
            "Python",
            "bad",
            f"{shown} is too old",
            "install Python 3.11 or later, remove .venv, then: make run",
        )
    return Finding("Python", "ok", shown)


def _versions(constraints: Path) -> Finding:
    """Check that the needed libraries are installed, in the tested versions."""
    install = "pip install -c constraints.txt -e '.[pipeline]', in .venv"
    missing = [name for name in _NEEDED if installed_version(name) is None]
    if missing:
        return Finding("libraries", "bad", f"not installed: {', '.join(missing)}", install)
    pins = _read_pins(constraints)
    if not pins:
        return Finding(
            "libraries",
            "warn",
            f"{constraints.name} names no versions to compare with",
            f"git checkout {constraints.name}",
        )
    installed = _installed(pins)
    different = [
        f"{name} {version} instead of {pins[name]}"
        for name, version in installed.items()
        if version != pins[name].partition("+")[0]
    ]
    if different:
        shown = ", ".join(different[:5])
        if len(different) > 5:
            shown += ", …"
        return Finding(
            "libraries",
            "warn",
            f"{len(different)} of {len(installed)} differ from the tested versions: {shown}",
            install,
        )
    return Finding("libraries", "ok", f"{len(installed)} installed, as tested")


def _read_pins(constraints: Path) -> dict[str, str]:
    """Return the tested version of each library, or nothing if the file cannot be read."""
    try:
        lines = constraints.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pins: dict[str, str] = {}
    for line in lines:
        requirement = line.partition("#")[0].partition(";")[0].strip()
        if "==" in requirement:
            name, version = requirement.replace(" ", "").split("==", 1)
            pins[name] = version
    return pins


def _installed(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each library that is installed, without the name of a local build."""
    versions: dict[str, str] = {}
    for name in names:
        version = installed_version(name.partition("[")[0])
        if version:
            # A local build (2.13.0+cpu) is the same release.
            versions[name] = version.partition("+")[0]
    return versions


def _graded(
    name: str,
    value: float,
    bad: float,
    warn: float,
    detail: str,
    remedy: str,
) -> Finding:
    """Return a finding whose verdict follows from two lower limits."""
    if value < bad:
        return Finding(name, "bad", detail, remedy)
    if value < warn:
        return Finding(name, "warn", detail, remedy)
    return Finding(name, "ok", detail)


def _disk(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / _GIB
    return _graded(
        name,
        free,
        2,
        5,
        f"{free:.1f} GiB free ({folder})",
        "free some space; gristmill clean-state and dvc gc -w remove what runs have left",
    )


def _shared_memory(shm: Path) -> Finding:
    if not shm.is_dir():
        return Finding("shared memory", "ok", "this system has no /dev/shm")
    usage = shutil.disk_usage(shm)
    detail = f"{usage.free / _GIB:.2f} of {usage.total / _GIB:.2f} GiB free ({shm})"
    if usage.total < _GIB / 2:
        return Finding(
            "shared memory",
            "warn",
            f"{detail}: too small, so Ray keeps its objects on disk, which is slower",
            "in a container: start it with --shm-size=1g",
        )
    return _graded(
        "shared memory",
        usage.free / _GIB,
        0.4,
        1,
        detail,
        f"see what fills it (ls -lS {shm}) and delete what no process uses",
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    detail = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB available"
    return _graded(
        "memory",
        memory.available / _GIB,
        2,
        6,
        detail,
        "end other programs, or lower train.workers",
    )


def _port(port: int) -> Finding:
    name = f"port {port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(
                name,
                "warn",
                f"cannot be listened on: {error.strerror}",
                "gristmill serve --port N takes another",
            )
    return Finding(name, "ok", "free for gristmill serve")


def _git(root: Path) -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "bad", "is not installed, and DVC needs it", "install git")
    answer = run_git(root, "rev-parse", "--show-toplevel")
    if answer.code:
        remedy = answer.owner_remedy or "git clone the project, or git init here"
        return Finding("git", "bad", answer.error or "this folder is not a repository", remedy)
    return Finding("git", "ok", f"repository {answer.out}")


def _dvc(root: Path) -> Finding:
    config = configparser.ConfigParser()
    folder = root / ".dvc"
    try:
        files = config.read([folder / "config", folder / "config.local"], encoding="utf-8")
    except configparser.Error as error:
        return Finding(
            "DVC",
            "bad",
            f".dvc/config is malformed: {error.message.splitlines()[0]}",
            "git checkout .dvc/config",
        )
    if not files:
        return Finding(
            "DVC",
            "bad",
            "is not set up here: there is no .dvc/config",
            "git checkout .dvc, or dvc init",
        )
    remote = config.get("core", "remote", fallback="")
    section = f"'remote \"{remote}\"'"
    if not remote or not config.get(section, "url", fallback=""):
        return Finding(
            "DVC",
            "warn",
            "has no default remote: dvc push has nowhere to go",
            "dvc remote add -d local ../data/.remote",
        )
    return Finding("DVC", "ok", f"remote {remote}: {config.get(section, 'url')}")


def _tracking(root: Path) -> Finding:
    store = database(root)
    if store is None:
        # The part before an @ holds a password.
        return Finding("MLflow", "ok", f"elsewhere: {tracking_uri(root).rpartition('@')[2]}")
    if not store.exists():
        return Finding("MLflow", "ok", "no database yet: the first run makes it")
    if store.is_file() and store.stat().st_size == 0:
        return _damaged_store("it is empty")
    try:
        answer = _quick_check(store)
    # The database is locked, cannot be opened, or is too large for this check. Its content may be
    # sound.
    except sqlite3.OperationalError as error:
        return Finding(
            "MLflow",
            "warn",
            f"the database was not checked: {error}",
            f'see who uses it and whether you may read it: sqlite3 {store} "PRAGMA quick_check"',
        )
    except sqlite3.DatabaseError as error:
        answer = str(error)
    if answer != "ok":
        return _damaged_store(answer)
    folders = remains(store.parent)
    if folders:
        return Finding(
            "MLflow",
            "warn",
            f"a restore was killed and left {len(folders)} folders; the store is whole",
            "the next gristmill mlflow restore removes them, "
            f"or: rm -r {shlex.join(map(str, folders))}",
        )
    return Finding("MLflow", "ok", f"database sound, {store.stat().st_size / 2**20:.1f} MiB")


def _quick_check(store: Path) -> str:
    """Return what SQLite's quick check prints about a database.

    Raises:
        sqlite3.DatabaseError: the database cannot be read within a second.
    """
    deadline = time.monotonic() + _CHECK_S
    uri = f"{store.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=1)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        answer: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return answer


def _damaged_store(answer: str) -> Finding:
    return Finding(
        "MLflow",
        "bad",
        f"the database is damaged: {answer}",
        "gristmill mlflow restore BACKUP --replace; without a backup move the file away: "
        "the next run makes a new one (run history and champion are lost)",
    )


def _embedded_ray(root: Path) -> Finding:
    record = load(root)
    if record is None:
        return Finding("embedded Ray", "ok", "none runs; a run starts one")
    if record.usable:
        return Finding(
            "embedded Ray", "ok", f"runs at {record.address}, started by {record.started_by}"
        )
    if record.starting:
        return Finding("embedded Ray", "ok", f"is being started by {record.started_by}")
    return Finding(
        "embedded Ray",
        "warn",
        f"was killed; remains may lie in {record.temp}",
        "gristmill down (the next run does it too)",
    )


def _fonts(folders: Sequence[Path]) -> Finding:
    for folder in folders:
        for _, _, files in os.walk(folder):
            for file in files:
                file_name = file.lower().replace(" ", "")
                if any(name in file_name for name in _CJK):
                    return Finding("fonts", "ok", f"Chinese: {file}")
    return Finding(
        "fonts",
        "warn",
        "none for Chinese was found: a browser on this machine may show boxes in the report",
        "install one, e.g. apt install fonts-noto-cjk",
    )


def _ray_address(address: str) -> Finding:
    host, _, port = address.rpartition(":")
    if address in ("auto", "local"):
        return Finding("RAY_ADDRESS", "ok", address)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1.5):
            return Finding("RAY_ADDRESS", "ok", f"{address} answers")
    except (OSError, ValueError, OverflowError) as error:
        return Finding(
            "RAY_ADDRESS",
            "bad",
            f"{address} does not answer: {error}",
            "start that cluster, or give HOST:PORT of its head; "
            "or unset RAY_ADDRESS to use this machine alone",
        )
