"""Answer queries with a bundle. evaluate and serve get the same answers from every runtime."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import ValidationError

from components.core.bundles import CARD, Card, read_bundle, read_card
from components.core.cards import MOST_BYTES, REMEDY, first_mistake
from components.core.errors import BundleError, GristmillError, ParamsError
from components.core.escaping import brief, log_line
from components.core.sandbox import MEMORY, limit_memory
from components.fields.base import Reject
from components.inference.abstention import threshold_of
from components.inference.stated_intervals import intervals_of
from components.tasks import base
from components.tasks.base import Arrays, Scorer
from components.tasks.shared.models.ensembles.models import bundle_architectures

WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
ARRAYS = "arrays.safetensors"

Entry = TypeVar("Entry")
# Parts of the messages of torch and ONNX Runtime when an allocation fails.
_OUT_OF_MEMORY = re.compile(r"bad_alloc|bad allocation|allocate memory|Failed to allocate")
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Prepared:
    """A query as a ragged row, which can be scored together with others.

    Args:
        row: the row's columns.
        cost: elements of the row, which padding to the longest row of a batch repeats. It is 1
            where nothing is padded.
    """

    row: Mapping[str, Any]
    cost: int


class Predictor:
    """Model that answers queries, in one step or in two.

    Queries that are prepared one by one can be scored together with others of their length.

    Args:
        card: of the bundle.
        join: converts ragged columns to the scorer's input.
        scorer: converts arrays to outputs.
        encode: converts raw input columns to ragged ones. None: `join` takes the raw columns, and
            pads nothing.
        least_confidence: answers below it are marked as not sure. None: none is.

    Attributes:
        intervals: those of the card, which answers state. None: they state none.
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
        self.intervals: Any = None
        self.card = card
        self._join = join
        self._scorer = scorer
        self._encode = encode
        self.evaluator = base.evaluator(card.task)

    def predict(self, queries: Sequence[Any]) -> Sequence[Any]:
        """Return one answer per query.

        Raises:
            Reject: a query's content is of no use (an empty text, bytes that are no image).
        """
        return self.score(self.prepare(queries)) if queries else []

    def prepare(self, queries: Sequence[Any]) -> list[Prepared]:
        """Return one row per query.

        Raises:
            Reject: a query's content is of no use. For raw columns `score` raises it later.
        """
        raw = self.evaluator.columns(queries)
        columns = raw
        if self._encode:
            with _panics_as_errors():
                columns = self._encode(raw)
        prepared = []
        for number in range(len(queries)):
            row = {name: column[number] for name, column in columns.items()}
            cost = sum(len(value) for value in row.values()) if self._encode else 1
            prepared.append(Prepared(row, cost))
        return prepared

    def score(self, rows: Sequence[Prepared]) -> Sequence[Any]:
        """Return one answer per row.

        Args:
            rows: at least one row.

        Raises:
            Reject: the content of a row is of no use, or the rows have different columns.
            BundleError: the model does not give one answer per row.
        """
        columns = {}
        names = rows[0].row.keys()
        if any(prepared.row.keys() != names for prepared in rows):
            raise Reject("different_columns")
        for name in names:
            columns[name] = [prepared.row[name] for prepared in rows]
        answers = self.evaluator.answers(self._scorer, self._join(columns), self.card.targets)
        if len(answers) != len(rows):
            what = f"gives {len(answers)} answers to {len(rows)} questions"
            raise BundleError(what, remedy=REMEDY)
        if self.intervals is not None:
            with_interval = cast(base.StatesIntervals, self.evaluator).with_interval
            answers = [with_interval(answer, self.intervals) for answer in answers]
        if self.least_confidence is None:
            return answers
        return [self._or_unsure(answer) for answer in answers]

    def _or_unsure(self, answer: Any) -> Any:
        """Return the answer, marked as not sure where its confidence is too low."""
        confidence = self.evaluator.confidence(answer)
        # NaN is not sure either.
        is_sure = (
            confidence is not None
            and self.least_confidence is not None
            and confidence >= self.least_confidence
        )
        if is_sure or not isinstance(self.evaluator, base.Abstains):
            return answer
        return self.evaluator.abstain(answer)

    def warm(self, query: Any) -> None:
        """Answer a query twice, so that the first client does not pay for lazy set-up."""
        for _ in range(2):
            self.predict([query])


def load(folder: Path, abstain: float | None = None, registered: str | None = None) -> Predictor:
    """Verify a bundle and return its predictor.

    Args:
        folder: of the bundle.
        abstain: the stated error (`serve.abstain`) above which answers are marked as not sure.
            None: none is.
        registered: SHA-256 of its card in the registry. None: the bundle is not registered.

    Raises:
        BundleError: it is not valid (see `components.core.bundles.read_bundle`), or no library
            can read one of its files.
        InputError: its card has no thresholds for abstention.
    """
    card, files = read_bundle(folder, registered)
    return predictor_of(card, files, folder, abstain)


