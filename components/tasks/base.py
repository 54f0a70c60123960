"""Define the interfaces of a task, its facets: one module each.

So a stage depends only on the facets that it uses. A task is a folder `components/tasks/<task>/`
of modules with one object each:

    schema.py     SCHEMA       the data: roles, targets, split, cleaning, augmenting
                               (ingest, clean, augment)
    encode.py     ENCODING     rows to arrays (tokenize, and all stages after it)
    models.py     MODELS       the architectures (train, tune, compress, evaluate, serve)
    loss.py       LOSS         losses and the monitored metric (train, tune, compress)
                  PRETRAINING  the same from rows without labels, where the task supports it
                               (encoder, share that is masked -> Learning)
    baselines.py  BASELINES    what a network must beat (train, evaluate, serve)
    evaluator.py  EVALUATOR    query, answer, cases, metrics (evaluate, serve)
                               with three parts: `report` (evaluate), `gates` (serve, registry)
                               and `feedback` (serving, monitoring)
    defaults.py   DEFAULTS     measurements of a user's data, and the params that follow
                               (gristmill new; no stage)

Each facet, and the schema's `targets`, has `options`: stage name -> pydantic model of the task's
own params in that stage's section of params.yaml. All but loss.py import without torch, so that
params are validated in a second.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from components.core.errors import InputError, ParamsError
from components.core.significant_digits import significant_digits
from components.fields.base import Field, Summary

if TYPE_CHECKING:
    import torch

    from components.core.svg import Plot
    from components.models.base import PruningSpec

Split = Literal["train", "validation", "test", "unlabelled"]
Options = Mapping[str, type[BaseModel]]
# What a model must know of the target column, as JSON, such as {"classes": [...]}. Clean writes
# it into its manifest, and each bundle's card has it.
TargetInfo = Mapping[str, Any]
# Statistics of n cases by name, each (n,), from which metrics and comparisons are computed.
CaseStats = Mapping[str, Sequence[Any]]
# Each array is (n, ...). Ragged columns are padded with a mask, or packed.
Arrays = Mapping[str, NDArray[Any]]
Batch = Mapping[str, "torch.Tensor"]
Q = TypeVar("Q", bound=BaseModel)
M = TypeVar("M")
# Prefix of the ids of rows whose target a client sent and a person accepted.
FEEDBACK = "feedback-"
# Entry of manifests with the inputs that a pipeline chose.
INPUTS = "inputs"
NO_INPUTS: Mapping[str, Any] = MappingProxyType({})
# Entry of clean's manifest: rows with equal inputs are cases of their own, in several splits.
ROWS_ARE_CASES = "rows_are_cases"
# Entry of clean's manifest: the source names groups of rows, beside rows that are alike.
HAS_GROUPS = "has_groups"
# The slice of these rows among the cases.
FEEDBACK_SLICE = "from: feedback"
# Kinds of slices that tasks make of targets and ids.
_OWN_SLICES = frozenset(("class", "from"))

# Descriptions of params that every task declares for itself.
ARCHITECTURE = "Architecture of the network (its params are below nets)."
NETS = "Params of each architecture."
CLASSICAL = "Classical baseline: linear models, on n-grams or on gradients and patches."
STRENGTH = "Inverse strength of the penalty (null: chosen on validation)."


# -- schema: what the data is
@dataclass(frozen=True)
class Role:
    """One column: its kind of field, and its role.

    Args:
        name: of the column.
        field: its kind.
        role: what the task uses it for.
        required: whether the source must have the column.
        nullable: whether a row may lack a value where the source must have the column.
    """

    name: str
    field: Field
    role: Literal["input", "target", "group", "time", "meta"]
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True)
class SplitRule:
    """Rule by which rows are split, when the source has no split of its own.

    The strata are those of `TargetRules.strata`.
    """

    kind: Literal["stratified", "temporal", "last_per_group"]
    group: str | None = None
    time: str | None = None
    near_duplicates: bool = True


Augmenter = Callable[[Mapping[str, Any], np.random.Generator], "Mapping[str, Any] | None"]


@dataclass(frozen=True)
class TargetWords:
    """Nouns for the target in messages about a source. They take the article "a".

    Args:
        value: one value, such as "label".
        values: several values.
        category: what the rows of one value form, such as "class": a folder, a file, a column.
        categories: several of them.
    """

    value: str = "value"
    values: str = "values"
    category: str = "value"
    categories: str = "values"

    @property
    def outside(self) -> str:
        """Return the reason for which a file is refused that lies in no folder of a category."""
        return f"in_no_{self.category}_folder"


# Words that fit the target of any task.
ANY_TARGET = TargetWords()


class ValueMap(Protocol):
    """Conversion of the target's values as a source writes them, by the params of `ingest`."""

    def unwrap(self, value: Any) -> Any:
        """Return the value in a list of one; other values are returned unchanged.

        Raises:
            Reject: the row has several values, and the task learns one.
        """

    def apply(self, text: str) -> str | None:
        """Return the value for a text of the source; None where it stands for no value."""

    def cache_key(self) -> Sequence[Any]:
        """Return what the conversion depends on, as JSON."""


Conflicts = Literal["drop", "majority", "keep", "keep_all"]


