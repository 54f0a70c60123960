"""The training loop: a plain function over a process group. It knows nothing of Ray, so it can be run, tested and profiled alone."""

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
from components.core.tables import read_manifest
from components.models.base import AdapterModel
from components.tasks import base
from components.training.allocator import keep_freed_memory
from components.training.batches import EncodedRows, Numbers, in_order, load_encoder, plan, within
from components.training.checkpoints import Checkpoints
from components.training.fit_config import FitConfig, FitResult
from components.training.fsdp import shard
from components.training.lr_schedule import learning_rate_at
from components.training.micro_batches import Parts
from components.training.throughput import Throughput
from components.training.train_step import LossOf, TrainStep, rank, world

_VALIDATION_BATCH = 256
_COUNTED = 4096  # rows at a time
_BEST = "best.safetensors"


@dataclass
class TrainState:
    """How far a fit is; randomness is a function of it, so nothing else need be kept of a generator."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    epochs_without_improvement: int = 0
    reductions: int = 0  # of the learning rate, by plateaus
    workers: int = 0  # that came so far
    curve: list[dict[str, float]] = field(default_factory=list)


def fit(
    spec: FitConfig,
    journal: Journal | None = None,
    report: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> FitResult:
    """Fit a network and keep the weights of its best epoch.

    Args:
        spec: what to fit. A state folder with checkpoints of the same spec is gone on from.
        journal: where the first worker reports.
        report: called by all workers after each epoch with its row of the curve; a search may raise out of it. A fit that goes on, or has
            been to its end before, first tells all rows that it has: whoever listens may have died before it wrote the last one down.

    Raises:
        InputError: the loss stopped being finite, or a single row does not fit the memory.
    """
    if (found := finished(spec)) is not None:
        _tell(found.curve, report)
        return found
    keep_freed_memory()
    torch.manual_seed(spec.seed)
    encoder = load_encoder(spec.tokens, spec.task)
    learner = make_learner(spec, encoder)
    train = EncodedRows(
        spec.tokens,
        learns_from(spec),
        encoder,
        balanced=spec.params.class_weights == "balanced" and not spec.masked,
    )
    validation = EncodedRows(spec.tokens, "validation", encoder)
    _check_shares(train, validation)
    say = (journal.log if journal else print) if rank() == 0 else lambda _: None
    checkpoints = Checkpoints(
        spec.state / "checkpoints", say, spec.params.checkpoint_keep, spec.params.checkpoint_disk_mb
    )
    position = _restore(checkpoints, learner, say)
    _tell(position.curve, report)
    loop = _Loop(
        spec,
        learner,
        train,
        validation,
        checkpoints,
        position,
        journal if rank() == 0 else None,
        say,
    )
    try:
        while (
            position.epoch < (spec.until or spec.params.epochs)
            and position.epochs_without_improvement < spec.params.patience
        ):
            report(loop.epoch())
    except FloatingPointError as error:
        where = f"at step {position.step} (epoch {position.epoch + 1})"
        raise InputError(
            f"{error} {where}",
            where="train.learning_rate",
            remedy=f"lower it (it is {spec.params.learning_rate}) or lower train.clip_norm, then run the same command again",
        ) from None
    finally:
        checkpoints.close()
    parameters = sum(p.numel() for p in learner.module.parameters())
    if rank() == 0:
        write_atomic(
            spec.done,
            to_json({"curve": position.curve, "world": world(), "parameters": parameters}),
        )
    return FitResult(
        spec.state / _BEST, position.curve, _best(spec, position.curve), world(), parameters
    )


def learns_from(spec: FitConfig) -> list[str]:
    """The splits: rows without labels are only good for pretraining."""
    more = spec.masked and read_manifest(spec.tokens)["parts"].get("unlabelled")
    return ["train", "unlabelled"] if more else ["train"]


def finished(spec: FitConfig) -> FitResult | None:
    """What an earlier run of the same fit left, if it came to its end."""
    if not spec.done.exists():
        return None
    facts = json.loads(spec.done.read_text(encoding="utf-8"))
    return FitResult(
        spec.state / _BEST,
        facts["curve"],
        _best(spec, facts["curve"]),
        facts["world"],
        facts["parameters"],
    )


def make_learner(spec: FitConfig, encoder: base.Encoder) -> TrainStep:
    """The network on its device, with its loss and optimizer."""
    architecture = base.models(spec.task).architectures[spec.architecture]
    module = architecture.build(architecture.Config.model_validate(dict(spec.config)), encoder)
    if spec.initial:
        _fill(module, load_file(spec.initial), str(spec.initial))
    elif isinstance(architecture, base.UsesPretrainedWeights):
        _fill(module, architecture.weights(spec.tokens), spec.architecture)
    elif isinstance(architecture, base.NeedsCorpusPass):
        architecture.count(module, _once(EncodedRows(spec.tokens, "train", encoder)))
    if spec.masked:
        assert isinstance(architecture, base.Pretrains)
        module = architecture.masked(module)
    if isinstance(module, AdapterModel):
        module.adapt()
    device = (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
    module = (
        shard(module, device)
        if spec.params.sharding == "fsdp" and world() > 1
        else module.to(device)
    )
    learning = (
        base.pretraining(spec.task)(encoder, spec.masked)
        if spec.masked
        else base.learning(spec.task)
    )
    return TrainStep(
        module.train(), learning, spec.params, _imitation(spec, learning) if spec.teacher else None
    )


def _once(rows: EncodedRows) -> Iterator[base.Batch]:
    """All rows, laid end to end."""
    for start in range(0, len(rows), _COUNTED):
        yield {
            name: torch.from_numpy(value)
            for name, value in rows.batch(
                range(start, min(start + _COUNTED, len(rows))), packed=True
            ).items()
        }


def _fill(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Weights to start from; a head that they do not have stays as it is.

    Raises:
        InputError: they are another net's.
    """
    own = {
        name: value.shape
        for name, value in module.state_dict().items()
        if name in weights or not name.startswith("head.")
    }
    given = {name: value.shape for name, value in weights.items()}
    if wrong := sorted(
        name for name in own.keys() | given.keys() if own.get(name) != given.get(name)
    ):
        raise InputError(
            f"holds the weights of another network: {len(wrong)} of them differ in name or size, {wrong[0]} first",
            where=where,
            remedy="run the stage that wrote it again",
        )
    module.load_state_dict(dict(weights), strict=False)