def predictor_of(
    card: Card, files: Mapping[str, bytes], folder: Path, abstain: float | None = None
) -> Predictor:
    """Return the predictor of a bundle that `read_bundle` has verified. See `load`."""
    with _reading(folder):
        predictor = _predictor(card, files, folder)
    with _reading(folder / CARD, "has intervals that cannot be used"):
        predictor.intervals = intervals_of(predictor.evaluator, card.profile)
    if abstain is not None:
        predictor.least_confidence = threshold_of(
            card.profile, abstain, f"serve.abstain: {abstain:g}"
        )
    return predictor


def _predictor(card: Card, files: Mapping[str, bytes], folder: Path) -> Predictor:
    """Return a predictor that never abstains and states no intervals.

    Raises:
        BundleError: a file cannot be used.
    """
    _check_task(card, folder)
    if card.runtime == "numpy":
        return _baseline(card, files, folder)
    architecture = _lookup(bundle_architectures(card.task), card, folder)
    encoder = _encoder(card, files, folder)
    if card.runtime == "onnx":
        with _reading(folder / GRAPH):
            scorer = onnx_scorer(files[GRAPH])
    else:
        scorer = torch_scorer(_module(card, files, folder))
    join = encoder.collate
    if card.runtime == "torch" and architecture.supports_packing:
        join = encoder.pack
    return Predictor(card, join, _only_numbers(scorer, card, folder), encoder.rows)


def _baseline(card: Card, files: Mapping[str, bytes], folder: Path) -> Predictor:
    from safetensors.numpy import load as load_arrays

    baseline = _lookup(base.baselines(card.task).baselines, card, folder)
    with _reading(folder / "encoder"):
        featurize = baseline.featurizer(bundled_encoder_files(files))
    with _reading(folder / ARRAYS):
        arrays = load_arrays(files[ARRAYS])
        for name, values in arrays.items():
            _check_finite(name, bool(np.isfinite(values).all()), folder / ARRAYS)
        scorer = baseline.scorer(arrays)
    inputs = _card_inputs(card, folder)
    with _reading(folder, "has parts that do not fit each other"):
        if isinstance(baseline, base.ChecksFiles):
            baseline.check_files(arrays, bundled_encoder_files(files), inputs)
    return Predictor(card, featurize, _only_numbers(scorer, card, folder))


def load_module(folder: Path) -> Any:
    """Return the network of a torch bundle, in evaluation mode.

    Raises:
        BundleError: the bundle is not valid, or a file cannot be used.
    """
    card, files = read_bundle(folder)
    _check_task(card, folder)
    return _module(card, files, folder)


def load_module_and_encoder(folder: Path) -> tuple[Any, Any]:
    """Return the network of a torch bundle, in evaluation mode, and its encoder.

    Raises:
        BundleError: the bundle is not valid, or a file cannot be used.
    """
    card, files = read_bundle(folder)
    _check_task(card, folder)
    return _module(card, files, folder), _encoder(card, files, folder)


def _module(card: Card, files: Mapping[str, bytes], folder: Path) -> Any:
    import torch
    from safetensors.torch import load as load_tensors

    architecture = _lookup(bundle_architectures(card.task), card, folder)
    encoder = _encoder(card, files, folder)
    with _reading(folder / CARD):
        module = architecture.build(architecture.Config.model_validate(dict(card.config)), encoder)
    with _reading(folder / WEIGHTS):
        tensors = load_tensors(files[WEIGHTS])
        for name, values in tensors.items():
            _check_finite(name, bool(torch.isfinite(values).all()), folder / WEIGHTS)
        module.load_state_dict(tensors)
    return module.eval().requires_grad_(False)


def _encoder(card: Card, files: Mapping[str, bytes], folder: Path) -> Any:
    with _reading(folder / "encoder"):
        encoder = base.encoding(card.task).load(bundled_encoder_files(files))
        if encoder.targets != card.targets:
            raise BundleError(
                "has other targets than the card", where=str(folder / "encoder"), remedy=REMEDY
            )
    inputs = _card_inputs(card, folder)
    if inputs and isinstance(encoder, base.StatesInputs) and encoder.inputs != inputs:
        raise BundleError(
            "has other inputs than the card", where=str(folder / "encoder"), remedy=REMEDY
        )
    return encoder


def _card_inputs(card: Card, folder: Path) -> Mapping[str, Any]:
    """Return the inputs that a card states; empty where it states none.

    Raises:
        BundleError: they are not valid.
    """
    with _reading(folder / CARD, "has inputs that cannot be used"):
        stated = card.profile.get(base.INPUTS, base.NO_INPUTS)
        return base.schema(card.task).with_inputs(stated).chosen
    return {}


def bundled_encoder_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the encoder's files of a bundle by their names below encoder/."""
    prefix = "encoder/"
    return {
        name.removeprefix(prefix): content
        for name, content in files.items()
        if name.startswith(prefix)
    }


