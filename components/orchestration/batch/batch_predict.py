"""`gristmill predict --in FILE --out FILE`: answer the rows of a file over Ray.

A run that was killed continues with the parts that are missing.
"""

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
from components.orchestration.batch.batch_input import (
    RequestedColumns,
    count_rows,
    kind_of,
    read_chunks,
    requested_columns,
)
from components.orchestration.batch.batch_output import check_holds, column_names, join
from components.orchestration.batch.batch_worker import ANSWER, Model, Piece, first_queries, score
from components.orchestration.cluster.local_cluster import attached
from components.orchestration.locks import only_one
from components.orchestration.output_paths import path_mistake
from components.orchestration.pipeline_params import load
from components.orchestration.project import pipeline_files
from components.orchestration.runner.progress import Watcher
from components.orchestration.runner.resumable_state import BATCH, annotate
from components.orchestration.service.service import released
from components.stages.ingest.source_rows import Format

if TYPE_CHECKING:
    from components.serving.params import ServeParams
    from components.stages.ingest.params import IngestParams

# Changes when parts of earlier versions cannot be used.
_FORMAT = 1


@dataclass(frozen=True)
class Batch:
    """Describes the work of one command.

    Args:
        source: the file to read.
        out: the file to write.
        wanted: the input columns.
        model: to answer with.
        state: the folder of finished parts.
    """

    source: Path
    out: Path
    wanted: RequestedColumns
    model: Model
    state: Path

    def part(self, number: int) -> Path:
        """Return the path of the answered rows of a chunk.

        Args:
            number: of the chunk.
        """
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
        out: a file of the same formats for the original columns and the answers. It appears whole
            or not at all.
        column: of the first input; None: as in ingest.
        version: None: the champion.
        replace_out: write over a file that holds something else than answers.

    Raises:
        InputError: no such file, column or version; or the output exists and holds something else,
            or lies where a run deletes it.
        EnvironmentFault: the disk is full, or Ray or MLflow is away. The finished parts stay, and
            the same command continues with them.
    """
    began = time.monotonic()
    kind = kind_of(out, "--out")
    kind_of(source, "--in")
    _check_source(source, out)
    _check_out(root, name, out, kind, replace_out)
    wanted, model = _columns_and_model(root, name, source, column, version)
    digest = sha256(source)
    state = root / "data" / ".state" / BATCH / _key(digest, wanted, model)
    batch = Batch(source, out, wanted, model, state)
    lock = state.with_suffix(".lock")
    with only_one(lock, f"the scoring of {source.name}"):
        try:
            progress = _score(root, batch, kind)
            if sha256(source) != digest:
                raise InputError(
                    "was changed while it was read",
                    where=str(source),
                    remedy="run the same command again when nothing writes to it",
                )
            parts = [batch.part(number) for number in range(progress.parts)]
            reasons = join(parts, out, kind)
            remove_tree(state, within=state.parent)
        finally:
            lock.unlink(missing_ok=True)
    _report(progress, reasons, model.name, out, time.monotonic() - began)


def _check_source(source: Path, out: Path) -> None:
    if not source.is_file():
        raise InputError(
            f"there is no file {str(source)!r}",
            where="--in",
            remedy="give the path of a Parquet, CSV or JSON lines file",
        )
    if out.exists() and out.samefile(source):
        raise InputError("is the file that is read", where="--out", remedy="name another file")


def _check_out(
    root: Path,
    name: str,
    out: Path,
    kind: Format,
    replace_out: bool,
) -> None:
    """Raise an error if the output would replace another file, or a later run would delete it.

    Raises:
        InputError: it would.
    """
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
        raise InputError(
            f"{str(out)!r} is there already and holds no answers of gristmill predict",
            where="--out",
            remedy="name another file, or add --replace to write over this one",
        )


def _key(digest: str, wanted: RequestedColumns, model: Model) -> str:
    """Return a name for the parts of the same rows, columns and model."""
    columns = [column.source for column in wanted.columns]
    content = [_FORMAT, digest, model.digest, model.name, model.abstain, columns, wanted.limit]
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:16]


def _report(
    progress: _Progress, reasons: Counter[str], model: str, out: Path, seconds: float
) -> None:
    new_rows = progress.rows - progress.resumed_rows
    earlier = f", {progress.resumed_rows:,} of them earlier" if progress.resumed_rows else ""
    without = ""
    if reasons:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
        without = f" ({sum(reasons.values()):,} without an answer: {counts})"
    rate = ""
    if new_rows:
        rate = f", {new_rows / progress.seconds:,.0f} rows/s while scoring"
    console.print(
        f"{progress.rows:,} rows{earlier}{without} by {model} in {seconds:.1f} s{rate}: {out}"
    )


@dataclass
class _Progress:
    """Counts the work of one command.

    Args:
        parts: chunks of the file.
        rows: of the file.
        resumed_rows: rows that an earlier run has answered.
        seconds: from the first missing chunk to the last answer.
    """

    parts: int = 0
    rows: int = 0
    resumed_rows: int = 0
    seconds: float = 0.0


def _columns_and_model(
    root: Path, name: str, source: Path, column: str | None, version: int | None
) -> tuple[RequestedColumns, Model]:
    """Return the input columns, and the model with its verified files.

    The model has answered a first row of the source in a child process, where it could neither
    hang nor fill memory.
    """
    from components.core.bundles import read_bundle
    from components.core.sandbox import SandboxedCall
    from components.inference.predictor import first_answers
    from components.registry.versions.model_versions import fetch_registered
    from components.stages.ingest.stage import schema_of_params

    # The child process starts while the registry is read.
    with (
        SandboxedCall(first_answers) as child,
        tempfile.TemporaryDirectory(prefix="gristmill-") as scratch,
    ):
        path = pipeline_files(root, name)[0]
        params = load(path, shown=path.relative_to(root).as_posix())
        number = version or released(root, name)[1].number
        ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
        serve: ServeParams = params.sections["serve"]  # type: ignore[assignment]
        wanted = requested_columns(
            schema_of_params(params.task, ingest).roles,
            column,
            ingest.columns,
            ingest.max_bytes_per_value,
        )
        bundle = fetch_registered(root, params.name, number, Path(scratch))
        first_rows = next(read_chunks(source, wanted), None)
        queries = first_queries(params.task, wanted, first_rows)
        child.call(
            bundle.folder,
            str(bundle.folder),
            bundle.digest,
            serve.abstain,
            queries,
        )
        verified = read_bundle(bundle.folder, bundle.digest)
    title = f"{params.name} version {number}"
    return wanted, Model(bundle.digest, title, [verified], serve.abstain)


def _score(root: Path, batch: Batch, kind: Format) -> _Progress:
    """Answer the chunks without a part.

    A single chunk is answered in this process, because the start of Ray would take longer.
    """
    progress = _Progress()
    total = count_rows(batch.source)
    missing = _missing(batch, progress, kind)
    first = list(islice(missing, 2))
    uses_ray = len(first) > 1
    if progress.resumed_rows:
        console.print("  goes on with what an earlier run has answered")
    with (
        Watcher("predict") as watcher,
        attached(root, psutil.Process()) if uses_ray else nullcontext(),
    ):
        model = _shared(batch.model) if uses_ray else batch.model
        started = time.monotonic()
        answered = 0
        pieces = (replace(piece, model=model) for piece in chain(first, missing))
        for number, table in parallel_map(score, pieces, _in_flight()):
            _store_part(batch, number, table)
            answered += table.num_rows
            done = progress.resumed_rows + answered
            watcher.show({"kind": "progress", "done": done, "total": total, "what": "rows"})
        progress.seconds = time.monotonic() - started
    return progress


def _store_part(batch: Batch, number: int, table: pa.Table) -> None:
    if not batch.state.exists():
        state = {"stage": BATCH, "in": str(batch.source), "model": batch.model.name}
        annotate(batch.state, state)
    with atomic(batch.part(number)) as stream:
        pq.write_table(table, stream, compression="zstd")


def _missing(batch: Batch, progress: _Progress, kind: Format) -> Iterator[Piece]:
    """Yield the chunks without a part. All chunks are counted."""
    for number, rows in enumerate(read_chunks(batch.source, batch.wanted)):
        count = rows.originals.num_rows
        if number == 0:
            check_holds(rows.originals.schema, kind)
        progress.parts += 1
        progress.rows += count
        if _is_whole(batch.part(number), count):
            progress.resumed_rows += count
        else:
            yield Piece(number, rows, batch.wanted.columns, batch.wanted.limit, batch.model)


def _is_whole(part: Path, rows: int) -> bool:
    try:
        return part.is_file() and pq.read_metadata(part).num_rows == rows
    except (pa.ArrowException, OSError):
        return False


def _shared(model: Model) -> Model:
    """Return the model with its files in Ray's object store."""
    import ray

    return replace(model, bundle=[ray.put(model.bundle[0])])


def _in_flight() -> int:
    """Return how many chunks are scored at a time."""
    import ray

    if not ray.is_initialized():
        return 1
    return 2 * int(ray.cluster_resources().get("CPU", 1))
