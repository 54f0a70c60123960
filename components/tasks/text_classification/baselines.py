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
from components.fields.text import Text
from components.tasks.base import Arrays, Baseline, Scorer
from components.tasks.classification.baselines import Prior, linear_arrays
from components.tasks.text_classification.schema import TextClean


class Classical(Strict):
    """Knobs of the linear model."""

    ngrams: int = Field(3, ge=1, le=8)
    min_documents: int = Field(2, ge=1)
    C: float = Field(4.0, gt=0)


class TextClassical(Strict):
    """Knobs of `train`."""

    classical: Classical = Classical()


def grams(text: str, longest: int) -> Counter[str]:
    """Counts of the character n-grams of 1 to `longest` characters of a normalised text, as scikit-learn cuts them."""
    folded = text.lower()
    return Counter(folded[i : i + n] for n in range(1, min(longest, len(folded)) + 1) for i in range(len(folded) - n + 1))


class TfidfLinear:
    """The classical baseline."""

    def fit(self, rows: pa.Table, classes: Sequence[str], options: BaseModel, clean: BaseModel, seed: int) -> tuple[Arrays, Mapping[str, bytes]]:
        """Sublinear TF-IDF (Salton and Buckley 1988), L2-normalised rows, multinomial logistic regression."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        assert isinstance(options, TextClassical)
        assert isinstance(clean, TextClean)
        knobs = options.classical
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, knobs.ngrams), min_df=knobs.min_documents, sublinear_tf=True, dtype=np.float32)
        features = vectorizer.fit_transform(rows["text"].to_pylist())
        index = {name: i for i, name in enumerate(classes)}
        model = LogisticRegression(C=knobs.C, max_iter=1000, random_state=seed).fit(features, [index[name] for name in rows["label"].to_pylist()])
        arrays = linear_arrays(model, len(classes)) | {"idf": vectorizer.idf_.astype(np.float32)}
        facts = {"vocabulary": vectorizer.get_feature_names_out().tolist(), "ngrams": knobs.ngrams, "max_characters": clean.max_characters}
        return arrays, {"tfidf.json": to_json(facts).encode()}

    def featuriser(self, files: Mapping[str, bytes]) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Texts to ragged columns: {"columns": (nnz,), "counts": (nnz,), "offsets": (n + 1,)}."""
        facts = json.loads(files["tfidf.json"])
        column = {gram: i for i, gram in enumerate(facts["vocabulary"])}
        field = Text(max_characters=facts["max_characters"])

        def features(inputs: Mapping[str, Sequence[Any]]) -> Arrays:
            columns: list[int] = []
            counts: list[int] = []
            offsets = [0]
            for text in inputs["text"]:
                found = [(column[gram], count) for gram, count in grams(field.normalise(text), facts["ngrams"]).items() if gram in column]
                columns += [c for c, _ in found]
                counts += [n for _, n in found]
                offsets.append(len(columns))
            return {"columns": np.array(columns, dtype=np.int64), "counts": np.array(counts, dtype=np.float64), "offsets": np.array(offsets)}

        return features

    def scorer(self, arrays: Arrays) -> Scorer:
        """Linear scores as logits (n, c)."""
        weights, idf = arrays["coefficients"].T.astype(np.float64), arrays["idf"].astype(np.float64)  # (features, c), (features,)

        def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
            values = (1 + np.log(batch["counts"])) * idf[batch["columns"]]
            rows = []
            for start, end in zip(batch["offsets"], batch["offsets"][1:], strict=False):
                own = values[start:end]
                norm = np.sqrt((own**2).sum()) or 1.0
                rows.append(own @ weights[batch["columns"][start:end]] / norm + arrays["intercept"])
            return {"logits": np.array(rows)}

        return score


class TextBaselines:
    """Facet baselines.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": TextClassical}
    baselines: Mapping[str, Baseline] = {"trivial": Prior(), "classical": TfidfLinear()}


BASELINES = TextBaselines()
