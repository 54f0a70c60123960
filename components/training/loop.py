"""Run the training loop as a plain function over a process group.

It does not depend on Ray, so it can be run, tested and profiled alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.core.job import Journal
from components.models.base import AdapterModel
from components.tasks import base
from components.tasks.base import Arrays, Batch
from components.tasks.shared.models.ensembles.models import bundle_architectures
from components.training.allocator import keep_freed_memory
from components.training.batches import (
    EncodedRows,
    Numbers,
    in_order,
    load_encoder,
    plan,
    within,
)
from components.training.checkpoints import Checkpoints
from components.training.distillation import distillation_loss
from components.training.embedding_init import take_embeddings
from components.training.fit_config import FitConfig, FitResult
from components.training.fsdp import shard
from components.training.lr_schedule import learning_rate_at
from components.training.micro_batches import MicroBatches
from components.training.precision import Precision, resolve
from components.training.throughput import Throughput
from components.training.train_step import TrainStep, rank, world

Report = Callable[[Mapping[str, float]], None]
Log = Callable[[str], None]

_VALIDATION_BATCH = 256
# Rows at a time in the pass over the corpus.
_COUNT_BATCH = 4096
_PROGRESS_STEPS = 20
_BEST = "best.safetensors"
_POSITIVE_INT32 = 0x7FFFFFFF


@dataclass
class TrainState:
    """Progress of a fit. Randomness is a function of it, so no generator state is saved.

    The names of the fields are keys in checkpoints.

    Args:
        epoch: complete epochs.
        batch: complete batches of the current epoch.
        step: complete steps.
        loss_sum: sum of the losses of the current epoch's steps.
        epochs_without_improvement: in a row.
        reductions: of the learning rate, by plateaus.
        workers: number of workers.
        curve: one row per complete epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    epochs_without_improvement: int = 0
    reductions: int = 0
    workers: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


def fit(
    spec: FitConfig,
    journal: Journal | None = None,
    report: Report = lambda _: None,
) -> FitResult:
    """Fit a network and keep the weights of its best epoch.

    Args:
        spec: the fit. It continues from checkpoints of the same spec in its state folder.
        journal: where the first worker reports.
        report: called by all workers after each epoch with its row of the curve. A search may
            raise out of it. A fit that continues, or was complete before, first reports all
            earlier rows, because the listener may have died before it wrote the last one.

    Raises:
        InputError: the loss is not finite, or a single row does not fit the memory.
    """
    result = finished(spec)
    if result is not None:
        _report_rows(result.curve, report)
        return result
    keep_freed_memory()
    torch.manual_seed(spec.seed)
    encoder = load_encoder(spec.tokens, spec.task)
    train_step = make_train_step(spec, encoder)
    train = EncodedRows(spec.tokens, spec.splits, encoder)
    if not spec.mask_share:
        train.weights = train_step.learning.row_weights(
            train.target, encoder.targets, spec.loss_params
        )
    if spec.teacher_answers:
        train.teacher = np.load(spec.teacher_answers, mmap_mode="r", allow_pickle=False)
    validation = EncodedRows(spec.tokens, "validation", encoder)
    _check_split_sizes(train, validation)
    log = _log_of(journal)
    checkpoints = Checkpoints(
        spec.state / "checkpoints",
        log,
        spec.params.checkpoint_keep,
        spec.params.checkpoint_disk_mb,
    )
    state = _restore(checkpoints, train_step, log)
    _report_rows(state.curve, report)
    loop = _Loop(
        spec,
        train_step,
        train=train,
        validation=validation,
        checkpoints=checkpoints,
        state=state,
        journal=journal if rank() == 0 else None,
        log=log,
    )
    _run_epochs(loop, report)
    return _write_result(spec, train_step, state)


def _log_of(journal: Journal | None) -> Log:
    """Return the function that logs a line. Only the first worker logs."""
    if rank() != 0:
        return lambda _: None
    return journal.log if journal else print


def _run_epochs(loop: _Loop, report: Report) -> None:
    """Run epochs until the last one, or until patience has run out.

    Raises:
        InputError: the loss is not finite.
    """
    params = loop.spec.params
    state = loop.state
    last = loop.spec.until or params.epochs
    try:
        while state.epoch < last and state.epochs_without_improvement < params.patience:
            report(loop.epoch())
    except FloatingPointError as error:
        raise InputError(
            f"{error} at step {state.step} (epoch {state.epoch + 1})",
            where="train.learning_rate",
            remedy=(
                f"lower it (it is {params.learning_rate}) or lower train.clip_norm, "
                "then run the same command again"
            ),
        ) from None
    finally:
        loop.checkpoints.close()