def _imitation(spec: FitConfig, learning: base.Learning) -> LossOf:
    """The loss against a teacher, who runs along without gradients."""
    from components.inference.predictor import load_module

    assert spec.teacher is not None
    teacher = load_module(spec.teacher)

    def loss(module: torch.nn.Module, batch: base.Batch) -> base.Loss:
        inputs = {name: value for name, value in batch.items() if name not in ("target", "weight")}
        with torch.no_grad():
            teacher_logits = teacher.to(batch["target"].device)(**inputs)
        return learning.distillation_loss(
            module(**inputs), teacher_logits, batch, spec.temperature, spec.imitation
        )

    return loss


class _Loop:
    """One epoch after the other, from wherever the position is."""

    def __init__(
        self,
        spec: FitConfig,
        learner: TrainStep,
        train: EncodedRows,
        validation: EncodedRows,
        checkpoints: Checkpoints,
        position: TrainState,
        journal: Journal | None,
        say: Callable[[str], None],
    ) -> None:
        self.spec, self.learner, self.train, self.validation = spec, learner, train, validation
        self.checkpoints, self.position, self.journal = checkpoints, position, journal
        self.packed = _packs(spec)
        self.parts = Parts(spec.state, spec.params.micro_batch_tokens, say)
        self.meter = Throughput(learner.device)
        options = base.schema(spec.task).options["augment"].model_fields["online"].annotation
        self.online = options.model_validate(dict(spec.online)) if options else None

    def epoch(self) -> dict[str, float]:
        """The rest of an epoch, then validation. Returns its row of the curve."""
        spec, position = self.spec, self.position
        batches = plan(
            self.train.lengths,
            spec.params.batch_size,
            spec.seed,
            position.epoch,
            spec.params.batch_tokens,
        )
        total = len(batches) * spec.params.epochs
        for number in range(position.batch, len(batches)):
            self._step(batches[number], total)
            position.batch = number + 1
            if position.step % spec.params.checkpoint_steps == 0 and position.batch < len(batches):
                self._save()
            if self.journal and position.step % 20 == 0:
                self.journal.progress(
                    position.step,
                    total,
                    f"steps ({'pretraining ' if spec.masked else ''}{spec.architecture})",
                )
        cost = self.meter.read()
        shares = in_order(self.validation.lengths, max(_VALIDATION_BATCH, world()))
        if (
            len(shares) > 1 and len(shares[-1]) < world()
        ):  # each worker has a row of each: sharded ones compute together
            shares[-2:] = [np.concatenate(shares[-2:])]
        figures = self.learner.validate(
            self.validation.batch(rows[rank() :: world()], self.packed) for rows in shares
        )
        row = {
            "epoch": float(position.epoch + 1),
            "step": float(position.step),
            "workers": float(world()),
            "train_loss": position.loss_sum / len(batches),
        }
        row |= {f"validation_{name}": value for name, value in figures.items()}
        self._settle(row, cost)
        return row

    def _step(self, rows: Numbers, total: int) -> None:
        """One update from this worker's share of a batch."""
        position = self.position
        position.loss_sum += self.parts.run(
            rows[rank() :: world()],
            self.train.lengths,
            lambda parts: self._update(rows, parts, total),
        )
        position.step += 1

    def _update(self, rows: Numbers, parts: list[Numbers], total: int) -> float:
        spec, position = self.spec, self.position
        torch.manual_seed(
            hash((spec.seed, position.epoch, position.batch, rank())) & 0x7FFFFFFF
        )  # ints hash alike in every process
        arrays = [self.train.batch(part, self.packed) for part in parts]
        self.meter.count(arrays, sum(int(self.train.lengths[part].sum()) for part in parts))
        while len(arrays) < self._least(
            rows
        ):  # the others wait for this one's gradient, which is nothing
            arrays.append(
                {
                    **self.train.batch(rows[:1], self.packed),
                    "weight": self.train.target[:1].astype("float32") * 0,
                }
            )
        batches = [self.learner.put(each) for each in arrays]
        if self.online is not None:
            generator = torch.Generator().manual_seed(
                hash((spec.seed + 1, position.step, rank())) & 0x7FFFFFFF
            )
            batches = [
                self.learner.learning.transform(each, generator, self.online) for each in batches
            ]
        return self.learner.step(
            batches,
            len(rows),
            learning_rate_at(position.step, total, spec.params, position.reductions),
        )

    def _least(self, rows: Numbers) -> int:
        """In how many parts a worker computes at least: sharded ones in as many as each other, for they compute together."""
        if not self.learner.sharded:
            return 1
        return max(
            len(list(within(rows[each :: world()], self.train.lengths, self.parts.tokens)))
            for each in range(min(world(), len(rows)))
        )

    def _settle(self, row: dict[str, float], cost: dict[str, float]) -> None:
        """Book the epoch: best so far, patience, checkpoint."""
        spec, position = self.spec, self.position
        position.curve.append(row)
        gained = _best(spec, position.curve) is row
        position.epochs_without_improvement = (
            0 if gained else position.epochs_without_improvement + 1
        )
        position.reductions += not gained
        position.epoch, position.batch, position.loss_sum = position.epoch + 1, 0, 0.0
        if gained and (rank() == 0 or self.learner.sharded):
            weights = self.learner.weights()
            if rank() == 0:
                write_atomic(spec.state / _BEST, save(weights))
        self._save()
        if self.journal:
            self.journal.metrics(
                {
                    f"{'pretrain_' if spec.masked else ''}{name}": value
                    for name, value in (row | cost).items()
                },
                step=int(row["step"]),
            )

    def _save(self) -> None:
        if rank() == 0 or self.learner.sharded:
            state = self.learner.state()
            if rank() == 0:
                self.checkpoints.save(
                    self.position.step, {**state, "position": vars(self.position)}
                )


