"""`gristmill predict --in FILE --out FILE`: a file of rows is answered over Ray; a run that was killed goes on with the parts that are missing."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.console import console
from components.core.errors import InputError
from components.core.files import atomic, remove_tree, sha256, to_json
from components.core.parallel_map import parallel_map
from components.orchestration.batch.batch_input import Asked, asked, count_rows, kind_of, pieces
from components.orchestration.batch.batch_output import check_holds, column_names, join
from components.orchestration.batch.batch_worker import ANSWER, Model, Piece, first_queries, score
from components.orchestration.cluster.local_cluster import attached
from components.orchestration.locks import only_one
from components.orchestration.output_paths import path_mistake
from components.orchestration.pipeline_params import load
from components.orchestration.runner.progress import Watcher
from components.orchestration.runner.resumable_state import BATCH, annotate
from components.orchestration.runner.run import files_of
from components.orchestration.service.service import released
from components.stages.ingest.source_rows import Format

if TYPE_CHECKING:
    from components.serving.params import ServeParams

_FORMAT = 1


@dataclass(frozen=True)
class Batch:
    """What is to be done."""

    source: Path
    out: Path
    wanted: Asked
    model: Model
    state: Path  # finished parts

    def part(self, number: int) -> Path:
        """Where the rows of a piece lie when they are answered."""
        return self.state / f"part-{number:06d}.parquet"


def predict_file(
    root: Path,
    name: str,
    source: Path,
    out: Path,
    column: str | None = None,
    version: int | None = None,
    *,
    replace_out: bool = False,
) -> None:
    """Answer each row of a file with the champion, or another version, of a pipeline.

    Args:
        root: of the project.
        name: of the pipeline.
        source: Parquet, CSV, TSV or JSON lines, by its suffix; read as a stream.
        out: likewise; original columns and answers. Appears whole or not at all.
        column: of the first input; None: as ingest knows it.
        version: None: the champion.
        replace_out: write over a file that holds something else than answers.

    Raises:
        InputError: no such file, column or version; the output is there and holds something else, or lies where a run deletes it.
        EnvironmentFault: disk full, Ray or MLflow away; finished parts stay, and the same command goes on with them.
    """
    began = time.monotonic()
    kind = kind_of(out, "--out")
    kind_of(source, "--in")
    if not source.is_file():
        raise InputError(
            f"there is no file {str(source)!r}",
            where="--in",
            remedy="give the path of a Parquet, CSV or JSON lines file",
        )
    if out.exists() and out.samefile(source):
        raise InputError("is the file that is read", where="--out", remedy="name another file")
    _check_out(root, name, out, kind, replace_out)
    wanted, model = _subject(root, name, source, column, version)
    digest = sha256(source)
    key = hashlib.sha256(
        to_json(
            [
                _FORMAT,
                digest,
                model.digest,
                model.name,
                model.abstain,
                [column.source for column in wanted.columns],
                wanted.limit,
            ]
        ).encode()
    ).hexdigest()[:16]
    batch = Batch(source, out, wanted, model, root / "data" / ".state" / BATCH / key)
    lock = batch.state.with_suffix(".lock")
    with only_one(lock, f"the scoring of {source.name}"):
        try:
            made = _score(root, batch, kind)
            if sha256(source) != digest:
                raise InputError(
                    "was changed while it was read",
                    where=str(source),
                    remedy="run the same command again when nothing writes to it",
                )
            reasons = join([batch.part(number) for number in range(made.parts)], out, kind)
            remove_tree(batch.state, within=batch.state.parent)
        finally:
            lock.unlink(missing_ok=True)
    _tell(made, reasons, model.name, out, time.monotonic() - began)


def _check_out(root: Path, name: str, out: Path, kind: Format, replace_out: bool) -> None:
    """Refuse an output that would replace a person's file, or that the next run of a pipeline would delete."""
    mistake = path_mistake(root, name, str(out.absolute()))
    if mistake and " lies in " in mistake:
        raise InputError(
            mistake.partition(": ")[0] + ", and is deleted when the pipeline runs",
            where="--out",
            remedy="write to another folder",
        )
    if out.is_dir():
        raise InputError("is a folder", where="--out", remedy="name a file")
    if out.exists() and not replace_out and f"{ANSWER}by" not in column_names(out, kind):
        what = f"{str(out)!r} is there already and holds no answers of gristmill predict"
        raise InputError(
            what, where="--out", remedy="name another file, or add --replace to write over this one"
        )