def _write_result(spec: FitConfig, train_step: TrainStep, state: TrainState) -> FitResult:
    """Write the file that says that the fit is complete, and return the result."""
    parameters = sum(p.numel() for p in train_step.module.parameters())
    if rank() == 0:
        record = {"curve": state.curve, "world": world(), "parameters": parameters}
        write_atomic(spec.done, to_json(record))
    return FitResult(
        spec.state / _BEST,
        state.curve,
        _best(spec, state.curve),
        world(),
        parameters,
    )


def finished(spec: FitConfig) -> FitResult | None:
    """Return the result of an earlier run of the same fit, or None if it is not complete."""
    if not spec.done.exists():
        return None
    record = json.loads(spec.done.read_text(encoding="utf-8"))
    return FitResult(
        spec.state / _BEST,
        record["curve"],
        _best(spec, record["curve"]),
        record["world"],
        record["parameters"],
    )


def make_train_step(spec: FitConfig, encoder: base.Encoder) -> TrainStep:
    """Return the network on its device, with its loss and optimizer."""
    module = _place_on_device(_initial_module(spec, encoder), spec)
    if spec.mask_share:
        learning = base.pretraining(spec.task)(encoder, spec.mask_share)
    else:
        learning = base.learning(spec.task)
    loss = distillation_loss(spec, learning, module) if spec.teacher else None
    step = TrainStep(module.train(), learning, spec.params, loss, spec.loss_params)
    step.precision.fake_int8 = spec.fake_int8
    if spec.keep_zeros:
        step.keep_zeros()
    return step


def _initial_module(spec: FitConfig, encoder: base.Encoder) -> torch.nn.Module:
    """Return the network with the weights to start from, on the CPU."""
    architecture = base.models(spec.task).architectures[spec.architecture]
    module = architecture.build(architecture.Config.model_validate(dict(spec.config)), encoder)
    if spec.initial:
        _load_weights(module, load_file(spec.initial), str(spec.initial))
    elif isinstance(architecture, base.UsesPretrainedWeights):
        _load_weights(module, architecture.weights(spec.tokens), spec.architecture)
    elif isinstance(architecture, base.NeedsCorpusPass):
        rows = EncodedRows(spec.tokens, spec.splits, encoder)
        architecture.count(module, _packed_batches(rows))
    if spec.teacher_embeddings and spec.teacher:
        from components.inference.predictor import load_module

        frame = encoder.frame() if isinstance(encoder, base.FramesTokens) else ((), ())
        teacher = load_module(spec.teacher)
        precision = Precision(resolve(spec.params.precision, teacher), torch.device("cpu"))
        with precision.context():
            take_embeddings(module, teacher, frame)
    if spec.mask_share:
        assert isinstance(architecture, base.Pretrains)
        module = architecture.masked(module)
    if isinstance(module, AdapterModel):
        module.adapt()
    return module


def _place_on_device(module: torch.nn.Module, spec: FitConfig) -> torch.nn.Module:
    """Return the module on this worker's device, sharded if the params say so."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    if spec.params.sharding == "fsdp" and world() > 1:
        return shard(module, device)
    return module.to(device)


def _packed_batches(rows: EncodedRows) -> Iterator[Batch]:
    """Yield all rows once, packed."""
    for start in range(0, len(rows), _COUNT_BATCH):
        end = min(start + _COUNT_BATCH, len(rows))
        arrays = rows.batch(range(start, end), packed=True)
        yield {name: torch.from_numpy(value) for name, value in arrays.items()}


def _load_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Load weights to start from. A head that they lack stays as it is.

    Args:
        module: the network.
        weights: name -> tensor.
        where: the origin of the weights, for the message.

    Raises:
        InputError: they are the weights of another network.
    """
    expected = {
        name: value.shape
        for name, value in module.state_dict().items()
        if name in weights or not name.startswith("head.")
    }
    shapes = {name: value.shape for name, value in weights.items()}
    wrong = sorted(
        name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name)
    )
    if wrong:
        raise InputError(
            f"holds the weights of another network: {len(wrong)} of them differ in name or size, "
            f"{wrong[0]} first",
            where=where,
            remedy="run the stage that wrote it again",
        )
    module.load_state_dict(dict(weights), strict=False)


