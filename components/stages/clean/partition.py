"""What all rows together decide: which of them go, which stay together, and the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.errors import InputError
from components.stages.clean.cleaning import inputs_of, row_wise_key
from components.stages.clean.duplicates import (
    BOILERPLATE,
    OWN_SPLITS,
    STAYS,
    Rows,
    UnionFind,
    lsh_pairs,
    resolve_duplicates,
)
from components.stages.clean.params import CleanParams
from components.stages.clean.similarity_cache import SimilarityCache
from components.stages.clean.split import stratified
from components.stages.clean.usable_rows import Usable
from components.tasks import base


@dataclass(frozen=True)
class SettledRows:
    """Which rows stay, and the classes that were merged for having too few of them.

    Args:
        fates: (rows,) numbers of REASONS.
        merged: class -> its new name.
        small: rows of merged classes.
        stayed: rows that stayed before classes were merged.
    """

    dedup_status: NDArray[np.int8]
    merged: Mapping[str, str]
    small: int
    stayed: int


@dataclass(frozen=True)
class Groups:
    """Rows that stay in one split.

    Args:
        names: of the group of each row that stays.
        draws: of each group.
        pairs: similar pairs.
    """

    names: list[str]
    draws: Mapping[str, bytes]
    pairs: int


def settle_rows(rows: Usable, params: CleanParams) -> SettledRows:
    """Return which rows stay; small classes are merged in place where params say so."""
    dedup_status = _superfluous(rows, params)
    stays = dedup_status == STAYS
    merged = _small_classes(rows, dedup_status, params)
    if not merged:
        return SettledRows(dedup_status, {}, 0, int(stays.sum()))
    small = np.isin(rows.labels, [rows.names.index(name) for name in merged]) & stays
    rows.rename(merged)
    return SettledRows(_superfluous(rows, params), merged, int(small.sum()), int(stays.sum()))


def _superfluous(rows: Usable, params: CleanParams) -> NDArray[np.int8]:
    """Return which rows go, and why. Canonical evaluation rows are no boilerplate."""
    dedup_status = resolve_duplicates(rows.equal, rows.labels, rows.splits, params.conflicts)
    if params.boilerplate:
        often = np.bincount(rows.equal)[rows.equal] >= params.boilerplate
        dedup_status[often & (rows.splits < OWN_SPLITS.index("validation"))] = BOILERPLATE
    return dedup_status


def _small_classes(
    rows: Usable, dedup_status: NDArray[np.int8], params: CleanParams
) -> dict[str, str]:
    """Return the classes that are merged into `other`, by rule."""
    counts = np.bincount(rows.labels[dedup_status == STAYS], minlength=len(rows.names)).tolist()
    small = sorted(
        name
        for name, count in zip(rows.names, counts, strict=True)
        if 0 < count < params.min_rows_per_class
    )
    if params.small_classes == "refuse" or not small:
        return {}
    return dict.fromkeys(small, "other")


def group_rows(
    task: str,
    params: CleanParams,
    seed: int,
    rows: Usable,
    kept: Rows,
    memo: Cache,
) -> Groups:
    """Return the group of each row that stays.

    Near-duplicates share one, and so do rows with the same group key of the source.
    """
    schema = base.schema(task)
    clusters = UnionFind(len(kept))
    pairs = 0
    if schema.split.near_duplicates and params.near_duplicates < 1:
        key = row_wise_key(task, params, seed)
        verdicts = SimilarityCache(rows, kept, schema.fields(params), memo, key)

        def similar(name: str, one: int, other: int) -> bool:
            return verdicts.similarity(name, one, other) >= params.near_duplicates

        bands = {name: rows.bands(name, kept) for name in inputs_of(schema)}
        pairs = lsh_pairs(bands, similar, clusters)
        verdicts.keep()
    first: dict[str, int] = {}
    for position, group in rows.groups(kept):
        clusters.join(first.setdefault(group, position), position)
    roots = kept[clusters.roots()]
    names = rows.column("group", roots)
    draws = dict(zip(names, rows.column("draw", roots), strict=True))
    return Groups(names, draws, pairs)


def split_rows(
    rows: Usable,
    kept: Rows,
    groups: Groups,
    labels: Sequence[str],
    params: CleanParams,
) -> tuple[list[str], set[int]]:
    """Return the split of each row that stays: the source's own where it has splits, else ours.

    Returns:
        The splits, and the positions of train rows that leak into a canonical split.

    Raises:
        InputError: a class has too few groups, or the source names no test rows.
    """
    canonical = [OWN_SPLITS[split] for split in rows.splits[kept].tolist()]
    shares = (params.validation_share, params.test_share)
    if not any(canonical):
        return stratified(groups.names, labels, *shares, groups.draws), set()
    splits = [split or "train" for split in canonical]
    if "test" not in splits:
        raise InputError(
            "the source's split column names no test rows",
            where="ingest.columns.split",
            remedy="map no split column, so that one is made",
        )
    pairs = list(zip(groups.names, splits, strict=True))
    reserved = {group for group, split in pairs if split != "train"}
    leaking = {
        position
        for position, (group, split) in enumerate(pairs)
        if split == "train" and group in reserved
    }
    if "validation" not in splits:
        train = [
            position
            for position, split in enumerate(splits)
            if split == "train" and position not in leaking
        ]
        drawn = stratified(
            [groups.names[position] for position in train],
            [labels[position] for position in train],
            params.validation_share,
            0.001,
            groups.draws,
            # A class with one group stays in train: test rows it has of its own.
            least=1,
        )
        for position, split in zip(train, drawn, strict=True):
            splits[position] = "train" if split == "train" else "validation"
    return splits, leaking


def check_classes(
    labels: Sequence[str],
    params: CleanParams,
    causes: Sequence[str],
) -> None:
    """Refuse classes that cannot be learned, and say what took their rows.

    Args:
        labels: of the rows that stay.
        params: of clean.
        causes: a line for each thing that removed rows.

    Raises:
        InputError: fewer than two classes are left, or one has too few rows.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        left = "no row is left after cleaning"
        if counts:
            only = next(iter(counts))
            left = f"only one class is left after cleaning: {only}; a classifier needs two"
        why = "".join(f"\n     {cause}" for cause in causes)
        raise InputError(
            f"{left}{why}",
            where="clean",
            remedy="change the params that these lines name, bring rows of another class, "
            "or check ingest.columns.label",
        )
    least = params.min_rows_per_class
    small = {name: count for name, count in sorted(counts.items()) if count < least}
    if small:
        merge = ""
        if params.small_classes == "refuse":
            merge = ", or set clean.small_classes: merge"
        raise InputError(
            f"classes with fewer than {least} usable rows: {small}",
            where="clean.min_rows_per_class",
            remedy=f"bring more rows, or lower clean.min_rows_per_class{merge}",
        )


def check_train(labels: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse a source whose own splits hold a class back.

    Args:
        labels: of the train rows.
        classes: of all rows.

    Raises:
        InputError: train has no row of a class.
    """
    missing = sorted(set(classes) - set(labels))
    if missing:
        raise InputError(
            f"no train row is left of: {', '.join(missing)}",
            where="ingest.columns.split",
            remedy="bring train rows of it that validation and test do not hold, "
            "or map no split column",
        )
