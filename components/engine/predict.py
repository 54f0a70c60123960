"""A bundle that answers: the same answers in evaluate and in serve, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.bundles import Card, read_bundle
from components.engine.abstention import threshold_of
from components.tasks import base
from components.tasks.base import Arrays, Scorer

WEIGHTS, GRAPH, ARRAYS = "weights.safetensors", "model.onnx", "arrays.safetensors"


Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Prepared:
    """A query as a ragged row, ready to be scored beside others."""

    row: Mapping[str, Any]
    cost: int  # elements of the row, which padding to the longest of a batch repeats; 1 where nothing is padded


class Predictor:
    """Queries in, answers out, in one step or in two: what is prepared one by one can be scored with others of its length.

    Args:
        card: of the bundle.
        join: ragged columns to what the scorer takes.
        scorer: arrays to outputs.
        encode: raw input columns to ragged ones; None: `join` takes the raw columns, and pads nothing.
        least_confidence: answers below it are marked as not sure; None: none is.
    """

    def __init__(
        self,
        card: Card,
        join: Callable[[Columns], Arrays],
        scorer: Scorer,
        encode: Callable[[Columns], Columns] | None = None,
        least_confidence: float | None = None,
    ) -> None:
        self.least_confidence = least_confidence
        self.card, self._join, self._scorer, self._encode = card, join, scorer, encode
        self.judge = base.judge(card.task)

    def predict(self, queries: Sequence[Any]) -> Sequence[Any]:
        """One answer per query.

        Raises:
            Reject: a query's content is of no use (an empty text, bytes that are no picture).
        """
        return self.score(self.prepare(queries)) if queries else []

    def prepare(self, queries: Sequence[Any]) -> list[Prepared]:
        """One row per query. Raises `Reject`, though not yet for what `join` finds of raw columns."""
        raw = self.judge.columns(queries)
        columns = self._encode(raw) if self._encode else raw
        rows = [
            {name: column[place] for name, column in columns.items()}
            for place in range(len(queries))
        ]
        return [
            Prepared(row, sum(len(value) for value in row.values()) if self._encode else 1)
            for row in rows
        ]

    def score(self, rows: Sequence[Prepared]) -> Sequence[Any]:
        """One answer per row; at least one row. Raises `Reject`."""
        columns = {name: [each.row[name] for each in rows] for name in rows[0].row}
        answers = self.judge.answers(self._scorer, self._join(columns), self.card.classes)
        return (
            [self._or_unsure(answer) for answer in answers]
            if self.least_confidence is not None
            else answers
        )

    def _or_unsure(self, answer: Any) -> Any:
        """Return the answer, marked as not sure where it states too little."""
        confidence = self.judge.confidence(answer)
        # A confidence that is no number is not sure either.
        sure = (
            confidence is not None
            and self.least_confidence is not None
            and confidence >= self.least_confidence
        )
        return (
            answer
            if sure or not isinstance(self.judge, base.Abstains)
            else self.judge.abstain(answer)
        )

    def warm(self, query: Any) -> None:
        """Answer a query twice, so that the first client does not pay for lazy set-up."""
        for _ in range(2):
            self.predict([query])


def load(folder: Path, abstain: float | None = None) -> Predictor:
    """Verify a bundle and make it answer.

    Args:
        folder: of the bundle.
        abstain: the stated error (`serve.abstain`) above which answers are marked as not sure; None: none is.

    Raises:
        InputError: the bundle is not whole (see `components.core.bundles.read_bundle`), or its card does not tell where to abstain.
    """
    predictor = _load(folder)
    if abstain is not None:
        predictor.least_confidence = threshold_of(
            predictor.card.profile, abstain, f"serve.abstain: {abstain:g}"
        )
    return predictor


def encoder_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the encoder files of a bundle, by their own names."""
    return {
        name.removeprefix("encoder/"): content
        for name, content in files.items()
        if name.startswith("encoder/")
    }


def _load(folder: Path) -> Predictor:
    """Return a predictor that answers everything. Raises `InputError`."""
    card, files = read_bundle(folder)
    own = encoder_files(files)
    if card.runtime == "numpy":
        from safetensors.numpy import load as load_arrays

        baseline = base.baselines(card.task).baselines[card.architecture]
        return Predictor(
            card, baseline.featuriser(own), baseline.scorer(load_arrays(files[ARRAYS]))
        )
    encoder = base.encoding(card.task).load(own)
    if card.runtime == "onnx":
        return Predictor(card, encoder.collate, onnx_scorer(files[GRAPH]), encoder.rows)
    packs = base.models(card.task).architectures[card.architecture].packs
    return Predictor(
        card,
        encoder.pack if packs else encoder.collate,
        torch_scorer(_module(card, files)),
        encoder.rows,
    )


def load_module(folder: Path) -> Any:
    """The network of a torch bundle, in evaluation mode."""
    card, files = read_bundle(folder)
    return _module(card, files)


def _module(card: Card, files: Mapping[str, bytes]) -> Any:
    from safetensors.torch import load as load_tensors

    architecture = base.models(card.task).architectures[card.architecture]
    encoder = base.encoding(card.task).load(
        {
            name.removeprefix("encoder/"): content
            for name, content in files.items()
            if name.startswith("encoder/")
        }
    )
    module = architecture.build(architecture.Config.model_validate(dict(card.config)), encoder)
    module.load_state_dict(load_tensors(files[WEIGHTS]))
    return module.eval().requires_grad_(False)


def torch_scorer(module: Any) -> Scorer:
    """A torch module as graph 'forward'."""
    import torch

    def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
        with torch.inference_mode():
            return {
                "logits": module(
                    **{
                        name: torch.from_numpy(np.ascontiguousarray(value))
                        for name, value in batch.items()
                    }
                ).numpy()
            }

    return score


def onnx_scorer(graph: bytes, threads: int = 1) -> Scorer:
    """An ONNX graph as graph 'forward', on ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
        return {"logits": session.run(["logits"], {name: batch[name] for name in names})[0]}

    return score