class _Loop:
    """Epochs of a fit, from any state on."""

    def __init__(
        self,
        spec: FitConfig,
        train_step: TrainStep,
        *,
        train: EncodedRows,
        validation: EncodedRows,
        checkpoints: Checkpoints,
        state: TrainState,
        journal: Journal | None,
        log: Log,
    ) -> None:
        self.spec = spec
        self.train_step = train_step
        self.train = train
        self.validation = validation
        self.checkpoints = checkpoints
        self.state = state
        self.journal = journal
        self.packed = _supports_packing(spec)
        self.parts = MicroBatches(spec.state, spec.params.micro_batch_tokens, log)
        self.throughput = Throughput(train_step.device)
        annotation = base.schema(spec.task).options["augment"].model_fields["online"].annotation
        self.online = annotation.model_validate(dict(spec.online)) if annotation else None

    def epoch(self) -> dict[str, float]:
        """Run the rest of an epoch, then validation. Return its row of the curve."""
        params = self.spec.params
        state = self.state
        batches = plan(
            self.train.lengths,
            params.batch_size,
            self.spec.seed,
            state.epoch,
            params.batch_tokens,
        )
        total = len(batches) * params.epochs
        for number in range(state.batch, len(batches)):
            self._step(batches[number], total)
            state.batch = number + 1
            if state.step % params.checkpoint_steps == 0 and state.batch < len(batches):
                self._save()
            if self.journal and state.step % _PROGRESS_STEPS == 0:
                kind = "pretraining " if self.spec.mask_share else ""
                self.journal.progress(state.step, total, f"steps ({kind}{self.spec.architecture})")
        cost = self.throughput.read()
        metrics = self._validate()
        row = {
            "epoch": float(state.epoch + 1),
            "step": float(state.step),
            "workers": float(world()),
            "train_loss": state.loss_sum / len(batches),
        }
        row |= {f"validation_{name}": value for name, value in metrics.items()}
        self._end_epoch(row, cost)
        return row

    def _validate(self) -> Mapping[str, float]:
        """Return the task's metrics on the validation split."""
        batches = in_order(self.validation.lengths, max(_VALIDATION_BATCH, world()))
        # Each worker needs a row of each batch, because sharded workers compute together.
        if len(batches) > 1 and len(batches[-1]) < world():
            batches[-2:] = [np.concatenate(batches[-2:])]
        return self.train_step.validate(
            self.validation.batch(rows[rank() :: world()], self.packed) for rows in batches
        )

    def _step(self, rows: Numbers, total: int) -> None:
        """Run one update from this worker's share of a batch.

        Args:
            rows: (n,) row numbers of the whole batch.
            total: steps of the whole fit.
        """
        self.state.loss_sum += self.parts.run(
            rows[rank() :: world()],
            self.train.lengths,
            lambda parts: self._update(rows, parts, total),
        )
        self.state.step += 1

    def _update(self, rows: Numbers, parts: list[Numbers], total: int) -> float:
        """Return the loss after one update.

        Args:
            rows: (n,) row numbers of the whole batch.
            parts: row numbers of this worker's micro-batches.
            total: steps of the whole fit.
        """
        state = self.state
        # Integers have the same hash in every process.
        seed = hash((self.spec.seed, state.epoch, state.batch, rank()))
        torch.manual_seed(seed & _POSITIVE_INT32)
        arrays = [self.train.batch(part, self.packed) for part in parts]
        tokens = sum(int(self.train.lengths[part].sum()) for part in parts)
        self.throughput.count(arrays, tokens)
        # The other workers wait for this one's gradient, which is zero.
        while len(arrays) < self._least_parts(rows):
            arrays.append(self._weightless_batch(rows))
        batches = self._transformed([self.train_step.put(part) for part in arrays])
        learning_rate = learning_rate_at(state.step, total, self.spec.params, state.reductions)
        return self.train_step.step(batches, len(rows), learning_rate)

    def _weightless_batch(self, rows: Numbers) -> Arrays:
        """Return a batch of one row with weight 0, whose gradient is zero."""
        weight = self.train.target[:1].astype("float32") * 0
        return {**self.train.batch(rows[:1], self.packed), "weight": weight}

    def _transformed(self, batches: list[Batch]) -> list[Batch]:
        """Return batches after the task's random transforms, if it has any."""
        if self.online is None:
            return batches
        seed = hash((self.spec.seed + 1, self.state.step, rank()))
        generator = torch.Generator().manual_seed(seed & _POSITIVE_INT32)
        learning = self.train_step.learning
        return [learning.transform(batch, generator, self.online) for batch in batches]

    def _least_parts(self, rows: Numbers) -> int:
        """Return the least number of micro-batches of a worker.

        Sharded workers compute together, so that all need the same number.
        """
        if not self.train_step.sharded:
            return 1
        most = 0
        for worker in range(min(world(), len(rows))):
            parts = within(rows[worker :: world()], self.train.lengths, self.parts.tokens)
            most = max(most, len(list(parts)))
        return most

    def _end_epoch(self, row: dict[str, float], cost: dict[str, float]) -> None:
        """Record an epoch: curve, patience, best weights, checkpoint, journal.

        Args:
            row: the epoch's row of the curve.
            cost: what `Throughput.read` returned.
        """
        state = self.state
        state.curve.append(row)
        improved = _best(self.spec, state.curve) is row
        if improved:
            state.epochs_without_improvement = 0
        else:
            state.epochs_without_improvement += 1
            state.reductions += 1
        state.epoch += 1
        state.batch = 0
        state.loss_sum = 0.0
        if improved and (rank() == 0 or self.train_step.sharded):
            weights = self.train_step.weights()
            if rank() == 0:
                write_atomic(self.spec.state / _BEST, save(weights))
        self._save()
        if self.journal:
            prefix = "pretrain_" if self.spec.mask_share else ""
            metrics = {f"{prefix}{name}": value for name, value in (row | cost).items()}
            self.journal.metrics(metrics, step=int(row["step"]))

    def _save(self) -> None:
        """Write a checkpoint. Sharded workers gather the state together."""
        if rank() != 0 and not self.train_step.sharded:
            return
        state = self.train_step.state()
        if rank() == 0:
            self.checkpoints.save(self.state.step, {**state, "position": vars(self.state)})


