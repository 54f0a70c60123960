"""Estimate how the winner's recipe depends on the rows: k folds, and shares of the train rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.errors import InputError
from components.core.job import Job
from components.core.tables import read_manifest
from components.metrics import bootstrap
from components.stages.evaluate.refits import (
    Refit,
    RefitResult,
    rows_to_divide,
    run_refits,
    source_of,
    target_column,
)
from components.tasks import base


@dataclass(frozen=True)
class Resampling:
    """Results of further fits of the winner's recipe.

    Args:
        recipe: name of the candidate that was fitted again.
        folds: a result for each fold.
        curve: a result for each share of the train rows, the smallest first.
        gain: interval of what the last share added to the deciding metric; None without shares.
    """

    recipe: str = ""
    folds: Sequence[RefitResult] = ()
    curve: Sequence[RefitResult] = ()
    gain: tuple[float, float] | None = None


def resample(job: Job, winner: Mapping[str, Any], bundle: Path) -> Resampling:
    """Return the results of the fits that the params ask for.

    Args:
        job: evaluate.
        winner: its row of the leaderboard.
        bundle: of the winner.
    """
    if not job.params.folds and not job.params.learning_curve:
        return Resampling()
    rows = rows_to_divide(job)
    folds = _folds(job, rows)
    curve = _shares(job)
    source = source_of(job, winner, bundle)
    results = run_refits(job, source, [*folds, *curve])
    judged = results[len(folds) :]
    name = winner["name"] if source == bundle else source.parent.name
    resampling = Resampling(name, results[: len(folds)], judged, _gain(job, judged))
    metric = base.evaluator(job.task).metrics[0]
    estimate = mean_and_error([fold.metrics[metric.name] for fold in resampling.folds])
    if estimate:
        mean, error = [base.metric_text(metric, value) for value in estimate]
        job.journal.log(f"{len(folds)} folds of {name}: {metric.name} {mean} ± {error}")
    return resampling


def _gain(job: Job, curve: Sequence[RefitResult]) -> tuple[float, float] | None:
    """Return the interval of what the last share of the rows added; None with fewer than two."""
    if len(curve) < 2:
        return None
    before, last = curve[-2:]
    return bootstrap.paired_interval(
        base.evaluator(job.task).metrics[0],
        last.arrays,
        before.arrays,
        job.params.resamples,
        job.params.confidence,
        job.seed,
    )


def _folds(job: Job, rows: pa.Table) -> list[Refit]:
    """Return a fit for each fold, which is judged on the fold and never sees it.

    Of the other rows, as large a share stops the fit as validation is of train and validation.

    Args:
        job: evaluate.
        rows: of train and validation.
    """
    count = job.params.folds
    groups = len(set(rows["group"].to_pylist()))
    if groups < 2 * count:
        raise InputError(
            f"train and validation have {groups} groups of rows, too few for {count} folds",
            where="evaluate.folds",
            remedy=f"set it to at most {groups // 2}, or to 0",
        )
    validation = read_manifest(job.inputs["clean"])["parts"]["validation"]
    share = validation / rows.num_rows
    positions = group_positions(job, rows, job.seed)
    within = group_positions(job, rows, job.seed + 1)
    refits = []
    for fold in range(count):
        is_judged = (positions * count).astype(np.int64) == fold
        stops = ~is_judged & (within < share)
        train = ~is_judged & ~stops
        numbers = [np.flatnonzero(chosen) for chosen in (train, stops, is_judged)]
        refits.append(Refit(f"fold-{fold + 1}", *numbers))
    return refits


def _shares(job: Job) -> list[Refit]:
    """Return a fit for each share of the train rows, judged on validation. Shares are nested."""
    rows = rows_to_divide(job)
    train_rows = read_manifest(job.inputs["clean"])["parts"]["train"]
    positions = group_positions(job, rows.slice(0, train_rows), job.seed)
    validation = np.arange(train_rows, rows.num_rows)
    refits = []
    for share in job.params.learning_curve:
        train = np.flatnonzero(positions < share)
        if not len(train):
            raise InputError(
                f"the share {share:g} of {train_rows} train rows has no row",
                where="evaluate.learning_curve",
                remedy="ask for a larger share",
            )
        refits.append(Refit(f"share-{share:g}", train, validation, validation))
    return refits


def group_positions(job: Job, rows: pa.Table, seed: int) -> NDArray[np.float64]:
    """Return (n,) the position of each row from 0 to 1 in a random order of the groups.

    Rows of a group have one position. The groups of a stratum are spread evenly, so that any range
    of positions has a like share of each. The stratum of a group is that of its first row.

    Args:
        job: evaluate.
        rows: of clean.
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    strata = base.schema(job.task).targets.strata(rows[target_column(job)].to_pylist())
    groups = rows["group"].to_pylist()
    first: dict[Any, str] = {}
    for group, stratum in zip(groups, strata, strict=True):
        first.setdefault(group, stratum)
    members = defaultdict(list)
    for group, stratum in first.items():
        members[stratum].append(group)
    position: dict[Any, float] = {}
    for stratum in sorted(members):
        order = rng.permutation(len(members[stratum]))
        # Without it the single groups of rare strata would share one position.
        offset = rng.random()
        for group, place in zip(members[stratum], order, strict=True):
            position[group] = (place / len(order) + offset) % 1.0
    return np.array([position[group] for group in groups])


def as_json(resampling: Resampling) -> dict[str, Any]:
    """Return the results for the leaderboard: rows {"name", "train_rows", "cases", "metrics"}."""
    tables = {}
    for name, results in (("folds", resampling.folds), ("learning_curve", resampling.curve)):
        rows = []
        for result in results:
            row = {**vars(result)}
            del row["stats"]
            rows.append(row)
        tables[name] = rows
    return {"recipe": resampling.recipe, **tables, "gain": resampling.gain}


def fold_metrics(resampling: Resampling, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return metric -> {"mean", "standard_error", "fold-1", ...} for metrics.json.

    Args:
        resampling: may have no folds; then there is no metric.
        names: of the metrics.
    """
    if not resampling.folds:
        return {}
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        values = {fold.name: fold.metrics[name] for fold in resampling.folds}
        mean, error = mean_and_error(list(values.values())) or (None, None)
        result[name] = {"mean": mean, "standard_error": error, **values}
    return result


def mean_and_error(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return the mean of folds and its standard error; None without a value of each fold.

    Folds share train rows, so that the error is rather too small (Bengio and Grandvalet 2004).

    Args:
        values: of the folds.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return float(np.mean(known)), float(np.std(known, ddof=1) / np.sqrt(len(known)))
