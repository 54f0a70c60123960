"""Keep the trees of LightGBM as plain arrays, check them, and score with them.

A bundle may come from anywhere, and LightGBM reads and follows a broken model without a check.
So no text of a bundle reaches it: the arrays are checked, and its text is written from them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightgbm import Booster

# Bits of a split in LightGBM's text, by name.
_IS_CATEGORY = 1
_MISSING = 0b1100
_LARGEST_KIND = 0b1011
# Bits of a word of a category set.
_WORD = 32
# Limits of what a bundle may hold.
MOST_NODES = 50_000_000
MOST_OUTPUTS = 10_000
MOST_FEATURES = 100_000
# Arguments of LightGBM's C interface.
_FLOAT64 = 1
_ROW_MAJOR = 1
_RAW_SCORE = 1
_FIRST_ROUND = 0
_ALL_ROUNDS = -1
_SETTINGS = b"num_threads=1 predict_disable_shape_check=true"
# What an infinite threshold becomes, by which only missing values are split off.
_LARGEST_THRESHOLD = np.finfo(np.float64).max

_TYPES: Mapping[str, type[Any]] = {
    "leaves": np.int32,
    "sets": np.int32,
    "feature": np.int32,
    "kind": np.uint8,
    "threshold": np.float64,
    "left": np.int32,
    "right": np.int32,
    "gain": np.float32,
    "value": np.float64,
    "set_sizes": np.int32,
    "words": np.uint32,
}


@dataclass(frozen=True)
class Trees:
    """Decision trees in flat arrays, one tree after the other.

    A tree with l leaves has l - 1 splits. A child is the number of a split of the same tree, or
    -1 - l for leaf l. A split after its parent has a larger number.

    Args:
        leaves: (t,) number of leaves of each tree. Tree i adds to score i modulo their number.
        sets: (t,) number of category sets of each tree.
        feature: (s,) number of the feature that each split looks at.
        kind: (s,) bit 0: the split is by a set of categories; bit 1: missing values go left;
            bits 2 and 3: values that count as missing (0: none, 1: zero, 2: NaN).
        threshold: (s,) values up to it go left, or the number of the category set in the tree.
        left: (s,) child on the left.
        right: (s,) child on the right.
        gain: (s,) how much of the loss the split removed on train rows.
        value: (sum of leaves,) what a leaf adds.
        set_sizes: (sum of sets,) number of words of each category set.
        words: (sum of set_sizes,) the sets, each category one bit. Its members go left.
    """

    leaves: NDArray[np.int32]
    sets: NDArray[np.int32]
    feature: NDArray[np.int32]
    kind: NDArray[np.uint8]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    gain: NDArray[np.float32]
    value: NDArray[np.float64]
    set_sizes: NDArray[np.int32]
    words: NDArray[np.uint32]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Trees:
        """Return the trees in the arrays of a bundle, unchecked.

        Args:
            arrays: name -> array.
            prefix: of the names.

        Raises:
            ValueError: an array is missing, or is of another type or shape.
        """
        found = {}
        for name, kind in _TYPES.items():
            values = arrays.get(prefix + name)
            if values is None:
                raise ValueError(f"there is no array {prefix + name}")
            if values.dtype != kind or values.ndim != 1:
                raise ValueError(f"array {prefix + name} is not one row of {np.dtype(kind)}")
            found[name] = values
        return cls(**found)

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, for a bundle.

        Args:
            prefix: of the names.
        """
        return {prefix + item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def by_category(self) -> NDArray[np.bool_]:
        """Return (s,) whether each split is by a set of categories."""
        return (self.kind & _IS_CATEGORY) > 0

    def scaled(self, factor: float) -> Trees:
        """Return the trees with all they add multiplied by a factor."""
        return replace(self, value=self.value * factor)

    def importance(self, features: int) -> NDArray[np.float64]:
        """Return (features,) the sum of the gains of the splits at each feature."""
        return np.bincount(self.feature, self.gain, features).astype(np.float64)

    def check(self, features: int, outputs: int) -> None:
        """Refuse trees that LightGBM cannot follow to a leaf.

        Args:
            features: number of features that a row has.
            outputs: number of scores that a row gets.

        Raises:
            ValueError: the trees are broken; it says how.
        """
        if not 1 <= features <= MOST_FEATURES or not 1 <= outputs <= MOST_OUTPUTS:
            raise ValueError("the number of features or of scores is out of range")
        if len(self.leaves) % outputs or len(self.leaves) != len(self.sets):
            raise ValueError("the number of trees does not fit the number of scores")
        self._check_lengths()
        self._check_splits(features)
        self._check_children()
        self._check_sets()

    def _check_lengths(self) -> None:
        """Refuse arrays whose lengths do not fit each other."""
        for counts, least in ((self.leaves, 1), (self.sets, 0), (self.set_sizes, 1)):
            if len(counts) and (counts.min() < least or counts.max() > MOST_NODES):
                raise ValueError("a tree has an impossible number of leaves or of category sets")
        leaves = int(self.leaves.sum(dtype=np.int64))
        splits = leaves - len(self.leaves)
        per_split = (self.feature, self.kind, self.threshold, self.left, self.right, self.gain)
        lengths_fit = (
            leaves <= MOST_NODES
            and len(self.value) == leaves
            and all(len(values) == splits for values in per_split)
            and len(self.set_sizes) == self.sets.sum(dtype=np.int64)
            and len(self.words) == self.set_sizes.sum(dtype=np.int64)
        )
        if not lengths_fit:
            raise ValueError("the arrays of the trees differ in length")

    def _check_splits(self, features: int) -> None:
        """Refuse splits with a wrong feature, kind or threshold, and numbers that are not finite.

        Args:
            features: number of features that a row has.
        """
        if not all(np.isfinite(v).all() for v in (self.value, self.threshold, self.gain)):
            raise ValueError("a number of the trees is not finite")
        if len(self.feature) and not 0 <= self.feature.min() <= self.feature.max() < features:
            raise ValueError("a split is by a feature that there is not")
        if (self.kind > _LARGEST_KIND).any():
            raise ValueError("a split is of an unknown kind")

    def _check_children(self) -> None:
        """Refuse trees in which a split or a leaf has not exactly one parent, or a larger one."""
        splits = self.leaves - 1
        tree = np.repeat(np.arange(len(splits)), splits)
        first_split = np.repeat(np.cumsum(splits) - splits, splits)
        first_leaf = np.cumsum(self.leaves) - self.leaves
        number = np.arange(len(tree)) - first_split
        split_parents = np.zeros(len(tree), np.int64)
        leaf_parents = np.zeros(len(self.value), np.int64)
        for child in (self.left, self.right):
            is_leaf = child < 0
            leaf = -1 - child.astype(np.int64)
            if (leaf >= self.leaves[tree]).any():
                raise ValueError("a split has a leaf that there is not")
            if (~is_leaf & ((child <= number) | (child >= splits[tree]))).any():
                raise ValueError("a split has a child that is not after it in its tree")
            inner = (child + first_split)[~is_leaf]
            outer = (leaf + first_leaf[tree])[is_leaf]
            split_parents += np.bincount(inner, minlength=len(split_parents))
            leaf_parents += np.bincount(outer, minlength=len(leaf_parents))
        has_parent = self.leaves > 1
        if not (split_parents == (number > 0)).all():
            raise ValueError("a split of a tree is not reached by one path")
        if not (leaf_parents == np.repeat(has_parent, self.leaves)).all():
            raise ValueError("a leaf of a tree is not reached by one path")

    def _check_sets(self) -> None:
        """Refuse splits by a category set that their tree has not."""
        tree = np.repeat(np.arange(len(self.leaves)), self.leaves - 1)
        by_set = self.by_category
        number = self.threshold[by_set]
        exists = (number >= 0) & (number < self.sets[tree[by_set]]) & (number % 1 == 0)
        if not exists.all():
            raise ValueError("a split is by a set of categories that there is not")

    def text(self, features: int, outputs: int) -> str:
        """Return the model in LightGBM's text format, without an objective.

        Args:
            features: number of features that a row has.
            outputs: number of scores that a row gets.
        """
        blocks = [
            "tree",
            "version=v4",
            f"num_class={outputs}",
            f"num_tree_per_iteration={outputs}",
            "label_index=0",
            f"max_feature_idx={features - 1}",
            "feature_names=" + " ".join(f"f{number}" for number in range(features)),
            "feature_infos=" + " ".join(["none"] * features),
            "",
        ]
        split = leaf = bound = word = 0
        for number, (leaves, sets) in enumerate(zip(self.leaves, self.sets, strict=True)):
            splits = slice(split, split + leaves - 1)
            sizes = self.set_sizes[bound : bound + sets]
            size = int(sizes.sum())
            block = [
                f"Tree={number}",
                f"num_leaves={leaves}",
                f"num_cat={sets}",
                f"split_feature={_joined(self.feature[splits])}",
                f"threshold={_joined(self.threshold[splits])}",
                f"decision_type={_joined(self.kind[splits])}",
                f"left_child={_joined(self.left[splits])}",
                f"right_child={_joined(self.right[splits])}",
                f"leaf_value={_joined(self.value[leaf : leaf + leaves])}",
            ]
            if sets:
                bounds = np.concatenate([[0], np.cumsum(sizes)])
                block.append(f"cat_boundaries={_joined(bounds)}")
                block.append(f"cat_threshold={_joined(self.words[word : word + size])}")
            blocks += [*block, "is_linear=0", "shrinkage=1", "", ""]
            split += leaves - 1
            leaf += leaves
            bound += sets
            word += size
        return "\n".join([*blocks, "end of trees", ""])

    def scorer(self, features: int, outputs: int) -> Callable[[Any], NDArray[np.float64]]:
        """Return a function from rows (n, features) to scores (n, outputs), in one thread.

        Args:
            features: number of features that a row has.
            outputs: number of scores that a row gets.

        Raises:
            ValueError: the trees are broken.
        """
        self.check(features, outputs)
        if not len(self.leaves):
            return lambda rows: np.zeros((len(rows), outputs))
        from lightgbm import Booster

        booster = Booster(model_str=self.text(features, outputs))
        return lambda rows: _raw_scores(booster, rows, outputs)


def _raw_scores(booster: Booster, rows: NDArray[np.float64], outputs: int) -> NDArray[np.float64]:
    """Return scores (n, outputs) of rows (n, features), by LightGBM's C interface.

    `Booster.predict` does the same. But it writes its settings anew for each call, and asks three
    times for sizes that are known here, which takes a quarter of the time of one row.
    """
    from lightgbm.basic import _LIB, _safe_call

    matrix = np.ascontiguousarray(rows, np.float64)
    scores = np.empty((len(matrix), outputs))
    _safe_call(
        _LIB.LGBM_BoosterPredictForMat(
            booster._handle,
            ctypes.c_void_p(matrix.ctypes.data),
            _FLOAT64,
            *matrix.shape,
            _ROW_MAJOR,
            _RAW_SCORE,
            _FIRST_ROUND,
            _ALL_ROUNDS,
            _SETTINGS,
            ctypes.byref(ctypes.c_int64()),
            ctypes.c_void_p(scores.ctypes.data),
        )
    )
    return scores


def _joined(values: NDArray[Any]) -> str:
    """Return numbers with spaces between, exactly as precise as they are."""
    return " ".join(map(repr, values.tolist()))


def joined_trees(parts: Sequence[Trees]) -> Trees:
    """Return all trees of some models, whose scores add up.

    Args:
        parts: models with the same number of features and of scores.
    """
    joined = {}
    for name, kind in _TYPES.items():
        joined[name] = np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])
    return Trees(**joined)