def _supports_packing(spec: FitConfig) -> bool:
    """Return whether the network takes packed rows, and so does the teacher.

    Both get the same batches. Relations between tokens are computed of padded rows.
    """
    from components.core.bundles import read_bundle

    if spec.hidden_weight:
        return False
    names = [spec.architecture]
    if spec.teacher:
        names.append(read_bundle(spec.teacher)[0].architecture)
    architectures = bundle_architectures(spec.task)
    return all(architectures[name].supports_packing for name in names)


def _check_split_sizes(*splits: EncodedRows) -> None:
    """Refuse a split with fewer rows than workers.

    The other workers would wait without end for the sums of a worker without a row.

    Raises:
        InputError: a split is too small.
    """
    fewest = min(len(rows) for rows in splits)
    if fewest < world():
        raise InputError(
            f"{world()} workers are too many for a split of {fewest} row(s)",
            where="train.workers",
            remedy="lower it, then run the same command again",
        )


def _report_rows(curve: list[dict[str, float]], report: Report) -> None:
    for row in curve:
        report(row)


def _restore(checkpoints: Checkpoints, train_step: TrainStep, log: Log) -> TrainState:
    """Return the newest saved state with the learner restored to it, or a new state."""
    saved = checkpoints.newest()
    if saved is None:
        return TrainState(workers=world())
    train_step.restore(saved)
    state = TrainState(**saved["position"])
    changed = ""
    if state.workers != world():
        changed = f", with {world()} workers instead of {state.workers}: the steps stay the same"
    log(
        f"going on at epoch {state.epoch + 1}, batch {state.batch + 1} (step {state.step}){changed}"
    )
    state.workers = world()
    return state


def _best(spec: FitConfig, curve: list[dict[str, float]]) -> dict[str, float]:
    """Return the row with the best value of the monitored metric, of equal ones the first."""
    learning: Any = base.pretraining(spec.task) if spec.mask_share else base.learning(spec.task)
    sign = 1 if learning.monitored_goal == "max" else -1

    def rating(row: dict[str, float]) -> tuple[float, float]:
        return sign * row[f"validation_{learning.monitored_metric}"], -row["epoch"]

    return max(curve, key=rating)