def _packs(spec: FitConfig) -> bool:
    """Rows are laid end to end if the network takes them so, and the teacher too, who is shown the same batches."""
    from components.core.bundles import read_bundle

    names = [
        spec.architecture,
        *([read_bundle(spec.teacher)[0].architecture] if spec.teacher else []),
    ]
    return all(base.models(spec.task).architectures[name].supports_packing for name in names)


def _check_shares(*splits: EncodedRows) -> None:
    """A worker without a row would leave the others waiting for its sums."""
    fewest = min(len(rows) for rows in splits)
    if fewest < world():
        raise InputError(
            f"{world()} workers are too many for a split of {fewest} row(s)",
            where="train.workers",
            remedy="lower it, then run the same command again",
        )


def _tell(curve: list[dict[str, float]], report: Callable[[Mapping[str, float]], None]) -> None:
    for row in curve:
        report(row)


def _restore(
    checkpoints: Checkpoints, learner: TrainStep, say: Callable[[str], None]
) -> TrainState:
    state = checkpoints.newest()
    if state is None:
        return TrainState(workers=world())
    learner.restore(state)
    position = TrainState(**state["position"])
    changed = (
        f", with {world()} workers instead of {position.workers}: the steps stay the same"
        if position.workers != world()
        else ""
    )
    say(
        f"going on at epoch {position.epoch + 1}, batch {position.batch + 1} (step {position.step}){changed}"
    )
    position.workers = world()
    return position


def _best(spec: FitConfig, curve: list[dict[str, float]]) -> dict[str, float]:
    """The row with the best watched figure; of equal ones the first."""
    learning: Any = base.pretraining(spec.task) if spec.masked else base.learning(spec.task)
    sign = 1 if learning.watch_goal == "max" else -1
    return max(
        curve,
        key=lambda row: (sign * row[f"validation_{learning.monitored_metric}"], -row["epoch"]),
    )
