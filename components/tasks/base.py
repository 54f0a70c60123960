"""What a task must say, in facets: one module each, so that a stage depends only on the facets that it uses.

A task is a folder `components/tasks/<task>/` of modules, each with one object:

    schema.py     SCHEMA     what the data is: roles, split, cleaning, augmenting     (ingest, clean, augment)
    encode.py     ENCODING   rows to arrays                                            (tokenize, and all that follow)
    models.py     MODELS     the architectures that fit                                (train, tune, compress, evaluate, serve)
    loss.py       LOSS       what is minimized, watched and imitated                   (train, tune, compress)
                  PRETRAINING  the same from rows without labels, where the task has a way (encoder, share hidden -> Learning)
    baselines.py  BASELINES  what a network must beat                                  (train, evaluate, serve)
    evaluator.py  EVALUATOR      query, answer, cases, metrics                             (evaluate, serve)
    defaults.py   DEFAULTS   what to measure on somebody's data, and the params that follow (gristmill new; no stage)

Each facet carries `options`: stage name -> pydantic model of the task's own knobs in that stage's section of params.yaml.
All but loss.py import without torch, so that params are validated in a second.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from components.core.errors import ParamsError
from components.fields.base import Field, Summary

if TYPE_CHECKING:
    import torch

    from components.models.base import PruningSpec

Split = Literal["train", "validation", "test", "unlabelled"]
Options = Mapping[str, type[BaseModel]]
Arrays = Mapping[str, NDArray[Any]]  # every value: (n, ...); ragged already padded, with a mask
Batch = Mapping[str, "torch.Tensor"]
Q = TypeVar("Q", bound=BaseModel)
M = TypeVar("M")
FEEDBACK = "feedback-"  # begins the ids of rows that clients labeled and a person accepted

# Descriptions of params that every task declares for itself.
ARCHITECTURE = "Architecture of the network (its params are below nets)."
NETS = "Params of each architecture."
CLASSICAL = "Classical baseline: linear models, on n-grams or on gradients and patches."
STRENGTH = "Inverse strength of the penalty (null: chosen on validation)."


# -- schema: what the data is
@dataclass(frozen=True)
class Role:
    """One column: which kind of field it is, and what it is for."""

    name: str
    field: Field
    role: Literal["input", "target", "group", "time", "meta"]
    required: bool = True


@dataclass(frozen=True)
class SplitRule:
    """How rows are divided, when the source brings no split of its own."""

    kind: Literal["stratified", "temporal", "last_per_group"]
    stratify: str | None = None
    group: str | None = None
    time: str | None = None
    near_duplicates: bool = True


Augmenter = Callable[[Mapping[str, Any], np.random.Generator], "Mapping[str, Any] | None"]


class Schema(Protocol):
    """Facet schema.py."""

    options: Options
    roles: Sequence[Role]
    split: SplitRule

    def fields(self, options: BaseModel) -> Mapping[str, Field]:
        """The fields by column name, set up with the knobs of `clean`."""

    def augmenters(self, options: BaseModel) -> Mapping[str, Augmenter]:
        """Methods that make one more train row from a row; empty when the task transforms on the fly."""


def row_key(fields: Mapping[str, Field], inputs: Sequence[str], row: Mapping[str, Any]) -> str:
    """Equal for rows whose inputs count as the same; optional inputs that are missing at the end leave no trace."""
    return "\x1f".join(fields[name].key(row[name]) for name in inputs).rstrip("\x1f")


# -- encode: rows to arrays
class Encoder(Protocol):
    """FitResult on train rows only."""

    classes: Sequence[str]

    def encode(self, rows: pa.Table) -> pa.Table:
        """n rows in, n rows out; ragged list columns."""

    def collate(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Columns of n ragged rows to padded arrays."""

    def pack(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """The same rows laid end to end with their "lengths" (n,), for architectures that take them so; as `collate` where there is no padding."""

    def rows(self, inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Raw input columns of queries to ragged rows, as `collate` takes them: normalized as in clean, then encoded. Raises `Reject`."""

    def files(self) -> Mapping[str, bytes]:
        """What goes into the bundle, below encoder/."""

    def lengths(self, rows: pa.Table) -> NDArray[np.int64]:
        """(n,) cost of each encoded row, for batching and statistics."""


@runtime_checkable
class Shortens(Protocol):
    """An Encoder that cuts rows beyond a length."""

    def losses(self, rows: pa.Table, encoded: pa.Table) -> NDArray[np.int64]:
        """Return (n,) by how much each row is longer than what was encoded of it, in the unit of `lengths`."""

    def tell(self, summary: Summary) -> str:
        """Return the cut rows as a line for people, with the param that changes it."""


class Encoding(Protocol):
    """Facet encode.py."""

    options: Options

    def fit(
        self,
        rows: Iterator[pa.RecordBatch],
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
    ) -> Encoder:
        """Fit on train rows. `clean`: the cleaning knobs, so that queries are normalized alike."""

    def load(self, files: Mapping[str, bytes]) -> Encoder:
        """The encoder from its files."""


@runtime_checkable
class BorrowsVocabulary(Protocol):
    """An Encoding that can take the vocabulary of a pretrained network instead of fitting one."""

    def pretrained_files(self, options: BaseModel, root: Path) -> Mapping[str, Path]:
        """The network's files by name, which are put beside the tokens, below pretrained/; none where the vocabulary is to be fitted."""

    def load_vocabulary(
        self,
        files: Mapping[str, Path],
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
    ) -> Encoder:
        """The encoder that goes with the network."""


# -- models: arrays to outputs
@dataclass(frozen=True)
class Graph:
    """A module with named inputs and outputs, for export and for runtimes."""

    module: torch.nn.Module
    inputs: Mapping[str, tuple[int | str, ...]]  # a str is a dynamic axis
    outputs: Sequence[str]


class Architecture(Protocol):
    """A network by name: config in, module out."""

    Config: type[BaseModel]
    supports_packing: bool  # takes rows laid end to end, without padding

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh network; the caller has seeded torch."""

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """{'forward': ...}."""

    def pruning_spec(self) -> PruningSpec:
        """How the net can be cut."""


@runtime_checkable
class UsesPretrainedWeights(Protocol):
    """An Architecture that starts from the weights of a pretrained network."""

    def check(self, config: BaseModel, encoder: Encoder) -> None:
        """Refuse what cannot be fitted here, before anything long begins. Raises `GristmillError`."""

    def weights(self, tokens: Path) -> Mapping[str, torch.Tensor]:
        """By the names of `build`'s module, without a head."""


@runtime_checkable
class Pretrains(Protocol):
    """An Architecture that can learn from rows without their labels."""

    def masked(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module with a head that guesses what is hidden, for the facet's PRETRAINING; it keeps the weights of the module without its head."""


@runtime_checkable
class NeedsCorpusPass(Protocol):
    """An Architecture that goes through the train rows once before it learns: what occurs in them, and how often."""

    def count(self, module: torch.nn.Module, batches: Iterator[Batch]) -> None:
        """Rows laid end to end, as `Encoder.pack` gives them, with their "target"."""


class Models(Protocol):
    """Facet models.py."""

    options: Options
    architectures: Mapping[str, Architecture]


# -- loss: outputs to learning
@dataclass(frozen=True)
class Loss:
    """A sum and what it is a sum over, so that accumulation and DDP weigh rows rightly."""

    total: torch.Tensor  # ()
    count: torch.Tensor  # ()
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    """What is minimized, beyond the plain loss."""

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0


class Learning(Protocol):
    """Facet loss.py."""

    monitored_metric: (
        str  # a name of `compute`; cheap, each epoch; steers early stopping and search
    )
    watch_goal: Literal["min", "max"]

    def loss(self, module: torch.nn.Module, batch: Batch, objective: Objective) -> Loss:
        """The training loss of one micro-batch; "weight" (n,), where the batch has it, weighs the rows."""

    def distillation_loss(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        batch: Batch,
        temperature: float,
        weight: float,
    ) -> Loss:
        """The distillation loss (Hinton et al. 2015) from logits (n, c) of student and teacher."""

    def transform(self, batch: Batch, rng: torch.Generator, options: BaseModel) -> Batch:
        """On the fly, train only."""

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Sums over a validation batch that add up across batches and workers."""

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Added-up tallies to figures; holds `monitored_metric`."""


# -- baselines: what a network must beat
class Scorer(Protocol):
    """Named graphs, whatever runs them: torch, ONNX Runtime, numpy."""

    def __call__(self, graph: str, batch: Arrays) -> Arrays: ...


class Baseline(Protocol):
    """A model without a network: arrays in safetensors, scored in numpy."""

    def fit(
        self,
        rows: pa.Table,
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,
        chosen: Mapping[str, bytes] | None = None,
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Return arrays (they go to arrays.safetensors) and encoder files, from train rows of clean.

        Args:
            rows: of train.
            classes: the answers, in the order of the logits.
            options: the params of `train`.
            clean: the params of `clean`.
            seed: of every random choice.
            validation: rows that choose what the params leave open, such as the strength of a
                penalty. They never become training rows. None: the stated defaults are taken.
            chosen: encoder files of an earlier fit, whose choices are taken: nothing is chosen anew.
        """

    def featurizer(
        self, files: Mapping[str, bytes]
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """From the encoder files: raw input columns to what `scorer` takes. Raises `Reject` for bad content."""

    def scorer(self, arrays: Arrays) -> Scorer:
        """Graph 'forward' -> {'logits': (n, c)}."""


class Baselines(Protocol):
    """Facet baselines.py: 'trivial' and 'classical'."""

    options: Options
    baselines: Mapping[str, Baseline]


# -- judge: learning to judgement
class Metric(Protocol):
    """A figure over any subset of cases: slices, bootstrap intervals and paired tests for all."""

    name: str
    goal: Literal["min", "max"]

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Sufficient statistics of one case."""

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """The figure over a subset (cases,) of the statistics."""


@dataclass(frozen=True)
class Case(Generic[Q]):
    """One thing to be judged."""

    id: str
    query: Q
    truth: Any
    slices: Mapping[str, str]


class TaskEvaluator(Protocol):
    """Facet evaluator.py."""

    options: Options
    Query: type[BaseModel]
    Answer: type[BaseModel]
    metrics: Sequence[Metric]  # the first decides

    def cases(self, rows: pa.Table) -> Iterator[Case[Any]]:
        """The cases of a split of clean."""

    def query(self, row: Mapping[str, Any]) -> Any:
        """A query from the input columns of a row. Raises pydantic's `ValidationError` for what no client may ask."""

    def read(self, argument: str) -> Any:
        """A query from a word of the command line: the text itself, or a file's path."""

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Queries to raw input columns, as `Encoder.rows` and `Baseline.featurizer` take them. Raises `Reject` for bad content."""

    def answers(self, scorer: Scorer, batch: Arrays, classes: Sequence[str]) -> Sequence[Any]:
        """Score and put into words: one `Answer` per query."""

    def is_correct(self, answer: Any, truth: Any) -> bool:
        """Whether an answer counts as correct: for paired tests and the list of mistakes."""

    def confidence(self, answer: Any) -> float | None:
        """The probability that the answer states for being right; None where answers state none."""

    def output_distance(self, one: Any, other: Any) -> float:
        """How far apart two answers to one query are: 0 for the same, NaN where one holds no number, small where only rounding differs, even if that tips a tie."""

    def show(self, case: Case[Any]) -> str:
        """The query for a person, as HTML."""

    def example(self, rows: pa.Table) -> Sequence[Any]:
        """A few queries to try."""


@runtime_checkable
class Abstains(Protocol):
    """A Judge whose answers can say "not sure"."""

    def abstain(self, answer: Any) -> Any:
        """Return the answer marked as not sure; what it would have said stays in it."""


@runtime_checkable
class Explains(Protocol):
    """A Judge that can say which parts of a query mattered, by leaving each out (occlusion: Zeiler and Fergus 2014, arXiv:1311.2901)."""

    def parts(self, query: Any, limit: int) -> Sequence[str]:
        """The query cut into at most `limit` pieces, which together are all of it."""

    def without(self, query: Any, parts: Sequence[str], place: int) -> Any:
        """The query without one of its pieces; where nothing of use is left, one that is rejected when it is asked."""

    def support(self, answer: Any, label: str) -> float:
        """How much an answer speaks for a label, on a scale where differences mean the same everywhere (log-odds)."""


# -- defaults: data to params
@dataclass(frozen=True)
class Setting:
    """One value of params.yaml that the data decided."""

    # dotted: clean.size, train.nets.textcnn.width
    path: str
    value: Any
    # a few words, which become the comment behind the value: all pictures are 28 x 28
    reason: str


class Defaults(Protocol[M]):
    """Facet defaults.py: from raw rows to measurements, from measurements to params.

    `gristmill new` calls the methods in this order. It shows `describe` to the person.
    It writes the defaults of all models with `settings` in their places, the later of two
    settings for one path, and checks the result as `gristmill run` does. Then it shows
    what these params lose.
    """

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> M:
        """Return what the choices depend on, from one pass over the rows.

        Args:
            rows: raw rows, as ingest keeps them: inputs and target by the names of the schema.
                There may be 100,000 of them, so no more than a sample may be held.
            total: rows of the whole source. It is more than were read where the source is
                larger than that.
        """

    def describe(self, measured: M) -> Sequence[tuple[str, str]]:
        """Return lines for a person: what was measured, and the result."""

    def check(self, measured: M) -> None:
        """Refuse data that this task cannot learn from.

        Raises:
            InputError: it says what the data seem to be, and a way out.
        """

    def settings(self, measured: M) -> Sequence[Setting]:
        """Return the params that these data need, with reasons. The order is that of params.yaml."""

    def losses(self, measured: M, params: Mapping[str, Any]) -> Sequence[str]:
        """Return what the params cut, shrink or leave out, with the key that changes it.

        Args:
            measured: the data.
            params: the tree of params.yaml.
        """


# -- finding them
def tasks() -> list[str]:
    """The ids of the tasks: folders beside this file that have a schema."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/schema.py"))


def _facet(task: str, module: str, name: str) -> Any:
    if task not in tasks():
        raise ParamsError(
            f"{task!r} is not one of {', '.join(tasks())}",
            where="params.yaml: task",
            remedy="set task to one of these",
        )
    return getattr(importlib.import_module(f"components.tasks.{task}.{module}"), name)


def schema(task: str) -> Schema:
    """The facet schema.py of a task."""
    return cast(Schema, _facet(task, "schema", "SCHEMA"))


def encoding(task: str) -> Encoding:
    """The facet encode.py of a task."""
    return cast(Encoding, _facet(task, "encode", "ENCODING"))


def models(task: str) -> Models:
    """The facet models.py of a task."""
    return cast(Models, _facet(task, "models", "MODELS"))


def learning(task: str) -> Learning:
    """The facet loss.py of a task."""
    return cast(Learning, _facet(task, "loss", "LOSS"))


def pretraining(task: str) -> Callable[[Encoder, float], Learning]:
    """The self-supervised part of the facet loss.py of a task that has one: from an encoder and the share that is hidden."""
    return cast(Callable[[Encoder, float], Learning], _facet(task, "loss", "PRETRAINING"))


def baselines(task: str) -> Baselines:
    """The facet baselines.py of a task."""
    return cast(Baselines, _facet(task, "baselines", "BASELINES"))


def evaluator(task: str) -> TaskEvaluator:
    """The facet evaluator.py of a task."""
    return cast(TaskEvaluator, _facet(task, "evaluator", "EVALUATOR"))


def defaults(task: str) -> Defaults[Any]:
    """Return the facet defaults.py of a task."""
    return cast("Defaults[Any]", _facet(task, "defaults", "DEFAULTS"))
