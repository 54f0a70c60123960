"""Fit the recipe of the winner again to other rows: as Ray tasks, each of them once.

The test split is never read. The encoder is fitted to the rows of each fit, unless it is that of a
pretrained network. What is not repeated: the search, pretraining, and the steps of compress.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.bundles import CARD, Card, read_bundle
from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job, Journal
from components.core.parallel_map import parallel_map
from components.core.tables import PRETRAINED, read_manifest, read_table, write_table
from components.inference.predictor import Predictor, load
from components.metrics import bootstrap
from components.stages.evaluate.leakage import fit_baseline
from components.tasks import base
from components.training import evaluation
from components.training.batches import load_encoder
from components.training.bundle_writer import save_torch
from components.training.fit_config import FitConfig, with_saved_params
from components.training.params import FitParams
from components.training.ray_fit import fit_distributed, fits_at_once

Numbers = NDArray[np.int64]
NETWORKS = ("trained", "tuned")
# Entries of a tokens manifest that other rows change.
_OF_ROWS = ("rows", "parts", "schema", "shards")


@dataclass(frozen=True)
class Refit:
    """Rows of one more fit, as numbers among the rows of `rows_to_divide`.

    Args:
        name: of the fit, such as "fold-1".
        train: (n,) rows to learn from.
        stopping: (m,) rows that stop the fit, or choose what a baseline leaves open.
        judged: (k,) rows that are answered.
    """

    name: str
    train: Numbers
    stopping: Numbers
    judged: Numbers


@dataclass(frozen=True)
class RefitResult:
    """Results of one more fit.

    Args:
        name: of the fit.
        train_rows: number of rows that it learned from, without augmented ones.
        cases: number of rows that were judged.
        metrics: of the judged rows; None where a metric is not defined.
        interval: of the deciding metric; None where it has none.
        stats: of the judged rows for the deciding metric, each (cases,).
    """

    name: str
    train_rows: int
    cases: int
    metrics: Mapping[str, float | None]
    interval: Sequence[float] | None
    stats: Mapping[str, Sequence[Any]]

    @property
    def arrays(self) -> bootstrap.PerExampleStats:
        """Return the statistics as arrays."""
        return {name: np.array(column) for name, column in self.stats.items()}


def source_of(job: Job, winner: Mapping[str, Any], bundle: Path) -> Path:
    """Return the bundle whose recipe is fitted again: the winner, or the network it was made from.

    Args:
        winner: its row of the leaderboard.
        bundle: of the winner.
    """
    for name in NETWORKS:
        network = job.inputs[name] / "network"
        if not (network / CARD).is_file():
            continue
        if list(read_bundle(network)[0].origin) == winner["origin"][:1]:
            return network
    return bundle


def rows_to_divide(job: Job) -> pa.Table:
    """Return the rows of train, then those of validation."""
    clean = job.inputs["clean"]
    return pa.concat_tables([read_table(clean, "train"), read_table(clean, "validation")])


def run_refits(job: Job, source: Path, refits: Sequence[Refit]) -> list[RefitResult]:
    """Return the results of the fits, in their order. Those of an earlier run are not repeated.

    Args:
        job: evaluate.
        source: bundle whose recipe is fitted.
        refits: at least one.
    """
    card, _ = read_bundle(source)
    at_once = fits_at_once(1)
    cpus = 1.0
    if card.runtime != "numpy":
        # The task waits for workers, which hold the processors.
        at_once = fits_at_once(_fit_params(job, source, card, job.state).params.workers)
        cpus = 0.0
    pieces = [(job, source, refit) for refit in refits]
    results = []
    for result in parallel_map(_run, pieces, at_once, cpus):
        results.append(result)
        job.journal.progress(len(results), len(refits), "further fits")
    return results


def _run(piece: tuple[Job, Path, Refit]) -> RefitResult:
    """Fit and judge, as a Ray task, unless the result is there already.

    Args:
        piece: the job, the bundle whose recipe is fitted, and the rows.
    """
    job, source, refit = piece
    folder = job.state / "refits" / f"{refit.name}-{sha256(source / CARD)[:12]}"
    record = folder / "result.json"
    if record.is_file():
        return RefitResult(**json.loads(record.read_text(encoding="utf-8")))
    rows = rows_to_divide(job)
    train = rows.take(refit.train)
    _check_targets(job, rows, train, refit.name)
    stopping = rows.take(refit.stopping)
    card, _ = read_bundle(source)
    if card.runtime == "numpy":
        predictor = _fit_baseline(job, card, train, stopping)
    else:
        predictor = _fit_network(job, source, train, stopping, folder)
    result = _judged(job, predictor, rows.take(refit.judged), refit)
    write_atomic(record, to_json(vars(result)))
    return result


def _check_targets(job: Job, rows: pa.Table, train: pa.Table, name: str) -> None:
    """Refuse train rows from which nothing can be learned, because their targets are all alike.

    Raises:
        InputError: other rows have other targets.
    """
    rules = base.schema(job.task).targets
    column = target_column(job)
    if len(set(rules.strata(train[column].to_pylist()))) > 1:
        return
    if len(set(rules.strata(rows[column].to_pylist()))) > 1:
        raise InputError(
            f"the {train.num_rows} train rows of {name} all have the same {column}",
            where="evaluate.folds, evaluate.learning_curve",
            remedy="ask for fewer folds, or a larger share",
        )


def target_column(job: Job) -> str:
    """Return the name of the target column."""
    schema = base.schema_of(job.task, read_manifest(job.inputs["clean"]))
    return next(role.name for role in schema.roles if role.role == "target")


def _fit_baseline(job: Job, card: Card, train: pa.Table, stopping: pa.Table) -> Predictor:
    """Return a baseline, fitted as the stage train fits it."""
    if not read_manifest(job.inputs["clean"]).get(base.HAS_GROUPS):
        # Its groups are rows that are equal or similar, which folds may divide.
        train = train.drop_columns("group")
    return fit_baseline(job, card.architecture, train, stopping, card.targets)


def _fit_network(
    job: Job, source: Path, train: pa.Table, stopping: pa.Table, folder: Path
) -> Predictor:
    """Return a network, fitted with the architecture and the params of another one.

    Args:
        job: evaluate.
        source: bundle of the other network.
        train: rows to learn from. Rows that augment made from them are added.
        stopping: rows that stop the fit.
        folder: of tokens, checkpoints and the bundle.
    """
    card, _ = read_bundle(source)
    tokens = folder / "tokens"
    if not (tokens / "manifest.json").is_file():
        _write_tokens(job, card.targets, train, stopping, tokens)
    spec = _fit_params(job, source, card, folder / "fit", tokens)
    # Curves of these fits are not curves of the run.
    fitted = fit_distributed(spec, Journal(folder / "journal.jsonl"))
    bundle = folder / "bundle"
    save_torch(bundle, spec, fitted.weights.read_bytes(), job.tags["params_hash"], card.origin)
    return load(bundle)


def _fit_params(
    job: Job, source: Path, card: Card, state: Path, tokens: Path | None = None
) -> FitConfig:
    """Return the fit of a network, with the params of train or of the search that made it.

    Args:
        job: evaluate.
        source: bundle of the network.
        card: of the network.
        state: folder of checkpoints.
        tokens: folder of encoded tables. None: those of the pipeline.
    """
    train: Any = job.sections["train"]
    augment: Any = job.sections["augment"]
    params = FitParams(**{name: getattr(train, name) for name in FitParams.model_fields})
    spec = FitConfig(
        job.task,
        tokens or job.inputs["tokens"],
        card.architecture,
        card.config,
        params,
        augment.online.model_dump(),
        job.seed,
        state,
        loss_params=base.loss_params_of(job.task, train),
    )
    return with_saved_params(spec, source.parent)


def _write_tokens(
    job: Job, targets: base.TargetInfo, train: pa.Table, stopping: pa.Table, folder: Path
) -> None:
    """Write a folder of encoded tables, as the stage tokenize does.

    Args:
        job: evaluate.
        targets: of the network.
        train: rows of clean; the encoder is fitted to them and to the rows made from them.
        stopping: rows of clean that become validation.
        folder: that is written.
    """
    manifest = read_manifest(job.inputs["tokens"])
    schema = base.schema_of(job.task, manifest)
    columns = ["id"]
    columns += [role.name for role in schema.roles if role.role in ("input", "target")]
    augmented = read_table(job.inputs["augmented"], "train")
    of_train = pc.is_in(augmented["parent"], train["id"].combine_chunks())
    added = augmented.filter(of_train).select(columns)
    learned = pa.concat_tables([train.select(columns), added])
    encoder = _encoder(job, targets, learned, schema.chosen)
    files = encoder.files()
    for name, content in files.items():
        write_atomic(folder / "encoder" / name, content)
    pretrained = job.inputs["tokens"] / PRETRAINED
    if pretrained.is_dir() and not (folder / PRETRAINED).exists():
        (folder / PRETRAINED).symlink_to(pretrained)
    metadata = {name: value for name, value in manifest.items() if name not in _OF_ROWS}
    metadata["encoder"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    parts = {
        "train": encoder.encode(learned),
        "validation": encoder.encode(stopping.select(columns)),
    }
    write_table(folder, parts, metadata)


def _encoder(
    job: Job, targets: base.TargetInfo, train: pa.Table, chosen: Mapping[str, Any]
) -> base.Encoder:
    """Return an encoder of train rows; that of the pipeline if it came with a pretrained network.

    Args:
        job: evaluate.
        targets: of the network.
        train: rows to fit it to.
        chosen: inputs of the pipeline.
    """
    tokens = job.inputs["tokens"]
    if read_manifest(tokens).get("pretrained"):
        return load_encoder(tokens, job.task)
    batches = iter(train.to_batches(max_chunksize=1000))
    params = job.sections["tokenize"]
    return base.encoding(job.task).fit(batches, targets, params, job.sections["clean"], chosen)


def _judged(job: Job, predictor: Predictor, rows: pa.Table, refit: Refit) -> RefitResult:
    """Return the results of a fit on rows that it has not learned from."""
    evaluator = base.evaluator(job.task)
    cases = list(evaluator.cases(rows, base.chosen_inputs(read_manifest(job.inputs["clean"]))))
    answers = evaluation.answer(predictor, cases)
    stats = {
        metric.name: evaluation.per_example_stats(metric, answers, cases)
        for metric in evaluator.metrics
    }
    deciding = evaluator.metrics[0]
    intervals = bootstrap.intervals(
        [deciding], stats, job.params.resamples, job.params.confidence, job.seed
    )
    interval = intervals[deciding.name]
    columns = stats[deciding.name]
    return RefitResult(
        name=refit.name,
        train_rows=len(refit.train),
        cases=len(cases),
        metrics=evaluation.compute_metrics(evaluator.metrics, stats),
        interval=list(interval) if interval else None,
        stats={name: column.tolist() for name, column in columns.items()},
    )