class TargetRules(Protocol):
    """Rules for the target column, as part of the facet schema.py.

    A target is a value of the role's field: the name of a class, a number, a text.

    Attributes:
        Info: model of the task's `TargetInfo`, which validates cards from outside.
        options: stage name -> model of the params of these rules in that stage's section. Those
            of `clean` concern all rows together: `Schema.fields` reads none of them.
        conflict_reason: short stable name of the rows that `conflicts` drops, in the quarantine
            and the reports.
        merge_reason: short stable name of the rows that `merged` changes, in the reports.
        words: for messages about a source.
        remedies: reason for which `value_map` refuses rows -> what to do if it refuses them all.
    """

    Info: type[BaseModel]
    words: TargetWords
    remedies: Mapping[str, str]
    options: Options
    conflict_reason: str
    merge_reason: str

    def value_map(self, options: BaseModel) -> ValueMap | None:
        """Return the conversion of the values of a source; None: they stay as they are.

        Args:
            options: the params of `ingest`.
        """

    def describe_source(self, values: pa.ChunkedArray, column: str, path: str) -> Mapping[str, Any]:
        """Return what the values of a source are, for the manifest of the raw table.

        Args:
            values: (n,) of the target column, with nulls where there is none.
            column: its name.
            path: of the source, for messages.

        Raises:
            InputError: nothing can be learned from these values.
        """

    def count_source(self, description: Mapping[str, Any]) -> Mapping[str, int]:
        """Return what `describe_source` found as numbers, for the report of ingest."""

    def source_notes(self, values: pa.ChunkedArray) -> Sequence[str]:
        """Return doubts about the values of a source, each with the param that settles it.

        Args:
            values: (n,) of the target column, with nulls where there is none.
        """

    def conflicts(self, options: BaseModel) -> Conflicts:
        """Return what happens to rows with equal inputs and different targets.

        "drop": none of them stays. "majority": the first row with the most frequent target stays;
        a tie drops all. "keep": the first row with each target stays, all in one group.
        "keep_all": all rows stay, those with equal inputs in one group. Where most inputs are
        frequent, and in a split by time, each row is a case of its own.

        Args:
            options: the params of `clean`.
        """

    def describe_conflicts(self, targets: Sequence[Collection[Any]], examples: str) -> str:
        """Return how the targets of dropped rows differ, with the param that changes it.

        It follows the words "12 of 80 rows dropped: equal, ".

        Args:
            targets: of each group of equal inputs, the different targets.
            examples: some of the inputs.
        """

    def merged(self, counts: Mapping[Any, int], options: BaseModel) -> Mapping[Any, Any]:
        """Return rare targets that are merged: target -> its new value.

        Args:
            counts: rows of each target.
            options: the params of `clean`.
        """

    def describe_merged(self, merged: Mapping[Any, Any], options: BaseModel) -> str:
        """Return a line about the merged targets, with the param that changes it."""

    def doubts(self, counts: Mapping[Any, int]) -> Sequence[str]:
        """Return doubts about clean targets, each with the param that settles it.

        Args:
            counts: rows of each target.
        """

    def check(self, targets: Sequence[Any], options: BaseModel, causes: Sequence[str]) -> None:
        """Refuse clean rows that a model of this task cannot learn from.

        Args:
            targets: of the rows that stay; there may be none.
            options: the params of `clean`.
            causes: a message for each thing that removed rows.

        Raises:
            InputError: it says what is missing, and a way out.
        """

    def check_train(self, train: Collection[Any], targets: Collection[Any]) -> None:
        """Refuse a train split that lacks something that other rows have.

        Args:
            train: targets of the train rows.
            targets: of all rows that stay.

        Raises:
            InputError: it says what is missing, and a way out.
        """

    def strata(self, targets: Sequence[Any]) -> Sequence[str]:
        """Return (n,) the stratum of each row. Each split gets rows of each stratum.

        A task whose targets need no strata returns one name for all rows.

        Args:
            targets: (n,) of the rows.
        """

    def too_few_groups(self, stratum: str, groups: int) -> InputError:
        """Return the error of a stratum that cannot be in all splits.

        Args:
            stratum: its name.
            groups: the number of independent groups of rows that it has.
        """

    def describe(
        self, splits: Mapping[str, Sequence[Any]], merged: Mapping[Any, Any]
    ) -> Mapping[str, Any]:
        """Return the entries of clean's manifest about the targets, `TargetInfo` among them.

        Args:
            splits: split -> targets of its rows.
            merged: of `merged`.
        """

    def info(self, manifest: Mapping[str, Any]) -> TargetInfo:
        """Return the `TargetInfo` in a manifest of clean or of tokens."""

    def count(self, info: TargetInfo) -> Mapping[str, int]:
        """Return the `TargetInfo` as numbers, for the report of clean."""

    def select(self, rows: pa.Table, manifest: Mapping[str, Any], info: TargetInfo) -> pa.Table:
        """Return the rows that a model can be judged on, with targets as clean would write them.

        Args:
            rows: before deduplication.
            manifest: of clean.
            info: of the model.
        """


class Schema(Protocol):
    """Facet schema.py.

    Attributes:
        chosen: inputs that the pipeline chose, of `with_inputs`; {} where it has no choice.
    """

    options: Options
    roles: Sequence[Role]
    split: SplitRule
    targets: TargetRules
    chosen: Mapping[str, Any]

    def inputs(self, options: BaseModel) -> Mapping[str, Any]:
        """Return the inputs that a pipeline chose, as JSON; {} for a task that states its own.

        Args:
            options: the params of `ingest`.
        """

    def with_inputs(self, inputs: Mapping[str, Any]) -> Schema:
        """Return the schema of a pipeline, with the roles of its inputs.

        Args:
            inputs: of `inputs`, perhaps of a bundle from outside.

        Raises:
            ValueError: they are not valid.
        """

    def fields(self, options: BaseModel) -> Mapping[str, Field]:
        """Return the fields by column name, configured by the params of `clean`."""

    def augmenters(self, options: BaseModel) -> Mapping[str, Augmenter]:
        """Return the methods that create one more train row from a row.

        There are none when the task transforms on the fly.
        """