def _tell(made: _Made, reasons: Counter[str], model: str, out: Path, seconds: float) -> None:
    new = made.rows - made.kept
    without = (
        f" ({sum(reasons.values()):,} without an answer: {', '.join(f'{reason} {count:,}' for reason, count in reasons.most_common())})"
        if reasons
        else ""
    )
    rate = f", {new / made.seconds:,.0f} rows/s while scoring" if new else ""
    before = f", {made.kept:,} of them earlier" if made.kept else ""
    console.print(f"{made.rows:,} rows{before}{without} by {model} in {seconds:.1f} s{rate}: {out}")


@dataclass
class _Made:
    parts: int = 0
    rows: int = 0
    kept: int = 0  # answered in an earlier life
    seconds: float = 0.0  # from the first missing piece to the last answer


def _subject(
    root: Path, name: str, source: Path, column: str | None, version: int | None
) -> tuple[Asked, Model]:
    """Return the columns that are asked, and the model with its verified files.

    The model has answered a first row of the source in a child process, where it could neither
    hang nor fill memory.
    """
    from components.core.bundles import read_bundle
    from components.core.sandbox import Confined
    from components.inference.predictor import first_answers
    from components.registry.versions.model_versions import fetch_registered
    from components.tasks import base

    # It starts while the registry is asked.
    with (
        Confined(first_answers) as child,
        tempfile.TemporaryDirectory(prefix="gristmill-") as scratch,
    ):
        path = files_of(root, name)[0]
        params = load(path, shown=path.relative_to(root).as_posix())
        number = version or released(root, name)[1].number
        ingest = params.sections["ingest"]
        settings: ServeParams = params.sections["serve"]  # type: ignore[assignment]
        wanted = asked(
            base.schema(params.task).roles,
            column,
            ingest.columns,  # type: ignore[attr-defined]
            ingest.max_bytes_per_value,  # type: ignore[attr-defined]
        )
        bundle = fetch_registered(root, params.name, number, Path(scratch))
        queries = first_queries(params.task, wanted, next(pieces(source, wanted), None))
        child.call(bundle.folder, str(bundle.folder), bundle.digest, settings.abstain, queries)
        verified = read_bundle(bundle.folder, bundle.digest)
    called = f"{params.name} version {number}"
    return wanted, Model(bundle.digest, called, [verified], settings.abstain)


def _score(root: Path, batch: Batch, kind: Format) -> _Made:
    """Answer what no part holds yet. One piece is answered here: starting Ray would take longer."""
    made, total = _Made(), count_rows(batch.source)
    todo = _missing(batch, made, kind)
    first = list(islice(todo, 2))
    if made.kept:
        console.print("  goes on with what an earlier run has answered")
    with (
        Watcher("predict") as watcher,
        attached(root, psutil.Process()) if len(first) > 1 else nullcontext(),
    ):
        model, started, done = (
            _shared(batch.model) if len(first) > 1 else batch.model,
            time.monotonic(),
            0,
        )
        for number, table in parallel_map(
            score, (replace(piece, model=model) for piece in chain(first, todo)), _in_flight()
        ):
            if not batch.state.exists():
                annotate(
                    batch.state,
                    {"stage": BATCH, "in": str(batch.source), "model": batch.model.name},
                )
            with atomic(batch.part(number)) as stream:
                pq.write_table(table, stream, compression="zstd")
            done += table.num_rows
            watcher.show(
                {"kind": "progress", "done": made.kept + done, "total": total, "what": "rows"}
            )
        made.seconds = time.monotonic() - started
    return made


def _missing(batch: Batch, made: _Made, kind: Format) -> Iterator[Piece]:
    """The pieces without a part; counts all."""
    for number, rows in enumerate(pieces(batch.source, batch.wanted)):
        count = rows.originals.num_rows
        if not number:
            check_holds(rows.originals.schema, kind)
        made.parts, made.rows = made.parts + 1, made.rows + count
        if _is_whole(batch.part(number), count):
            made.kept += count
        else:
            yield Piece(number, rows, batch.wanted.columns, batch.wanted.limit, batch.model)


def _is_whole(part: Path, rows: int) -> bool:
    try:
        return part.is_file() and pq.read_metadata(part).num_rows == rows
    except (pa.ArrowException, OSError):
        return False


def _shared(model: Model) -> Model:
    import ray

    return replace(model, bundle=[ray.put(model.bundle[0])])


def _in_flight() -> int:
    import ray

    return 2 * int(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1
