"""Classes of clean rows: small ones, conflicts, and the strata of the split."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, cast

import pyarrow as pa
from pydantic import BaseModel, Field

from components.core import escaping
from components.core.errors import InputError
from components.core.params import Strict
from components.tasks.base import Conflicts, TargetInfo

LABEL = "label"
# Class that small classes are merged into.
_OTHER = "other"
# Pairs of labels, and labels of a pair, that a message names.
_EXAMPLES = 3
# Merged classes that a message names.
_SHOWN = 10
# Names that people write where there is no label.
_MISSING = frozenset(
    (
        "n/a",
        "na",
        "n.a.",
        "nan",
        "nil",
        "none",
        "null",
        "-",
        "--",
        "?",
        "unknown",
        "missing",
        "undefined",
        "无",
        "空",
        "未知",
    )
)


class ClassClean(Strict):
    """Params of `clean` about classes."""

    conflicts: Conflicts = Field(
        "drop", description="What happens to equal inputs with different labels."
    )
    min_rows_per_class: int = Field(
        10, ge=3, description="Fewest rows of a class; small_classes says what happens below."
    )
    small_classes: Literal["refuse", "merge"] = Field(
        "refuse", description="What happens to small classes (merge: one class `other`)."
    )


class CleanLabels:
    """Rules for the labels of clean rows (clean)."""

    conflict_reason = "conflicting_labels"
    merge_reason = "merged_classes"

    def conflicts(self, options: BaseModel) -> Conflicts:
        """Return what happens to rows with equal inputs and different labels."""
        return cast(ClassClean, options).conflicts

    def describe_conflicts(self, targets: Sequence[Collection[str]], examples: str) -> str:
        """Return which labels disagree most often, and examples of the inputs."""
        pairs = Counter(" and ".join(sorted(labels)[:_EXAMPLES]) for labels in targets)
        common = pairs.most_common(_EXAMPLES)
        most = "; ".join(f"{escaping.terminal(pair)}: {count:,}" for pair, count in common)
        return f"with different labels ({most}; for example {examples}): clean.conflicts"

    def merged(self, counts: Mapping[str, int], options: BaseModel) -> Mapping[str, str]:
        """Return the small classes, which are merged into `other` where params say so."""
        params = cast(ClassClean, options)
        if params.small_classes == "refuse":
            return {}
        least = params.min_rows_per_class
        small = sorted(name for name, count in counts.items() if count < least)
        return dict.fromkeys(small, _OTHER)

    def describe_merged(self, merged: Mapping[str, str], options: BaseModel) -> str:
        """Return a line about the merged classes, with the param that changes it."""
        least = cast(ClassClean, options).min_rows_per_class
        names = ", ".join(escaping.terminal(name) for name in sorted(merged)[:_SHOWN])
        more = ""
        if len(merged) > _SHOWN:
            more = ", …"
        return (
            f"{len(merged):,} small classes are merged into '{_OTHER}' ({names}{more}), for having "
            f"fewer than {least} rows: clean.small_classes"
        )

    def doubts(self, counts: Mapping[str, int]) -> Sequence[str]:
        """Return messages about labels that may mean the same, or no label."""
        alike: dict[str, list[str]] = defaultdict(list)
        for name in sorted(counts):
            alike[_folded(name)].append(name)
        lines = []
        for names in alike.values():
            if len(names) > 1:
                listed = ", ".join(
                    f"'{escaping.terminal(name)}' {counts[name]:,}" for name in names
                )
                lines.append(
                    "labels alike but for case, width or spaces count as different classes "
                    f"({listed}): ingest.label_case: fold, or ingest.labels"
                )
        for name in sorted(counts):
            if _folded(name) in _MISSING:
                label = escaping.terminal(name)
                lines.append(
                    f"the label '{label}' of {counts[name]:,} rows counts as a class; "
                    f"if it means none: ingest.labels: {{{json.dumps(label, ensure_ascii=False)}: "
                    f"null}}"
                )
        return lines

    def check(self, targets: Sequence[str], options: BaseModel, causes: Sequence[str]) -> None:
        """Refuse rows of fewer than two classes, or with too few of a class.

        Raises:
            InputError: it says which classes are left, and a way out.
        """
        params = cast(ClassClean, options)
        counts = Counter(targets)
        if len(counts) < 2:
            raise _too_few_classes(list(counts), causes)
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

    def check_train(self, train: Collection[str], targets: Collection[str]) -> None:
        """Refuse a train split without a row of each class.

        Raises:
            InputError: it names the classes without a train row.
        """
        missing = sorted(set(targets) - set(train))
        if missing:
            raise InputError(
                f"no train row is left of: {', '.join(missing)}",
                where="ingest.columns.split",
                remedy="bring train rows of it that validation and test do not hold, "
                "or map no split column",
            )

    def strata(self, targets: Sequence[str]) -> Sequence[str]:
        """Return the class of each row: each split gets rows of each class."""
        return targets

    def too_few_groups(self, stratum: str, groups: int) -> InputError:
        """Return the error of a class that cannot be in all splits."""
        return InputError(
            f"class {stratum!r} has only {groups} independent group(s) of rows, "
            "too few for one in each split",
            where="clean",
            remedy="bring more data, or leave the class out with ingest.labels",
        )

    def describe(
        self, splits: Mapping[str, Sequence[str]], merged: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return the classes, the rows of each class in each split, and the merged classes."""
        counts = {split: Counter(labels) for split, labels in splits.items()}
        classes = sorted(set().union(*counts.values()))
        rows = {}
        for split, count in counts.items():
            rows[split] = {name: count[name] for name in classes}
        return {"classes": classes, "splits": rows, "merged_classes": dict(merged)}

    def count(self, info: TargetInfo) -> Mapping[str, int]:
        """Return the number of classes."""
        return {"classes": len(info["classes"])}

    def select(self, rows: pa.Table, manifest: Mapping[str, Any], info: TargetInfo) -> pa.Table:
        """Return the rows of the model's classes, with small classes merged as in clean."""
        merged = manifest["merged_classes"]
        labels = [merged.get(label, label) for label in rows[LABEL].to_pylist()]
        column = rows.schema.get_field_index(LABEL)
        renamed = rows.set_column(column, LABEL, pa.array(labels))
        # A class may have been removed since the model was fitted.
        remaining = set(info["classes"])
        return renamed.filter(pa.array([label in remaining for label in labels]))


def _too_few_classes(classes: Sequence[str], causes: Sequence[str]) -> InputError:
    """Return the error of rows with fewer than two classes.

    Args:
        classes: that are left.
        causes: a message for each thing that removed rows.
    """
    left = "no row is left after cleaning"
    if classes:
        left = f"only one class is left after cleaning: {classes[0]}; a classifier needs two"
    why = "".join(f"\n     {cause}" for cause in causes)
    return InputError(
        f"{left}{why}",
        where="clean",
        remedy="change the params that these lines name, bring rows of another class, "
        "or check ingest.columns.label",
    )


def _folded(name: str) -> str:
    """Return a label as a person reads it: without case, width, spaces and invisible characters."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    visible = []
    for char in folded:
        if not char.isspace() and unicodedata.category(char)[0] != "C":
            visible.append(char)
    return "".join(visible)