class FixedInputs:
    """The part of a Schema whose inputs are the same in each pipeline."""

    chosen: Mapping[str, Any] = NO_INPUTS

    def inputs(self, options: BaseModel) -> Mapping[str, Any]:  # noqa: ARG002
        """Return nothing: the task states its inputs."""
        return {}

    def with_inputs(self, inputs: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return the same schema."""
        return self


def input_names(schema: Schema) -> list[str]:
    """Return the names of the input columns."""
    return [role.name for role in schema.roles if role.role == "input"]


def row_keys(fields: Mapping[str, Field], columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return keys that are equal for rows whose inputs count as the same.

    Optional inputs that are missing at the end do not change a key.

    Args:
        fields: of the inputs.
        columns: input -> its cleaned values, in the order of the inputs.

    Returns:
        (rows,) keys.
    """
    keys = [fields[name].keys(values) for name, values in columns.items()]
    return ["\x1f".join(parts).rstrip("\x1f") for parts in zip(*keys, strict=True)]


# -- encode: rows to arrays
class Encoder(Protocol):
    """Encoder of rows, fitted on train rows only."""

    targets: TargetInfo

    def encode(self, rows: pa.Table) -> pa.Table:
        """Return one encoded row per row, with ragged list columns."""

    def collate(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return the columns of n ragged rows as padded arrays."""

    def pack(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return the columns of n ragged rows packed, with their "lengths" (n,).

        It is for architectures that support packing. Where there is no padding, it returns the
        same as `collate`.
        """

    def rows(self, inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Return the raw input columns of queries as ragged rows, for `collate`.

        They are normalized as in clean, then encoded.

        Raises:
            Reject: an input is of no use.
        """

    def files(self) -> Mapping[str, bytes]:
        """Return the files for the bundle, below encoder/."""

    def lengths(self, rows: pa.Table) -> NDArray[np.int64]:
        """Return (n,) the cost of each encoded row, for batching and statistics."""


@runtime_checkable
class StatesInputs(Protocol):
    """An Encoder that knows the inputs of its pipeline, `Schema.chosen`."""

    inputs: Mapping[str, Any]


@runtime_checkable
class TracesElements(Protocol):
    """An Encoder that knows which element of a query each number of its arrays comes from.

    Elements are the characters of a text, the pixels of a picture or the columns of a table.
    """

    def elements(
        self, inputs: Mapping[str, Sequence[Any]], contributions: NDArray[np.float64]
    ) -> Sequence[NDArray[np.float64]]:
        """Return the contributions of the elements of each of n queries.

        Args:
            inputs: raw columns, as clean writes them.
            contributions: (n, ...) of the arrays of `collate`, such as (n, t) of tokens.
        """


@runtime_checkable
class FramesTokens(Protocol):
    """An Encoder that puts tokens of its own around those of a row."""

    def frame(self) -> tuple[Sequence[int], Sequence[int]]:
        """Return the token ids before and after those of each row."""


@runtime_checkable
class Shortens(Protocol):
    """An Encoder that cuts rows beyond a length."""

    def losses(self, rows: pa.Table, encoded: pa.Table) -> NDArray[np.int64]:
        """Return (n,) how much of each row was cut, in the unit of `lengths`."""

    def describe_cuts(self, summary: Summary) -> str:
        """Return a line for people about the cut rows, with the param that changes it."""


class Encoding(Protocol):
    """Facet encode.py."""

    options: Options

    def fit(
        self,
        rows: Iterator[pa.RecordBatch],
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> Encoder:
        """Return an encoder fitted on train rows.

        Args:
            rows: of train.
            targets: of clean.
            options: the task's params of `tokenize`.
            clean: the task's params of `clean`, so that queries are normalized in the same way.
            inputs: of the pipeline, `Schema.inputs`.
        """

    def load(self, files: Mapping[str, bytes]) -> Encoder:
        """Return the encoder from its files."""


@runtime_checkable
class BorrowsVocabulary(Protocol):
    """An Encoding that can take the vocabulary of a pretrained network instead of fitting one."""

    def pretrained_files(self, options: BaseModel, root: Path) -> Mapping[str, Path]:
        """Return the network's files by name, or none where the vocabulary is fitted."""

    def write_pretrained(
        self,
        files: Mapping[str, Path],
        rows: Iterator[pa.RecordBatch],
        options: BaseModel,
        folder: Path,
    ) -> Mapping[str, Path]:
        """Write the network's files to a folder, and return them by name.

        Args:
            files: by name.
            rows: of train, by which a vocabulary is cut where the params say so.
            options: params of tokenize.
            folder: in the tokens folder.
        """

    def load_vocabulary(
        self,
        files: Mapping[str, Path],
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
    ) -> Encoder:
        """Return the encoder of the network."""


# -- models: arrays to outputs
@dataclass(frozen=True)
class Graph:
    """A module with named inputs and outputs, for export and for runtimes.

    Args:
        module: the network.
        inputs: name -> axes. A str is a dynamic axis.
        outputs: names.
    """

    module: torch.nn.Module
    inputs: Mapping[str, tuple[int | str, ...]]
    outputs: Sequence[str]


class Architecture(Protocol):
    """A kind of network: it builds a module from a config.

    Attributes:
        Config: model of the config.
        supports_packing: whether it takes packed rows, without padding.
    """

    Config: type[BaseModel]
    supports_packing: bool

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new network. The caller has seeded torch."""

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """Return the graphs by name. All have 'forward'."""

    def pruning_spec(self) -> PruningSpec:
        """Return the prunable dimensions of the network."""


@runtime_checkable
class UsesPretrainedWeights(Protocol):
    """An Architecture that starts from the weights of a pretrained network."""

    def check(self, config: BaseModel, encoder: Encoder) -> None:
        """Refuse a fit that cannot run here, before anything long begins.

        Raises:
            GristmillError: the network does not match the tokens, or a library is missing.
        """

    def weights(self, tokens: Path) -> Mapping[str, torch.Tensor]:
        """Return the weights under the names of `build`'s module, without a head."""


@runtime_checkable
class Pretrains(Protocol):
    """An Architecture that can learn from rows without their labels."""

    def masked(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the module under a head that predicts masked tokens, for PRETRAINING.

        It shares the weights of the module without its own head.
        """


@runtime_checkable
class NeedsCorpusPass(Protocol):
    """An Architecture that counts what occurs in the train rows once, before it is trained."""

    def count(self, module: torch.nn.Module, batches: Iterator[Batch]) -> None:
        """Count the rows of batches, which are packed by `Encoder.pack` and have a "target"."""


class Models(Protocol):
    """Facet models.py.

    Attributes:
        loss_params: model of the params of the loss, whose fields are a part of options["train"].
    """

    options: Options
    loss_params: type[BaseModel]
    architectures: Mapping[str, Architecture]


def loss_params_of(task: str, train: BaseModel) -> BaseModel:
    """Return the params of a task's loss.

    Args:
        task: the task's id.
        train: the section `train`.
    """
    loss_params = models(task).loss_params
    return loss_params(**{name: getattr(train, name) for name in loss_params.model_fields})


# -- loss: outputs to learning
@dataclass(frozen=True)
class Loss:
    """A sum of losses and the number of rows in it.

    So accumulation and DDP weigh rows correctly.
    """

    total: torch.Tensor  # ()
    count: torch.Tensor  # ()
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Learning(Protocol):
    """Facet loss.py.

    Attributes:
        monitored_metric: a name in the result of `compute`. It is cheap, computed at each epoch,
            and decides early stopping and search.
        monitored_goal: whether a small or a large value is good.
    """

    monitored_metric: str
    monitored_goal: Literal["min", "max"]

    def loss(self, module: torch.nn.Module, batch: Batch, loss_params: BaseModel | None) -> Loss:
        """Return the training loss of one micro-batch.

        "weight" (n,), where the batch has it, weighs the rows.

        Args:
            module: the network.
            batch: its inputs and "target" (n, ...).
            loss_params: params of `Models.loss_params`. None: their defaults.
        """

    def row_weights(
        self, target: NDArray[Any], targets: TargetInfo, loss_params: BaseModel | None
    ) -> NDArray[np.float32] | None:
        """Return (n,) weights of the train rows in the loss, with mean 1; None: all are equal.

        Args:
            target: (n, ...) encoded targets.
            targets: of the encoder.
            loss_params: params of `Models.loss_params`. None: their defaults.
        """

    def distillation_loss(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        batch: Batch,
        temperature: float,
        weight: float,
    ) -> Loss:
        """Return the distillation loss (Hinton et al. 2015).

        Rows without a target learn the teacher's answers alone. The encoder marks them.

        Args:
            student: outputs (n, d).
            teacher: outputs (n, d).
            batch: the batch.
            temperature: of the softmax, for tasks that have one.
            weight: of the teacher against the true targets.
        """

    def mean_output(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the output (n, d) of several networks together.

        Args:
            outputs: (m, n, d) of m networks.
            weights: (m,) of the networks, positive, with sum 1.
        """

    def transform(self, batch: Batch, rng: torch.Generator, options: BaseModel) -> Batch:
        """Return a train batch after random transforms on the fly."""

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return sums over a validation batch, which are added over batches and workers."""

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Return metrics from the added sums, among them `monitored_metric`."""


# -- baselines: what a network must beat
class Scorer(Protocol):
    """Named graphs on any runtime: torch, ONNX Runtime, numpy."""

    def __call__(self, graph: str, batch: Arrays) -> Arrays: ...


class Baseline(Protocol):
    """A model without a network: arrays in safetensors, scored in numpy."""

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,
        chosen: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Return the arrays for arrays.safetensors, and encoder files, fitted on train rows.

        Args:
            rows: of train.
            targets: of clean.
            options: the params of `train`.
            clean: the params of `clean`.
            seed: of every random choice.
            validation: rows that choose what the params leave open, such as the strength of a
                penalty. They never become training rows. None: defaults are used.
            chosen: encoder files of an earlier fit, whose choices are reused.
            inputs: of the pipeline, `Schema.inputs`.
        """

    def featurizer(
        self, files: Mapping[str, bytes]
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function from raw input columns to the input of `scorer`.

        The function raises `Reject` for content of no use.

        Args:
            files: encoder files.
        """

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return a scorer whose graph 'forward' gives {'logits': (n, d)}."""


@runtime_checkable
class ChecksFiles(Protocol):
    """A Baseline whose arrays and encoder files must fit each other and the inputs of the card."""

    def check_files(
        self, arrays: Arrays, files: Mapping[str, bytes], inputs: Mapping[str, Any]
    ) -> None:
        """Refuse parts of a bundle that do not fit each other.

        Args:
            arrays: of the bundle, which `scorer` has accepted.
            files: encoder files, which `featurizer` has accepted.
            inputs: of the card, `Schema.chosen`; empty where it has none.

        Raises:
            ValueError: it says what does not fit.
        """


@runtime_checkable
class ExactContributions(Protocol):
    """A Baseline whose outputs are sums over the elements of a query, see `TracesElements`."""

    def contributions(
        self,
        arrays: Arrays,
        files: Mapping[str, bytes],
        inputs: Mapping[str, Sequence[Any]],
        directions: NDArray[np.float64],
    ) -> Sequence[NDArray[np.float64]] | None:
        """Return the contributions of the elements of n queries; None: this bundle has none.

        Args:
            arrays: of the bundle.
            files: encoder files.
            inputs: raw columns, as clean writes them.
            directions: (n, d) weights of the outputs.
        """


class Baselines(Protocol):
    """Facet baselines.py: 'trivial' and 'classical'."""

    options: Options
    baselines: Mapping[str, Baseline]


# -- evaluator: answers to metrics
class Metric(Protocol):
    """A metric over any subset of cases, for slices, bootstrap intervals and paired tests.

    Attributes:
        name: key of the metric in files, in letters, digits and underscores.
        title: its name for people, such as "macro F1".
        goal: whether a small or a large value is good.
        is_share: whether values are shares from 0 to 1, which people read in percent.
    """

    name: str
    title: str
    goal: Literal["min", "max"]
    is_share: bool

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the sufficient statistics of one case."""

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the metric over a subset (cases,) of the statistics."""


def metric_text(metric: Metric, value: float) -> str:
    """Return the value of a metric for logs and terminals.

    Shares have four decimals, other numbers four significant digits.
    """
    return f"{value:.4f}" if metric.is_share else significant_digits(value)


def interval_text(metric: Metric, ends: Sequence[float] | None) -> str:
    """Return an interval of a metric for logs, terminals and tags; "unknown" where it has none."""
    if not ends:
        return "unknown"
    low, high = ends
    return f"{metric_text(metric, low)} to {metric_text(metric, high)}"


@dataclass(frozen=True)
class Case(Generic[Q]):
    """One example of the evaluation: query, truth and slices."""

    id: str
    query: Q
    truth: Any
    slices: Mapping[str, str]


def renamed_slices(slices: Mapping[str, str]) -> dict[str, str]:
    """Return kind of slice -> value, where columns have no name of a kind that tasks make.

    The name of a slice is "kind: value", so a kind that begins like that is another, too.

    Args:
        slices: of a row, whose kinds may be columns of a user.
    """
    result = {}
    for kind, value in slices.items():
        is_taken = kind.partition(":")[0] in _OWN_SLICES
        result[f"column {kind}" if is_taken else kind] = value
    return result


class TaskEvaluator(Protocol):
    """Facet evaluator.py.

    Attributes:
        metrics: the first one is the primary metric, which decides.
        report_metric: the one of them that people read: in plots, slices, lists of versions.
        report: what the report of evaluate shows of the answers.
        gates: comparisons of two models.
        feedback: truths that clients send, and drift of answers.
    """

    options: Options
    Query: type[BaseModel]
    Answer: type[BaseModel]
    metrics: Sequence[Metric]
    report_metric: Metric
    report: TaskReport
    gates: ChampionComparison
    feedback: TaskFeedback

    def cases(self, rows: pa.Table, inputs: Mapping[str, Any] = NO_INPUTS) -> Iterator[Case[Any]]:
        """Yield the cases of a split of clean.

        Args:
            rows: of the clean table.
            inputs: of the pipeline, as JSON.
        """

    def query(self, row: Mapping[str, Any]) -> Any:
        """Return a query from the input columns of a row.

        Raises:
            ValidationError: no client may send this query.
        """

    def read(self, argument: str) -> Any:
        """Return a query from an argument of the command line: the text itself, or a path."""

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Return queries as raw input columns, for `Encoder.rows` and `Baseline.featurizer`.

        Raises:
            Reject: the content of a query is of no use.
        """

    def answers(self, scorer: Scorer, batch: Arrays, targets: TargetInfo) -> Sequence[Any]:
        """Score a batch and return one `Answer` per query."""

    def check_outputs(self, outputs: Arrays, targets: TargetInfo) -> str:
        """Return what is wrong with the outputs of a model, or "" if they can be answers.

        Args:
            outputs: of graph 'forward', from a bundle that may come from anywhere.
            targets: of its card.
        """

    def case_stats(self, answers: Sequence[Any], truths: Sequence[Any]) -> CaseStats:
        """Return the statistics of cases that gates compare later, without the data.

        They are columns of the table of answers, and are kept with a version in the registry.

        Args:
            answers: (n,) to the cases.
            truths: (n,) of the cases.
        """

    def confidence(self, answer: Any) -> float | None:
        """Return the probability that the answer states for being correct, or None."""

    def summary(self, answer: Any) -> Sequence[tuple[str, float | None]]:
        """Return an answer as lines for a terminal: a text, and a share 0-1 where it has one."""

    def output_distance(self, one: Any, other: Any, targets: TargetInfo) -> float:
        """Return the distance between two answers to one query.

        It is 0 for equal answers, NaN where an answer holds NaN, and small where only rounding
        differs, even if that decides a tie. Its unit does not depend on that of the targets:
        answers to different queries mostly are tenths apart.

        Args:
            one: an answer.
            other: another answer to the same query, of the same model.
            targets: of the model.
        """

    def show(self, case: Case[Any]) -> str:
        """Return the query for a person, as HTML."""

    def example(self, rows: pa.Table) -> Sequence[Any]:
        """Return a few example queries."""

    def page_script(self) -> str:
        """Return the JavaScript by which the service's pages show an answer.

        It defines:

            OUTCOME                 `TaskFeedback.outcome`
            ANSWER_WORDS            language ("en", "zh") -> name -> text, among them the title
                                    of the checks with the name OUTCOME
            answerName(answer)      what the answer says, in a few characters
            answerElements(answer, model)
                                    elements that show it; `model` is the answer of /v1/model

        Of a page it may use `say` for its words and `make`, which escapes texts, and the styles
        of "headline" with a <small> in it, and of lists with a "bar".
        """


@runtime_checkable
class DescribesQueries(Protocol):
    """A TaskEvaluator whose queries differ from model to model."""

    def query_schema(self, profile: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the JSON schema of a query, by which clients and pages ask.

        A property that may be null may be unknown. Its "examples" are values to choose from.

        Args:
            profile: of the card of the model, with the entry INPUTS.
        """


@runtime_checkable
class Abstains(Protocol):
    """A TaskEvaluator whose answers can say "not sure".

    Its answers are correct or not, and state how probable it is that they are.
    """

    def is_correct(self, answer: Any, truth: Any) -> bool:
        """Return whether an answer is correct."""

    def abstain(self, answer: Any) -> Any:
        """Return the answer marked as not sure. What it says stays."""


@runtime_checkable
class MeasuresCloseness(Protocol):
    """A TaskEvaluator that measures how near an answer is to a truth that a person states."""

    def closeness(self, answer: Any, truth: Any) -> float:
        """Return a number that is larger for nearer answers.

        For answers that are numbers it is the distance with a minus.

        Args:
            answer: of the model.
            truth: an instance of `TaskFeedback.Truth`.
        """


@dataclass(frozen=True)
class QueryChange:
    """A small change of queries that should not change their answers.

    Args:
        name: for people.
        zh: the same in Chinese.
        apply: returns the changed query, or an equal one where it does not apply.
    """

    name: str
    zh: str
    apply: Callable[[Any, np.random.Generator], Any]


@runtime_checkable
class ChangesQueries(Protocol):
    """A TaskEvaluator that declares changes of queries under which answers should stay.

    The queries are those of cases, which hold values as clean writes them.
    """

    query_changes: Sequence[QueryChange]


@runtime_checkable
class StatesIntervals(Protocol):
    """A TaskEvaluator whose answers state an interval that holds the truth with a probability.

    The intervals are fitted on the answers to the validation split, and kept in the card.

    Attributes:
        Intervals: model of what `fit_intervals` returns, which validates cards from outside.
    """

    Intervals: type[BaseModel]

    def fit_intervals(self, answers: Sequence[Any], truths: Sequence[Any]) -> Mapping[str, Any]:
        """Return what the intervals depend on, as JSON for the card.

        Args:
            answers: (n,) to cases that the model has not learned from, without intervals.
            truths: (n,) of the cases.
        """

    def with_interval(self, answer: Any, intervals: Any) -> Any:
        """Return the answer with its interval. What else it says stays.

        Args:
            answer: of the model.
            intervals: an instance of `Intervals`.
        """


@runtime_checkable
class Explains(Protocol):
    """A TaskEvaluator that can explain an answer by the parts of its query.

    Each part is left out once (occlusion: Zeiler and Fergus 2014, arXiv:1311.2901).

    Attributes:
        weight_description: what the weight of a part is, for clients.
    """

    weight_description: str

    def parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the query in at most `limit` parts, which together are all of it."""

    def without(self, query: Any, parts: Sequence[str], index: int) -> Any:
        """Return the query without the part at an index.

        If nothing of use is left, prediction will reject it.
        """

    def support(self, answer: Any, claim: Any) -> float:
        """Return how much an answer supports what another one claims, on a linear scale.

        Args:
            answer: to a part of the query.
            claim: the answer to the whole query.
        """


@dataclass(frozen=True)
class PartImportance:
    """How much a part of queries contributed to answers, over several cases.

    Args:
        name: of the part, such as a word or a column.
        size: mean of the contributions without their signs, over all cases.
        cases: number of the cases that have the part.
    """

    name: str
    size: float
    cases: int


@runtime_checkable
class ReportsExplanations(Protocol):
    """A TaskEvaluator whose report shows which parts of queries the answers depend on.

    The queries are those of cases, which hold values as clean writes them.

    Attributes:
        score_description: what contributions add up to, such as "log-odds of the answer", and the
            same in Chinese.
    """

    score_description: tuple[str, str]

    def report_parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the query in at most `limit` parts, which together are all of it."""

    def without_parts(self, query: Any, parts: Sequence[str], indices: Collection[int]) -> Any:
        """Return the query without the parts at some indices.

        If nothing of use is left, prediction will reject it.
        """

    def support(self, answer: Any, claim: Any) -> float:
        """Return how much an answer supports what another one claims, on a linear scale.

        Args:
            answer: to a part of the query.
            claim: the answer to the whole query.
        """

    def direction(self, outputs: NDArray[Any], targets: TargetInfo) -> NDArray[np.float64]:
        """Return (d,) weights of the outputs, whose sum supports the answer of these outputs.

        Args:
            outputs: (d,) of graph 'forward' to one query.
            targets: of the model.
        """

    def part_weights(
        self, query: Any, parts: Sequence[str], elements: NDArray[np.float64]
    ) -> Sequence[float]:
        """Return what each part contributes.

        Args:
            query: that was answered.
            parts: of `report_parts`.
            elements: of `TracesElements` or `ExactContributions`.
        """

    def part_names(self, query: Any, parts: Sequence[str]) -> Sequence[str]:
        """Return the name of each part, under which the parts of many queries are counted."""

    def show_parts(self, case: Case[Any], parts: Sequence[str], weights: Sequence[float]) -> str:
        """Return the query with its parts in the color of their contributions, as HTML.

        Args:
            case: that was answered.
            parts: of `report_parts`.
            weights: of the parts.
        """

    def show_importance(self, importances: Sequence[PartImportance]) -> Plot | str:
        """Return the importance of parts, as `ReportPanel.content`.

        Args:
            importances: the most important first.
        """


@runtime_checkable
class InspectsModel(Protocol):
    """A TaskEvaluator whose report shows what a model does with its inputs."""

    def model_section(
        self,
        predict: Callable[[Sequence[Any]], Sequence[Any]],
        cases: Sequence[Case[Any]],
        seed: int,
    ) -> ReportSection | None:
        """Return a section of the report; None where there is nothing to show.

        Args:
            predict: queries -> answers of the winner.
            cases: of test.
            seed: of every random choice.
        """


# -- report: what the report shows
@dataclass(frozen=True)
class ReportPanel:
    """A part of the report that only the task can draw.

    The page escapes a str. HTML is `markupsafe.Markup`, which the templates of
    `components.core.page_templates` return: texts of the data are escaped in it.

    Args:
        title: may be empty.
        note: below the title; may be empty.
        content: a plot, or HTML.
        id: of the element, for links; may be empty.
        zh: title and note in Chinese; may be empty.
    """

    title: str
    note: str
    content: Plot | str
    id: str = ""
    zh: str = ""


@dataclass(frozen=True)
class ReportSection:
    """Panels of the report under a heading, with the rules of `ReportPanel` for texts.

    Args:
        title: the heading.
        note: below the heading; may be empty.
        panels: side by side.
        zh: title and note in Chinese; may be empty.
    """

    title: str
    note: str
    panels: Sequence[ReportPanel]
    zh: str = ""


@dataclass(frozen=True)
class WorstAnswer:
    """A case that was answered badly, with the rules of `ReportPanel` for texts.

    Args:
        case: that was answered.
        verdict: what was true, and what was answered.
    """

    case: Case[Any]
    verdict: str


@dataclass(frozen=True)
class WorstAnswers:
    """The cases that were answered worst, with the rules of `ReportPanel` for texts.

    Args:
        title: the heading.
        note: how they were chosen.
        answers: the worst first.
    """

    title: str
    note: str
    answers: Sequence[WorstAnswer]


class TaskReport(Protocol):
    """What the report of evaluate shows of the answers, as part of the facet evaluator.py.

    Attributes:
        columns: names of the metrics in the table of candidates, in order.
    """

    columns: Sequence[str]

    def plot_rows(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> Sequence[tuple[str, str]]:
        """Return (actual, predicted) of each case, for the plots of DVC.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
        """

    def winner_panels(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], targets: TargetInfo
    ) -> Sequence[ReportPanel]:
        """Return the panels about the winner's answers to the test split.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
            targets: of clean.
        """

    def confidence_section(
        self, table: Mapping[str, Any], answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> ReportSection | None:
        """Return the section about answers that may say "not sure"; None: there is none.

        Args:
            table: thresholds of `selective_prediction.abstention_table`, from validation. It is
                empty where the evaluator is no `Abstains`.
            answers: (n,) of the winner.
            cases: (n,) of test.
        """

    def data_panels(self, manifest: Mapping[str, Any]) -> Sequence[ReportPanel]:
        """Return the panels about the targets of the data.

        Args:
            manifest: of clean.
        """

    def data_details(self, targets: TargetInfo) -> Sequence[tuple[str, str]]:
        """Return (name, text) of what the foot of the page says about the targets."""

    def worst_answers(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], count: int
    ) -> WorstAnswers:
        """Return the worst answers to the test split.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
            count: the most that are returned.
        """


@dataclass(frozen=True)
class AnsweredSplit:
    """The answers of one model to a split.

    Args:
        answers: (n,) to the cases.
        cases: (n,) of the split.
    """

    answers: Sequence[Any]
    cases: Sequence[Case[Any]]


@runtime_checkable
class ReportsProbabilities(Protocol):
    """A TaskReport of answers that state how probable each possible truth is."""

    def probability_section(
        self, validation: AnsweredSplit, test: AnsweredSplit, targets: TargetInfo
    ) -> ReportSection:
        """Return the section about the probabilities.

        What is fitted for it is fitted on validation. Test only reports.

        Args:
            validation: answers of the winner.
            test: answers of the winner.
            targets: of clean.
        """


# -- gates: comparisons of models
@dataclass(frozen=True)
class Comparison:
    """A comparison of answers: of two models on the same cases, or of a slice with all cases.

    Args:
        gain: of the first over the second: a share of the cases, or of the metric.
        low: lower bound of the gain, one-sided.
        high: upper bound of the gain, one-sided.
        counted: what was counted or measured, for a person.
        test: the test that was made and its p value, for a person. It may be empty.
    """

    gain: float
    low: float
    high: float
    counted: str
    test: str = ""


@dataclass(frozen=True)
class Calibration:
    """How far what the answers state about themselves is from what came true.

    Args:
        error: the calibration error.
        low: its lower bound.
        high: its upper bound.
        detail: how it was measured, for a person.
    """

    error: float
    low: float
    high: float
    detail: str


@dataclass(frozen=True)
class Suspicion:
    """A reason to distrust the feedback.

    Args:
        value: what was measured.
        limit: below which it is suspect.
        detail: for a person, with the version as subject: "is right in 3 of 50 …".
    """

    value: float
    limit: float
    detail: str


class ChampionComparison(Protocol):
    """Judgments on `CaseStats`, without the data, as part of the facet evaluator.py.

    Attributes:
        statistics: names of those that `compare` reads.
    """

    statistics: Sequence[str]

    def compare(self, mine: CaseStats, theirs: CaseStats, alpha: float) -> Comparison:
        """Return the paired comparison of two models.

        Args:
            mine: (n,) of each statistic.
            theirs: of the other model on the same cases, in the same order.
            alpha: chance that a bound does not hold, each.
        """

    def compare_with_all(self, part: CaseStats, whole: CaseStats, alpha: float) -> Comparison:
        """Return the comparison of a slice with all cases of the same model.

        Args:
            part: (n,) of the cases of the slice.
            whole: (m,) of all cases.
            alpha: chance that a bound does not hold, each.
        """

    def level(self, stats: CaseStats) -> float:
        """Return the report metric of the cases."""

    def describe_level(self, stats: CaseStats) -> str:
        """Return the report metric of the cases with its name, such as "accuracy 0.8512"."""

    def calibration(self, stats: CaseStats, alpha: float) -> Calibration | str:
        """Return the calibration, or why it cannot be measured.

        Args:
            stats: (n,) of each statistic.
            alpha: chance that a bound does not hold, each.
        """

    def suspect_feedback(
        self, stats: CaseStats, slices: Mapping[str, Sequence[int]], alpha: float
    ) -> Suspicion | None:
        """Return why the feedback among the test cases cannot be trusted, or None.

        Args:
            stats: (n,) of the champion's answers to the feedback.
            slices: slice -> positions of its cases among the n.
            alpha: chance to suspect feedback that is as good as any.
        """


# -- feedback: truths that clients send
class TaskFeedback(Protocol):
    """What monitoring and clients see of answers, as part of the facet evaluator.py.

    Attributes:
        Truth: model of the JSON fields by which a client says the truth. The names of the other
            fields of `components.monitoring.feedback_store.FeedbackEntry` are taken.
        Profile: model of what `profile` returns, which validates cards from outside. It passes
            over other keys.
        noun: what people call a truth, such as "label". Its plural ends in "s".
        outcome: name of the check of answers whose truth is known, such as "accuracy", in
            lowercase letters: keys, metrics and tags have it.
        features: what drift compares of an answer -> kind of its distribution.
    """

    Truth: type[BaseModel]
    Profile: type[BaseModel]
    noun: str
    outcome: str
    features: Mapping[str, Literal["names", "numbers"]]

    def check(self, truth: Any, targets: TargetInfo) -> tuple[str, str] | None:
        """Return the field of a truth that cannot be true and why, or None.

        Args:
            truth: of a client, with the fields of `Truth`.
            targets: of the model that answered.
        """

    def text(self, answer: Any) -> str:
        """Return an answer as the request log keeps it."""

    def truth_text(self, truth: Mapping[str, Any]) -> str:
        """Return a truth in the form of `text`, which is a value of the target column.

        Args:
            truth: the fields of `Truth`.
        """

    def features_of(self, text: str, confidence: float | None) -> Mapping[str, Any]:
        """Return `features` of an answer: texts for names, floats for numbers, None for none.

        Args:
            text: of the answer.
            confidence: that it states.
        """

    def profile(self, answers: Sequence[Any], truths: Sequence[Any]) -> Mapping[str, Any]:
        """Return how good the answers to the validation split are, as JSON for the card.

        Args:
            answers: (n,) to the cases.
            truths: (n,) of the cases.
        """

    def worse(
        self, profile: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
    ) -> tuple[float, str]:
        """Test whether answers are worse than those to the validation split.

        Args:
            profile: of `profile`.
            pairs: (n,) the text of an answer, and that of its truth.

        Returns:
            The p value, and the change for a person, such as "85.1% -> 70.0%".
        """


@dataclass(frozen=True)
class DoubtfulTarget:
    """A row whose target may be wrong.

    Args:
        row: its position.
        given: the target of the row.
        suggested: the target that is more probable.
        score: from -1, the most doubtful, to 1.
    """

    row: int
    given: str
    suggested: str
    score: float


@runtime_checkable
class DoubtsTargets(Protocol):
    """A Baselines that finds rows whose targets may be wrong."""

    def doubtful_targets(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        *,
        folds: int,
        seed: int,
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> Sequence[DoubtfulTarget]:
        """Return the doubtful rows, the most doubtful first.

        No row is judged by a model that learned from it, or from a row of its group.

        Args:
            rows: of clean, with targets and groups.
            targets: of clean.
            options: the params of `train`.
            clean: the params of `clean`.
            folds: number of fits, each of which leaves one fold out.
            seed: of the folds and the fits.
            inputs: of the pipeline, `Schema.inputs`.
        """


# -- defaults: data to params
class ColumnStats(Protocol):
    """What the first rows of a source hold in one of its columns."""

    @property
    def name(self) -> str:
        """Return the name in the source."""

    @property
    def filled(self) -> int:
        """Return the number of rows that have a value."""

    @property
    def values(self) -> Counter[str]:
        """Return the rows of each short value as text, up to a limit of different values."""

    @property
    def long(self) -> int:
        """Return the number of values that are too long to be in `values`."""

    @property
    def overflow(self) -> bool:
        """Return whether there are more different values than those in `values`."""

    @property
    def mean(self) -> float:
        """Return the average length in characters."""

    @property
    def is_picture(self) -> bool:
        """Return whether the column holds pictures, or names those beside the table."""


class SourceStats(Protocol):
    """What the first rows of a source hold, under the names of its columns."""

    @property
    def is_table(self) -> bool:
        """Return whether the source names its columns; else files or folders name targets."""

    @property
    def columns(self) -> Mapping[str, ColumnStats]:
        """Return the columns by name."""

    @property
    def rows(self) -> int:
        """Return the number of rows that were read."""

    @property
    def complete(self) -> bool:
        """Return whether the source has no more rows."""


@dataclass(frozen=True)
class Fit:
    """How well a task suits a source.

    Args:
        score: from 0, it does not, to 1.
        reason: a few words about the source, for a person.
    """

    score: float
    reason: str


@dataclass(frozen=True)
class ChosenInputs:
    """The inputs of a pipeline that suit a source.

    Args:
        inputs: as `Schema.inputs` returns them, in the order of the source's columns.
        columns: role -> column of the source, where an input has another name.
        reasons: input -> why it has its kind, in a few words.
        left_out: column of the source -> why it is no input, in a few words.
        settings: params of `ingest` that the target needs.
        in_time: params of a split by time, where each row has a time.
        doubtful: inputs from which the target nearly follows -> how, for a person who decides.
    """

    inputs: Mapping[str, Any]
    columns: Mapping[str, str]
    reasons: Mapping[str, str]
    left_out: Mapping[str, str]
    settings: Sequence[Setting] = ()
    in_time: Sequence[Setting] = ()
    doubtful: Mapping[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One value of params.yaml that was derived from the data.

    Args:
        path: dotted key: clean.size, train.nets.textcnn.width.
        value: the value.
        reason: a few words, which become the comment after the value.
        architecture: the only one for which the value was chosen; "" means any.
    """

    path: str
    value: Any
    reason: str
    architecture: str = ""


@dataclass(frozen=True)
class CleanedTargets:
    """What clean leaves of the targets of a source.

    Args:
        counts: rows of each target that are left.
        rows: that there were.
        causes: what removed the others, for a person.
    """

    counts: Mapping[Any, int]
    rows: int
    causes: str


@dataclass(frozen=True)
class Question:
    """A question to a person about a source, with the param that the answer yes sets.

    Args:
        lines: what it is about.
        question: one line.
        path: dotted key below `ingest`.
        value: of the param.
    """

    lines: Sequence[str]
    question: str
    path: str
    value: Any


class Defaults(Protocol[M]):
    """Facet defaults.py: from raw rows to measurements, from measurements to params.

    Attributes:
        target_names: names of columns that hold the target, in lower case; the first ones count
            more than the others.
        renames: key of `ingest` with new names of targets; None: they have no names.
        descriptions: dotted key of params -> a few words, for a comment in params.yaml.
        remedy_options: words about params in messages of clean -> the option of the command.

    `gristmill new` calls `fit` of each task, unless a person names the task. Then it calls the
    methods of one task in this order. It shows `describe` to the person. It writes
    the defaults of all models, replaced by `settings`, and checks the result as `gristmill run`
    does. Of two settings for one path the later is used. Then it shows `losses`.
    """

    target_names: Sequence[Collection[str]]
    renames: str | None
    descriptions: Mapping[str, str]
    remedy_options: Mapping[str, str]

    def fit(self, source: SourceStats, target: str | None) -> Fit:
        """Return how well the task suits a source.

        Args:
            source: of the user.
            target: the column to predict; None: nobody names it.
        """

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> M:
        """Return the measurements that the settings depend on, from one pass over the rows.

        Args:
            rows: raw rows, as ingest writes them: inputs and target by the names of the schema.
                There may be 100,000 of them, so only a sample may be held.
            total: rows of the whole source, of which `rows` may be the first ones.
        """

    def describe(self, measured: M) -> Sequence[tuple[str, str]]:
        """Return lines for a person: what was measured, and the result."""

    def check(self, measured: M) -> None:
        """Refuse data that this task cannot learn from.

        Raises:
            InputError: the message says what the data seem to be, and what to do.
        """

    def settings(self, measured: M) -> Sequence[Setting]:
        """Return the params for these data, with reasons, in the order of params.yaml."""

    def questions(self, measured: M) -> Sequence[Question]:
        """Return questions to a person about the targets."""

    def settings_of_targets(self, cleaned: CleanedTargets, options: BaseModel) -> Sequence[Setting]:
        """Return the settings with which clean accepts the targets that it leaves.

        Args:
            cleaned: the targets of all rows of the source.
            options: the params of `clean`.

        Raises:
            InputError: no setting helps.
        """

    def losses(self, measured: M, params: Mapping[str, Any]) -> Sequence[str]:
        """Return what the params cut, shrink or leave out, with the key that changes it.

        Args:
            measured: the data.
            params: the tree of params.yaml.
        """


@runtime_checkable
class ChoosesInputs(Protocol):
    """A Defaults of a task whose pipelines choose their inputs."""

    def likely_targets(self, source: SourceStats) -> Sequence[str]:
        """Return the columns that may be the one to predict by their names.

        Several mean that a guess would be doubtful.
        """

    def choose_inputs(
        self, source: SourceStats, target: str, rows: Mapping[str, Sequence[Any]]
    ) -> ChosenInputs:
        """Return the inputs for a source.

        Args:
            source: of the user.
            target: the column to predict.
            rows: column -> (n,) values of the first rows, as the source has them.
        """


@runtime_checkable
class DeclaresPresets(Protocol):
    """A Defaults of a task with presets: sets of params that a person takes by their name.

    Attributes:
        presets: name -> function from the tree of params, with all defaults, to the settings that
            replace its values. `good` is the name of the params without a preset.
    """

    presets: Mapping[str, Callable[[Mapping[str, Any]], Sequence[Setting]]]


# -- access to the facets
def tasks() -> list[str]:
    """Return the ids of the tasks: folders beside this file that have a schema."""
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
    """Return the facet schema.py of a task."""
    return cast(Schema, _facet(task, "schema", "SCHEMA"))


def chosen_inputs(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the inputs that a pipeline chose, as its tables' manifests have them.

    Args:
        manifest: of the raw table, of clean or of tokens.
    """
    inputs: Mapping[str, Any] = manifest.get(INPUTS, {})
    return inputs


def inputs_entry(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry of a manifest for inputs; none where the task states its own."""
    return {INPUTS: dict(inputs)} if inputs else {}


def schema_of(task: str, manifest: Mapping[str, Any]) -> Schema:
    """Return the schema of a pipeline by the manifest of one of its tables."""
    return schema(task).with_inputs(chosen_inputs(manifest))


def encoding(task: str) -> Encoding:
    """Return the facet encode.py of a task."""
    return cast(Encoding, _facet(task, "encode", "ENCODING"))


def models(task: str) -> Models:
    """Return the facet models.py of a task."""
    return cast(Models, _facet(task, "models", "MODELS"))


def learning(task: str) -> Learning:
    """Return the facet loss.py of a task."""
    return cast(Learning, _facet(task, "loss", "LOSS"))


def pretraining(task: str) -> Callable[[Encoder, float], Learning]:
    """Return the self-supervised part of the facet loss.py, for a task that has one.

    It is a function of an encoder and the share of tokens that is masked.
    """
    return cast(Callable[[Encoder, float], Learning], _facet(task, "loss", "PRETRAINING"))


def baselines(task: str) -> Baselines:
    """Return the facet baselines.py of a task."""
    return cast(Baselines, _facet(task, "baselines", "BASELINES"))


def evaluator(task: str) -> TaskEvaluator:
    """Return the facet evaluator.py of a task."""
    return cast(TaskEvaluator, _facet(task, "evaluator", "EVALUATOR"))


def defaults(task: str) -> Defaults[Any]:
    """Return the facet defaults.py of a task."""
    return cast("Defaults[Any]", _facet(task, "defaults", "DEFAULTS"))
