"""Character n-gram TF-IDF and logistic regression: fitted by scikit-learn, kept as arrays, scored in numpy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.params import Strict
from components.fields.text import Text, Title
from components.tasks.base import Arrays, Baseline, Scorer
from components.tasks.classification.baselines import Prior, linear_arrays
from components.tasks.text_classification.schema import TextClean

_VIEWS = ("text", "title")


class Classical(Strict):
    """Knobs of the linear model."""

    ngrams: int = Field(3, ge=1, le=8)
    min_documents: int = Field(2, ge=1)
    C: float = Field(4.0, gt=0)
    text_weight: float = Field(0.5, gt=0, le=100)  # of the text's features, where a row has a title, whose weigh 1


class TextClassical(Strict):
    """Knobs of `train`."""

    classical: Classical = Classical()


def grams(text: str, longest: int) -> Counter[str]:
    """Counts of the character n-grams of 1 to `longest` characters of a normalised text, as scikit-learn cuts them."""
    folded = text.lower()
    return Counter(folded[i : i + n] for n in range(1, min(longest, len(folded)) + 1) for i in range(len(folded) - n + 1))


class TfidfLinear:
    """The classical baseline. Where rows have titles, the n-grams of these are features of their own: a title says in ten characters what a text says in a thousand."""

    def fit(
        self,
        rows: pa.Table,
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Sublinear TF-IDF (Salton and Buckley 1988), L2-normalised rows, multinomial logistic regression."""
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import normalize

        assert isinstance(options, TextClassical)
        assert isinstance(clean, TextClean)
        knobs = options.classical
        views = [name for name in _VIEWS if name in rows.column_names and any(rows[name].to_pylist())]
        vectorizers = {name: TfidfVectorizer(analyzer="char", ngram_range=(1, knobs.ngrams), min_df=knobs.min_documents, sublinear_tf=True, dtype=np.float32) for name in views}
        parts = {name: vectorizers[name].fit_transform(rows[name].to_pylist()) for name in views}
        weight = {"text": knobs.text_weight if len(views) > 1 else 1.0, "title": 1.0}
        features = normalize(hstack([parts[name] * weight[name] for name in views]).tocsr()) if len(views) > 1 else parts["text"]
        index = {name: i for i, name in enumerate(classes)}
        model = LogisticRegression(C=knobs.C, max_iter=1000, random_state=seed).fit(features, [index[name] for name in rows["label"].to_pylist()])
        arrays = linear_arrays(model, len(classes)) | {"idf": np.concatenate([vectorizers[name].idf_ for name in views]).astype(np.float32)}
        if len(views) > 1:
            sizes = [part.shape[1] for part in parts.values()]
            arrays |= {"view": np.repeat(np.arange(len(views), dtype=np.uint8), sizes), "weight": np.array([weight[name] for name in views])}
        vocabularies = {name: vectorizers[name].get_feature_names_out().tolist() for name in views}
        return arrays, {"tfidf.json": to_json({"vocabularies": vocabularies, "ngrams": knobs.ngrams, "max_characters": clean.max_characters}).encode()}

    def featuriser(self, files: Mapping[str, bytes]) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Texts and titles to ragged columns: {"columns": (nnz,), "counts": (nnz,), "offsets": (n + 1,)}."""
        facts = json.loads(files["tfidf.json"])
        column: dict[tuple[str, str], int] = {}
        vocabularies = facts.get("vocabularies") or {"text": facts["vocabulary"]}  # of a bundle from before titles
        for name, vocabulary in vocabularies.items():
            for gram in vocabulary:
                column[name, gram] = len(column)
        fields = {"text": Text(max_characters=facts["max_characters"]), "title": Title(max_characters=facts["max_characters"])}

        def features(inputs: Mapping[str, Sequence[Any]]) -> Arrays:
            columns: list[int] = []
            counts: list[int] = []
            offsets = [0]
            for row in range(len(inputs["text"])):
                for name in vocabularies:
                    found = grams(fields[name].normalise(inputs[name][row]), facts["ngrams"]) if name in inputs else {}
                    own = [(column[name, gram], count) for gram, count in found.items() if (name, gram) in column]
                    columns += [c for c, _ in own]
                    counts += [n for _, n in own]
                offsets.append(len(columns))
            return {"columns": np.array(columns, dtype=np.int64), "counts": np.array(counts, dtype=np.float64), "offsets": np.array(offsets)}

        return features

    def scorer(self, arrays: Arrays) -> Scorer:
        """Linear scores as logits (n, c)."""
        weights, idf = arrays["coefficients"].T.astype(np.float64), arrays["idf"].astype(np.float64)  # (features, c), (features,)
        view, weight = arrays.get("view", np.zeros(len(idf), np.uint8)), arrays.get("weight", np.ones(1))  # (features,) which view a feature is of, (views,)

        def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
            values = (1 + np.log(batch["counts"])) * idf[batch["columns"]]
            rows = []
            for start, end in zip(batch["offsets"], batch["offsets"][1:], strict=False):
                own, columns = values[start:end], batch["columns"][start:end]
                norms = np.sqrt(np.bincount(view[columns], own**2, len(weight)))
                own = own * (weight / np.where(norms > 0, norms, 1.0))[view[columns]]
                norm = np.sqrt((own**2).sum()) or 1.0
                rows.append(own @ weights[columns] / norm + arrays["intercept"])
            return {"logits": np.array(rows)}

        return score


class TextBaselines:
    """Facet baselines.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": TextClassical}
    baselines: Mapping[str, Baseline] = {"trivial": Prior(), "classical": TfidfLinear()}


BASELINES = TextBaselines()
