"""Fit a linear model of n-grams by scikit-learn, and score it by a sparse product."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.mapped_tables import take_rows
from components.core.params import Strict
from components.core.tables import sample
from components.fields.gram_counts import (
    ANALYZERS,
    GramBlock,
    analyzer_of,
    blocks_for,
    document_frequencies,
    gram_counts,
    gram_spans,
    n_of,
)
from components.fields.text import Text
from components.tasks.base import (
    CLASSICAL,
    NO_INPUTS,
    STRENGTH,
    Arrays,
    Baseline,
    Scorer,
    TargetInfo,
)
from components.tasks.shared.baselines.classification.baselines import (
    STRENGTHS,
    Kind,
    Linear,
    LinearProblem,
    Prior,
    best_linear,
    fit_linear,
    judged_scores,
    mean_linear,
    stratified_folds,
)
from components.tasks.shared.baselines.classification.doubtful_labels import DoubtsLabels
from components.tasks.text_classification.schema import TextClean, text_normalization

_VIEWS = ("text", "title")
_FILE = "tfidf.json"
# Rows in which the letters of scripts without spaces are counted.
_SCRIPT_ROWS = 2000
# With fewer train rows an n-gram of a single row is kept too.
_FEW_ROWS = 2000
# Fewer train rows take part in the choice of params, in this number of folds.
_FOLDED_ROWS = 2000
_FOLDS = 4
# Characters of the longest n-gram that validation chooses from.
_LONGEST = (3, 4, 5)
# Weights of all classes together, of which a bundle of 16-bit floats has two bytes each.
_MOST_WEIGHTS = 40_000_000
# Up to this number, weights are stored in 32 bits.
_WIDE_WEIGHTS = 4_000_000
# Entries of the train matrix times scores: a fit takes about 40 ns of each. Up to the first bound
# all strengths are tried, up to the second the middle ones, beyond it there is one fit.
_COSTLY = 300_000_000
_VERY_COSTLY = 1_500_000_000


# Rows of each class that are learned from first, where not all rows are.
_LEAST_OF_CLASS = 50


class Classical(Strict):
    """Params of the linear model."""

    analyzer: Literal["auto", "char", "word", "mixed"] = Field(
        "auto",
        description="Units of the n-grams (auto: by the script; word: with n-grams within words).",
    )
    ngrams: int | None = Field(
        None,
        ge=1,
        le=8,
        description="Characters of the longest n-gram (null: chosen on validation).",
    )
    min_documents: int | None = Field(
        None,
        ge=1,
        description="Train rows in which an n-gram must occur (null: 2, of under 2,000 rows 1).",
    )
    rows: int = Field(100_000, ge=10, description="Most train rows that the baseline is fitted on.")
    max_features: int = Field(
        300_000,
        ge=1,
        le=10_000_000,
        description="Most n-grams; fewer where there are hundreds of classes.",
    )
    models: list[Kind] = Field(
        ["logistic", "svm", "nb_svm"],
        min_length=1,
        description="Linear models, averaged in the combination that is best on validation.",
    )
    C: float | None = Field(None, gt=0, description=STRENGTH)
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="Weights of the classes in the baseline, apart from the network's."
    )
    text_weight: float = Field(
        0.5, gt=0, le=100, description="Weight of a text's n-grams beside a title's, which weigh 1."
    )


class TextClassical(Strict):
    """Params of `train`."""

    classical: Classical = Field(Classical(), description=CLASSICAL)


@dataclass(frozen=True)
class Vocabulary:
    """The n-grams that are features.

    Args:
        blocks: their kinds.
        keys: of each view (text, title), ascending; features are numbered in this order.
        idf: of each feature (features,).
        weights: of each view.
    """

    blocks: Sequence[GramBlock]
    keys: Mapping[str, NDArray[np.int64]]
    idf: NDArray[np.float64]
    weights: Mapping[str, float]

    def groups(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return the group of each feature (features,) and the weight of each group (groups,).

        A group holds the n-grams of one analyzer in one view.

        Returns:
            (features,) number of the group; (groups,) weight.
        """
        groups = []
        for view, keys in enumerate(self.keys.values()):
            groups.append(analyzer_of(keys) + len(ANALYZERS) * view)
        weights = np.repeat([self.weights[view] for view in self.keys], len(ANALYZERS))
        return np.concatenate(groups).astype(np.uint8), weights.astype(np.float64)

    def up_to(self, longest: int) -> tuple[Vocabulary, NDArray[np.bool_]]:
        """Return the vocabulary of n-grams up to `longest` characters, and which features stay.

        Words have no such limit.

        Args:
            longest: most characters of an n-gram that stays.

        Returns:
            The smaller vocabulary; (features,) true where a feature stays.
        """
        stays = {}
        for view, keys in self.keys.items():
            is_short = n_of(keys) <= longest
            is_word = analyzer_of(keys) == ANALYZERS.index("word")
            stays[view] = is_short | is_word
        mask = np.concatenate(list(stays.values()))
        blocks = []
        for block in self.blocks:
            limit = block.longest if block.analyzer == "word" else min(block.longest, longest)
            blocks.append(replace(block, longest=limit))
        remaining = {view: keys[stays[view]] for view, keys in self.keys.items()}
        return Vocabulary(blocks, remaining, self.idf[mask], self.weights), mask

    def counts(self, columns: Mapping[str, Sequence[str]]) -> dict[str, NDArray[Any]]:
        """Return the counted features of rows, ragged.

        Args:
            columns: normalized texts by view. A view may be missing.

        Returns:
            {"columns": (nnz,), "counts": (nnz,), "offsets": (n + 1,)}.
        """
        rows = []
        features = []
        counts = []
        before = 0
        for view, keys in self.keys.items():
            if view in columns:
                grams, gram_count, offsets = gram_counts(columns[view], self.blocks, keys)
                rows.append(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
                features.append(grams + before)
                counts.append(gram_count)
            before += len(keys)
        total = len(next(iter(columns.values())))
        row = np.concatenate(rows)
        order = np.argsort(row, kind="stable")
        lengths = np.bincount(row, minlength=total)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return {
            "columns": np.concatenate(features)[order],
            "counts": np.concatenate(counts)[order].astype(np.float64),
            "offsets": offsets,
        }

    def files(
        self, normalization: Mapping[str, Any], strengths: Mapping[str, float]
    ) -> Mapping[str, bytes]:
        """Return the encoder files of a bundle.

        Args:
            normalization: of texts, `TextClean.normalization`.
            strengths: C by kind of the models that were averaged, for information.
        """
        content = {
            "blocks": [[block.analyzer, block.shortest, block.longest] for block in self.blocks],
            "keys": {view: keys.tolist() for view, keys in self.keys.items()},
            **normalization,
            "models": dict(strengths),
        }
        return {_FILE: to_json(content).encode()}


def row_values(arrays: Arrays, batch: Arrays) -> NDArray[np.float64]:
    """Return the values (nnz,) of counted features.

    They are sublinear TF-IDF (Salton and Buckley 1988). In each row the features of a group have
    the length of the group's weight, and all of them together have length 1.

    Args:
        arrays: "idf" (features,), "view" (features,) the group of each, "weight" (groups,).
        batch: "columns" and "counts" (nnz,), "offsets" (n + 1,).

    Returns:
        (nnz,) in the order of `batch["columns"]`.
    """
    columns = batch["columns"]
    offsets = batch["offsets"]
    weight = arrays["weight"]
    rows = len(offsets) - 1
    row = np.repeat(np.arange(rows), np.diff(offsets))
    frequency = 1 + np.log(batch["counts"])
    values = frequency * arrays["idf"][columns]
    # A group of a row has a number of its own.
    group = row * len(weight) + arrays["view"][columns]
    group_norms = _norms(group, values, rows * len(weight))
    scales = np.tile(weight, rows) / group_norms
    values = values * scales[group]
    row_norms = _norms(row, values, rows)
    return np.asarray(values / row_norms[row])


def _norms(
    index: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return the norms (count,) of the values (nnz,) at each index, 1 where it is zero.

    Args:
        index: (nnz,) the row or the group of each value.
        values: (nnz,) values of the features.
        count: number of rows or of groups.
    """
    squares = np.bincount(index, values**2, count)
    positive = np.where(squares > 0, squares, 1.0)
    return np.asarray(np.sqrt(positive))


def _drawn(rows: pa.Table, most: int, seed: int) -> pa.Table:
    """Return at most so many rows in their order, with rows of each class.

    A fit takes 20 kB of memory a row: 155,000 reviews of 70 characters took 3.5 GiB.

    Args:
        rows: with labels.
        most: a table with at most so many rows is returned as it is.
        seed: of the draw.
    """
    if rows.num_rows <= most:
        return rows
    order = np.random.default_rng(seed).permutation(rows.num_rows)
    codes = rows["label"].combine_chunks().dictionary_encode().indices.to_numpy()[order]
    # (rows,) how many rows of the class are drawn before.
    earlier = np.empty(len(codes), np.int64)
    for code in range(codes.max() + 1):
        of_class = np.flatnonzero(codes == code)
        earlier[of_class] = np.arange(len(of_class))
    rare_first = np.argsort(earlier >= _LEAST_OF_CLASS, kind="stable")
    return take_rows(rows, np.sort(order[rare_first[:most]]))


class TfidfLinear:
    """The classical baseline.

    Where rows have titles, their n-grams are separate features. A title often says in ten
    characters what a text says in a thousand.
    """

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,
        chosen: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, Any] = NO_INPUTS,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Fit TF-IDF and linear models of it. Without validation rows logistic regression alone.

        Args:
            rows: train rows of the clean table.
            targets: of clean, with the classes in the order of their indices.
            options: params of `train`.
            clean: params of `clean`, which bound the characters of a text.
            seed: of the folds and of the solver.
            validation: rows that choose the n-grams and the strengths.
            chosen: encoder files of an earlier fit, whose choices are taken over.

        Returns:
            The arrays of the bundle; its encoder files by name.
        """
        assert isinstance(options, TextClassical)
        assert isinstance(clean, TextClean)
        params = options.classical
        rows = _drawn(rows, params.rows, seed)
        held_out = rows.slice(0, 1) if validation is None else validation
        tables = [rows, sample(held_out, params.rows, seed)]
        classes = targets["classes"]
        vocabulary = _fit_vocabulary(rows, params, len(classes))
        raw = [vocabulary.counts(_columns(table, vocabulary)) for table in tables]
        indices = [_class_indices(table, classes) for table in tables]
        # Few train rows choose the params together with validation, unless a fit is costly.
        costly = _cost(len(raw[0]["columns"]), len(classes)) > _COSTLY
        folds: list[NDArray[np.int64]] = []
        if rows.num_rows < _FOLDED_ROWS and not costly and chosen is None:
            folds = stratified_folds(indices[0], _FOLDS, seed)

        def problem_of(mask: NDArray[np.bool_], part: Vocabulary) -> LinearProblem:
            """Return the linear problem over the features that stay.

            Args:
                mask: (features,) true where a feature of the full vocabulary stays.
                part: the vocabulary of the features that stay.
            """
            matrices = [_matrix(counts, mask, part) for counts in raw]
            return LinearProblem(
                features=matrices[0],
                target=indices[0],
                validation=matrices[1],
                validation_target=indices[1],
                classes=len(classes),
                balanced=params.class_weights == "balanced",
                seed=seed,
                folds=folds,
            )

        if chosen is not None:
            content = json.loads(chosen[_FILE])
            vocabulary, mask = vocabulary.up_to(_longest_of(content))
            strengths = content["models"]
            model = mean_linear(problem_of(mask, vocabulary), strengths)
            return _arrays(model, vocabulary), vocabulary.files(clean.normalization(), strengths)
        if validation is None:
            problem = problem_of(np.ones(len(vocabulary.idf), bool), vocabulary)
            strengths = {"logistic": params.C or _middle(STRENGTHS["logistic"])}
            model = fit_linear(problem, "logistic", strengths["logistic"])
            return _arrays(model, vocabulary), vocabulary.files(clean.normalization(), strengths)
        lengths: Sequence[int] = _LONGEST if params.ngrams is None else (params.ngrams,)
        candidates = []
        for longest in lengths[-1:] if costly else lengths:
            part, mask = vocabulary.up_to(longest)
            candidates.append((problem_of(mask, part), part))
        problem, vocabulary = _best_length(candidates, params)
        model, strengths = best_linear(problem, _strengths(problem, params))
        return _arrays(model, vocabulary), vocabulary.files(clean.normalization(), strengths)

    def featurizer(
        self,
        files: Mapping[str, bytes],
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function from texts and titles to ragged columns.

        The columns are {"columns": (nnz,), "counts": (nnz,), "offsets": (n + 1,)}.

        Args:
            files: encoder files of a bundle by name.
        """
        content = json.loads(files[_FILE])
        fields = text_normalization(content).fields()
        if "keys" not in content:
            return _string_features(content, fields)
        keys = {view: np.array(values, np.int64) for view, values in content["keys"].items()}
        blocks = [GramBlock(*block) for block in content["blocks"]]
        vocabulary = Vocabulary(blocks, keys, np.zeros(0), {})

        def features(inputs: Mapping[str, Sequence[Any]]) -> Arrays:
            """Return the counted n-grams of normalized inputs, ragged."""
            columns = {}
            for view in keys:
                if view in inputs:
                    columns[view] = [fields[view].normalize(value) for value in inputs[view]]
            return vocabulary.counts(columns)

        return features

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return linear scores as logits (n, c).

        Args:
            arrays: arrays of the bundle: "coefficients" (c, features), "intercept" (c,), "idf"
                (features,), and since there are titles "view" (features,) and "weight" (groups,).
        """
        from scipy.sparse import csr_array

        coefficients = arrays["coefficients"]
        precision = np.float64 if coefficients.dtype == np.float32 else np.float32
        weights = np.ascontiguousarray(coefficients.T, precision)
        groups = _groups(arrays)

        def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
            """Return {"logits": (n, c)} of counted n-grams."""
            values = row_values(groups, batch).astype(precision)
            shape = (len(batch["offsets"]) - 1, len(weights))
            rows = csr_array((values, batch["columns"], batch["offsets"]), shape)
            return {"logits": rows @ weights + arrays["intercept"]}

        return score

    def contributions(
        self,
        arrays: Arrays,
        files: Mapping[str, bytes],
        inputs: Mapping[str, Sequence[Any]],
        directions: NDArray[np.float64],
    ) -> Sequence[NDArray[np.float64]] | None:
        """Return the contributions of the characters of each text, without its title.

        Those of an n-gram are shared by its occurrences, and then by their characters.

        Args:
            arrays: of the bundle.
            files: encoder files. Those of an old bundle do not tell where an n-gram is.
            inputs: normalized texts and titles.
            directions: (n, c) weights of the logits.
        """
        content = json.loads(files[_FILE])
        if "keys" not in content:
            return None
        keys = np.array(content["keys"].get("text", []), np.int64)
        blocks = [GramBlock(*block) for block in content["blocks"]]
        batch = self.featurizer(files)(inputs)
        values = row_values(_groups(arrays), batch)
        coefficients = arrays["coefficients"]
        result = []
        for row, text in enumerate(inputs["text"]):
            entries = slice(batch["offsets"][row], batch["offsets"][row + 1])
            features = batch["columns"][entries]
            weights = directions[row] @ coefficients[:, features].astype(np.float64)
            # The n-grams of texts are the first features.
            contributed = np.zeros(coefficients.shape[1])
            contributed[features] = values[entries] * weights
            columns, starts, ends = gram_spans(text.lower(), blocks, keys)
            counts = np.bincount(columns, minlength=len(keys))
            shares = contributed[columns] / counts[columns] / (ends - starts)
            steps = np.zeros(len(text.lower()) + 1)
            np.add.at(steps, starts, shares)
            np.add.at(steps, ends, -shares)
            result.append(np.cumsum(steps)[:-1])
        return result


def _groups(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return what `row_values` reads. Bundles from before titles have one group."""
    idf = arrays["idf"].astype(np.float64)
    return {
        "idf": idf,
        "view": arrays.get("view", np.zeros(len(idf), np.uint8)),
        "weight": arrays.get("weight", np.ones(1)),
    }


def _longest_of(content: Mapping[str, Any]) -> int:
    """Return the characters of the longest n-gram of a fit, by its encoder file."""
    lengths = [int(longest) for analyzer, _, longest in content["blocks"] if analyzer != "word"]
    return max(lengths)


def _class_indices(rows: pa.Table, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class index of each row (n,).

    Args:
        rows: with a column "label".
        classes: names of the classes, in the order of their indices.
    """
    index = {name: position for position, name in enumerate(classes)}
    return np.array([index[label] for label in rows["label"].to_pylist()])


def _columns(rows: pa.Table, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Return the texts of the views that are features.

    Args:
        rows: of the clean table.
        vocabulary: whose views are read. A view that the rows lack is empty texts.

    Returns:
        View -> (n,) texts.
    """
    empty = [""] * rows.num_rows
    names = rows.column_names
    return {view: rows[view].to_pylist() if view in names else empty for view in vocabulary.keys}


def _fit_vocabulary(rows: pa.Table, params: Classical, classes: int) -> Vocabulary:
    """Return the n-grams of train rows that are frequent enough.

    Args:
        rows: train rows.
        params: of the linear model.
        classes: number of classes. Many classes leave room for fewer n-grams.
    """
    names = rows.column_names
    views = [name for name in _VIEWS if name in names and any(rows[name].to_pylist())]
    step = max(1, rows.num_rows // _SCRIPT_ROWS)
    sample = rows["text"].to_pylist()[::step]
    longest = params.ngrams or max(_LONGEST)
    blocks = blocks_for(params.analyzer, sample, longest)
    default_least = 2 if rows.num_rows >= _FEW_ROWS else 1
    least = params.min_documents or default_least
    affordable = max(1, _MOST_WEIGHTS // classes)
    most = min(params.max_features, affordable)
    keys = {}
    documents = {}
    for view in views:
        view_keys, frequency = document_frequencies(rows[view].to_pylist(), blocks)
        often = frequency >= min(least, frequency.max(initial=1))
        keys[view] = view_keys[often]
        documents[view] = frequency[often]
    counts = np.concatenate(list(documents.values()))
    if len(counts) > most:
        # Of equally frequent n-grams the first stay.
        by_frequency = np.argsort(-counts, kind="stable")
        stays = np.zeros(len(counts), bool)
        stays[by_frequency[:most]] = True
        counts = counts[stays]
        sizes = [len(view_keys) for view_keys in keys.values()]
        parts = np.split(stays, np.cumsum(sizes)[:-1])
        keys = {view: keys[view][part] for view, part in zip(views, parts, strict=True)}
    idf = np.log((1 + rows.num_rows) / (1 + counts)) + 1
    weights = {"text": params.text_weight if len(views) > 1 else 1.0, "title": 1.0}
    return Vocabulary(blocks, keys, idf, {view: weights[view] for view in views})


def _matrix(
    counts: Mapping[str, NDArray[Any]],
    mask: NDArray[np.bool_],
    vocabulary: Vocabulary,
) -> Any:
    """Return the values of the features that stay as a sparse matrix (n, features).

    Args:
        counts: "columns" and "counts" (nnz,), "offsets" (n + 1,), over the full vocabulary.
        mask: (all features,) true where a feature stays.
        vocabulary: of the features that stay.
    """
    from scipy.sparse import csr_array

    shape = (len(counts["offsets"]) - 1, len(mask))
    raw = csr_array((counts["counts"], counts["columns"], counts["offsets"]), shape)
    chosen = raw[:, mask] if not mask.all() else raw
    batch = {"columns": chosen.indices, "counts": chosen.data, "offsets": chosen.indptr}
    view, weight = vocabulary.groups()
    values = row_values({"idf": vocabulary.idf, "view": view, "weight": weight}, batch)
    # LIBLINEAR accepts 32-bit indices only.
    indices = chosen.indices.astype(np.int32)
    indptr = chosen.indptr.astype(np.int32)
    return csr_array((values, indices, indptr), chosen.shape)


def _best_length(
    candidates: Sequence[tuple[LinearProblem, Vocabulary]],
    params: Classical,
) -> tuple[LinearProblem, Vocabulary]:
    """Return the problem with the n-grams that serve a linear SVM of middle strength best.

    Args:
        candidates: problems with their vocabularies, from the shortest n-grams to the longest.
        params: of the linear model.
    """
    if len(candidates) == 1:
        return candidates[0]
    strength = params.C or _middle(STRENGTHS["svm"])
    scores = []
    for problem, _ in candidates:
        model = fit_linear(problem, "svm", strength)
        model_scores = judged_scores(problem, "svm", strength, model)
        scores.append(problem.score(model_scores))
    # Of equal scores the longest n-grams win.
    best = max(range(len(candidates)), key=lambda number: (scores[number], number))
    return candidates[best]


def _strengths(problem: LinearProblem, params: Classical) -> dict[Kind, Sequence[float]]:
    """Return the kinds of models and strengths to try: fewer of a large problem.

    Args:
        problem: whose size decides.
        params: of the linear model. A given C is the only strength.

    Returns:
        Kind -> values of C.
    """
    cost = _cost(problem.features.nnz, problem.classes)
    kinds = list(dict.fromkeys(params.models))
    if cost > _VERY_COSTLY:
        kinds = [kind for kind in kinds if kind == "svm"] or kinds[:1]
    result: dict[Kind, Sequence[float]] = {}
    for kind in kinds:
        strengths = STRENGTHS[kind]
        first = 1 if kind == "svm" else 2
        result[kind] = strengths
        if cost > _COSTLY:
            result[kind] = strengths[first:3]
        if cost > _VERY_COSTLY:
            result[kind] = (_middle(strengths),)
        if params.C is not None:
            result[kind] = (params.C,)
    return result


def _cost(entries: int, classes: int) -> int:
    """Return the entries that a fit reads in one pass. Each score has its own fit.

    Args:
        entries: stored entries of the train matrix.
        classes: number of classes.
    """
    # Two classes need one score.
    scores = classes if classes > 2 else 1
    return entries * scores


def _middle(strengths: Sequence[float]) -> float:
    """Return the strength that is used where none is chosen."""
    return strengths[1]


def _arrays(model: Linear, vocabulary: Vocabulary) -> Arrays:
    """Return the arrays for arrays.safetensors.

    Args:
        model: of all classes.
        vocabulary: of the features.
    """
    view, weight = vocabulary.groups()
    precision = np.float32 if model.weights.size <= _WIDE_WEIGHTS else np.float16
    return {
        "coefficients": model.weights.astype(precision),
        "intercept": model.intercept.astype(np.float32),
        "idf": vocabulary.idf.astype(np.float32),
        "view": view,
        "weight": weight,
    }


def _string_features(
    content: Mapping[str, Any],
    fields: Mapping[str, Text],
) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
    """Return the featurizer of an old bundle, which holds n-grams as strings instead of keys.

    Args:
        content: of the encoder file.
        fields: view -> the field that normalizes its texts.
    """
    column: dict[tuple[str, str], int] = {}
    # Bundles from before titles have one vocabulary.
    vocabularies = content.get("vocabularies") or {"text": content["vocabulary"]}
    for name, vocabulary in vocabularies.items():
        for gram in vocabulary:
            column[name, gram] = len(column)

    def features(inputs: Mapping[str, Sequence[Any]]) -> Arrays:
        """Return the counted n-grams of texts, ragged."""
        columns: list[int] = []
        counts: list[int] = []
        offsets = [0]
        views = [name for name in vocabularies if name in inputs]
        for row in range(len(inputs["text"])):
            for name in views:
                text = fields[name].normalize(inputs[name][row])
                for gram, count in _spelled_grams(text, content["ngrams"]).items():
                    if (name, gram) in column:
                        columns.append(column[name, gram])
                        counts.append(count)
            offsets.append(len(columns))
        return {
            "columns": np.array(columns, dtype=np.int64),
            "counts": np.array(counts, dtype=np.float64),
            "offsets": np.array(offsets),
        }

    return features


def _spelled_grams(text: str, longest: int) -> Counter[str]:
    """Return the counts of the character n-grams of 1 to `longest` characters.

    Args:
        text: normalized.
        longest: most characters of an n-gram.
    """
    folded = text.lower()
    counts: Counter[str] = Counter()
    for n in range(1, min(longest, len(folded)) + 1):
        counts.update(folded[start : start + n] for start in range(len(folded) - n + 1))
    return counts


class TextBaselines(DoubtsLabels):
    """Facet baselines.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": TextClassical}
    baselines: Mapping[str, Baseline] = {
        "trivial": Prior(),
        "classical": cast(Baseline, TfidfLinear()),
    }


BASELINES = TextBaselines()