def parse_trees(text: str) -> Trees:
    """Return the trees of a model that LightGBM wrote in this process.

    Args:
        text: of `Booster.model_to_string`.
    """
    trees = [_parse_tree(block) for block in text.split("\nTree=")[1:]]
    return joined_trees(trees)


def _parse_tree(block: str) -> Trees:
    """Return one tree.

    Args:
        block: its lines "name=numbers", up to an empty one.
    """
    values: dict[str, list[str]] = {}
    for line in block.split("\n\n")[0].splitlines()[1:]:
        name, _, numbers = line.partition("=")
        values[name] = numbers.split()
    leaves = int(values["num_leaves"][0])
    sets = int(values["num_cat"][0])
    bounds = np.array(values.get("cat_boundaries", ["0"]), np.int32)
    columns = {
        "leaves": [leaves],
        "sets": [sets],
        "feature": values["split_feature"],
        "kind": values["decision_type"],
        "threshold": values["threshold"],
        "left": values["left_child"],
        "right": values["right_child"],
        "gain": values["split_gain"],
        "value": values["leaf_value"],
        "set_sizes": np.diff(bounds),
        "words": values.get("cat_threshold", []),
    }
    if leaves == 1:
        for name in ("feature", "kind", "threshold", "left", "right", "gain"):
            columns[name] = []
    arrays = {name: np.array(columns[name], kind) for name, kind in _TYPES.items()}
    arrays["threshold"] = arrays["threshold"].clip(-_LARGEST_THRESHOLD, _LARGEST_THRESHOLD)
    return Trees(**arrays)