def _check_task(card: Card, folder: Path) -> None:
    if card.task not in base.tasks():
        raise BundleError(
            f"is of task {card.task!r}, which is not one of {', '.join(base.tasks())}",
            where=str(folder / CARD),
            remedy=REMEDY,
        )
    with _reading(folder / CARD, "is not a valid card"):
        base.schema(card.task).targets.Info.model_validate(card.targets)


def _lookup(architectures: Mapping[str, Entry], card: Card, folder: Path) -> Entry:
    if card.architecture not in architectures:
        raise BundleError(
            f"is of architecture {card.architecture!r}, which runtime {card.runtime} of "
            f"{card.task} does not have",
            where=str(folder / CARD),
            remedy=REMEDY,
        )
    return architectures[card.architecture]


def _check_finite(name: str, finite: bool, path: Path) -> None:
    if not finite:
        raise BundleError(
            f"holds NaN or infinity in {log_line(name)[:100]!r}, so no answer would be a number",
            where=str(path),
            remedy=REMEDY,
        )


def _only_numbers(scorer: Scorer, card: Card, folder: Path) -> Scorer:
    """Return a scorer that refuses outputs that cannot be answers of the card's task."""
    evaluator = base.evaluator(card.task)

    def score(graph: str, batch: Arrays) -> Arrays:
        outputs = scorer(graph, batch)
        what = evaluator.check_outputs(outputs, card.targets)
        if what:
            raise BundleError(what, where=str(folder), remedy=REMEDY)
        return outputs

    return score


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Convert a panic of Rust, a `BaseException` that would end a server, into an error."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise BundleError(f"does not answer: {brief(error)}", remedy=REMEDY) from None


@contextmanager
def _reading(path: Path, failure: str = "cannot be read") -> Iterator[None]:
    """Convert the errors of libraries into a `BundleError` that names the file.

    A panic in the Rust code of tokenizers is a `BaseException`.
    """
    try:
        yield
        return
    except ParamsError as error:
        what = log_line(error.what)
    except (GristmillError, KeyboardInterrupt, SystemExit, MemoryError, Reject):
        raise
    except KeyError as error:
        what = f"lacks {log_line(str(error))[:100]}"
    except ValidationError as error:
        what = f"{failure}: {first_mistake(error)}"
    except BaseException as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise MemoryError from None
        what = f"{failure}: {brief(error)}"
    raise BundleError(what, where=str(path), remedy=REMEDY)


def first_answers(
    folder: str, registered: str | None, abstain: float | None, queries: Sequence[str]
) -> dict[str, Any]:
    """Load a bundle and answer, for `components.core.sandbox.SandboxedCall`.

    Args:
        folder: of the bundle.
        registered: SHA-256 of its card in the registry.
        abstain: see `load`.
        queries: as JSON.

    Returns:
        {"answers", "title", "data_hash", "least_confidence"}, or {"rejected": reason} if a
        query's content is of no use.

    Raises:
        BundleError: see `load`, or the model does not answer.
    """
    where = Path(folder)
    allow_for(where, registered)
    predictor = load(where, abstain, registered)
    try:
        with _reading(where, "does not answer"):
            asked = [predictor.evaluator.Query.model_validate_json(query) for query in queries]
            answers = predictor.predict(asked)
    except Reject as reject:
        return {"rejected": reject.reason}
    return {
        "answers": [answer.model_dump(mode="json") for answer in answers],
        "title": predictor.card.title,
        "data_hash": predictor.card.data_hash,
        "least_confidence": predictor.least_confidence,
    }


def allow_for(folder: Path, registered: str | None) -> None:
    """Raise the memory limit of a process to what a large bundle needs.

    Its content is in memory as files, as tensors and as the network's parameters.
    """
    names = read_card(folder, registered).files
    size = sum((folder / name).stat().st_size for name in names if (folder / name).is_file())
    if 4 * size > MEMORY and size <= MOST_BYTES:
        limit_memory(4 * size)


def torch_scorer(module: Any) -> Scorer:
    """Return the scorer of a torch module, as graph 'forward'."""
    import torch

    def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
        with torch.inference_mode():
            inputs = {}
            for name, value in batch.items():
                inputs[name] = torch.from_numpy(np.ascontiguousarray(value))
            return {"logits": module(**inputs).numpy()}

    return score


def onnx_scorer(graph: bytes, threads: int = 1) -> Scorer:
    """Return the scorer of an ONNX graph on ONNX Runtime, as graph 'forward'."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph,
        options,
        providers=["CPUExecutionProvider"],
        # On a CPU the fused operator takes longer than the two that it replaces.
        disabled_optimizers=["SkipLayerNormFusion"],
    )
    names = [item.name for item in session.get_inputs()]

    def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
        inputs = {name: batch[name] for name in names}
        return {"logits": session.run(["logits"], inputs)[0]}

    return score
