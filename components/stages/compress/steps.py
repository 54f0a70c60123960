"""Steps of compression: each reads a bundle and writes one that loads in a fresh process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from components.core.bundles import CARD, Card, read_bundle
from components.core.errors import InputError
from components.core.files import sha256, write_atomic
from components.core.job import Job
from components.inference.graph_module import GraphModule
from components.inference.predictor import WEIGHTS, load_module, onnx_scorer
from components.models.base import HasTokenStates
from components.stages.compress.params import Distill, Finetune, Prune, Quantize
from components.stages.compress.prune import (
    dropped_losses,
    gradient_scores,
    movement_scores,
    prune_network,
    select,
)
from components.stages.compress.quantize import (
    export,
    int8,
    int8_within,
    quantizable,
    sensitivities,
)
from components.stages.compress.quantize_weights import (
    half_weights,
    quantize_weights,
    weight_operators,
)
from components.stages.compress.zero_weights import (
    prunable_weights,
    two_of_four,
    without_smallest,
    zero_share,
)
from components.tasks import base
from components.tasks.base import Batch
from components.tasks.shared.models.ensembles.models import bundle_architectures
from components.training.batches import EncodedRows, load_encoder
from components.training.bundle_writer import save_onnx, save_torch
from components.training.distillation import write_teacher_answers
from components.training.evaluation import module_score
from components.training.fit_config import FitConfig, FitResult
from components.training.params import FitParams
from components.training.ray_fit import fit_distributed

# Train rows and rows of a batch from which first-order scores are computed.
_SCORE_ROWS = 1024
_SCORE_BATCH = 32
# Passes over these rows while weights move.
_MOVEMENT_PASSES = 3
# Train rows whose outputs show how sensitive an operator is.
_SENSITIVITY_ROWS = 128


@dataclass(frozen=True)
class StepInput:
    """What a step reads and where it writes. Paths are absolute.

    Args:
        job: compress.
        first: bundle of the network that the recipe began with, which teaches.
        source: bundle that the step changes.
        state: name of the step's checkpoints below the job's state.
        out: the bundle that is written.
    """

    job: Job
    first: Path
    source: Path
    state: str
    out: Path

    @property
    def tokens(self) -> Path:
        """Return the folder of encoded tables."""
        return self.job.inputs["tokens"]


# It returns why the bundle was left as it is; "" where it has written another one.
StepFunction = Callable[[StepInput, Any], str]


def run_step(name: str, given: StepInput, params: Any) -> str:
    """Run one step.

    Args:
        name: of the step.
        given: what it reads and writes.
        params: its settings.

    Returns:
        Why no bundle was written; "" if one was.
    """
    return STEP_FUNCTIONS[name](given, params)


def fitted_networks(job: Job) -> dict[str, Path]:
    """Return the bundles of the networks of train and tune, by the names of their candidates.

    Args:
        job: compress.
    """
    fitted = {name: job.inputs[name] / "network" for name in ("trained", "tuned")}
    return {name: network for name, network in fitted.items() if (network / CARD).is_file()}


def fit_config(job: Job, card: Card, state: str, **changes: Any) -> FitConfig:
    """Return a fit of a bundle's architecture with the params of train, some changed.

    Args:
        job: compress.
        card: of the bundle.
        state: name of the folder of checkpoints.
        changes: params of train that differ.
    """
    train: Any = job.sections["train"]
    augment: Any = job.sections["augment"]
    params = {}
    for name in FitParams.model_fields:
        params[name] = getattr(train, name)
    params.update(changes)
    return FitConfig(
        card.task,
        job.inputs["tokens"],
        card.architecture,
        card.config,
        FitParams(**params),
        augment.online.model_dump(),
        job.seed,
        job.state / state,
        loss_params=base.loss_params_of(card.task, train),
    )


def _prune(given: StepInput, params: Prune) -> str:
    """Cut what is worth the least, then fit, once or in rounds."""
    if params.method != "structured":
        return _prune_weights(given, params)
    card, _ = read_bundle(given.source)
    architecture = base.models(card.task).architectures[card.architecture]
    dims = architecture.pruning_spec().dims(load_module(given.source))
    if not dims:
        return f"{card.architecture} has no prunable dimensions"
    if params.layers and not any(dim.modules for dim in dims):
        return f"{card.architecture} has no layers that can be dropped; set layers to 0"
    source = given.source
    for number in range(params.rounds):
        is_last = number + 1 == params.rounds
        state = given.state if params.rounds == 1 else f"{given.state}-{number + 1}"
        out = given.out if is_last else given.job.state / state / "bundle"
        settings = params.model_copy(
            update={
                "share": _share_of_round(params.share, params.rounds),
                "layers": _share_of_round(params.layers, params.rounds),
                # Rounded in each round, small cuts would come to nothing.
                "multiple": params.multiple if is_last else 1,
            }
        )
        cut(given, source, settings, state, out)
        source = out
    return ""


def _prune_weights(given: StepInput, params: Prune) -> str:
    """Set the smallest weights to 0, then fit the others, once or in rounds."""
    card, files = read_bundle(given.source)
    module = load_module(given.source)
    fit = {"epochs": params.epochs, "learning_rate": params.learning_rate}
    weights = load(files[WEIGHTS])
    for number in range(1, params.rounds + 1):
        matrices = {name: weights[name] for name in prunable_weights(module)}
        if params.method == "2:4":
            weights |= two_of_four(matrices)
        else:
            share = 1 - (1 - params.share) ** (number / params.rounds)
            weights |= without_smallest(matrices, share)
        state = f"{given.state}-{number}"
        initial = given.job.state / f"{state}.safetensors"
        write_atomic(initial, save(weights))
        spec = replace(fit_config(given.job, card, state, **fit), initial=initial, keep_zeros=True)
        result = fit_distributed(spec, given.job.journal)
        weights = load(result.weights.read_bytes())
    zeros = zero_share({name: weights[name] for name in prunable_weights(module)})
    given.job.journal.log(f"prune: {zeros:.1%} of the weights are 0")
    _save(given.job, spec, result, given.out, [*card.origin, "prune"])
    return ""


def _share_of_round(share: float, rounds: int) -> float:
    """Return the share of what is left that a round cuts, for a share of all rounds together."""
    return float(1 - (1 - share) ** (1 / rounds))


def cut(
    given: StepInput,
    source: Path,
    params: Prune,
    state: str,
    out: Path,
    *,
    shares: Mapping[str, float] | None = None,
    scores: Mapping[str, torch.Tensor] | None = None,
    teacher_weight: float = 0.0,
) -> None:
    """Cut units and layers of a network, fit it and write its bundle.

    Args:
        given: what the step reads.
        source: bundle of the network.
        params: shares, scores, multiple, epochs and learning rate.
        state: name of the folder of checkpoints.
        out: the bundle that is written.
        shares: name of a dimension -> share that is cut. None: as the params say.
        scores: name of a dimension -> (units,). None: as the params say.
        teacher_weight: of the answers of the recipe's first network. 0: targets alone.
    """
    card, _ = read_bundle(source)
    architecture = base.models(card.task).architectures[card.architecture]
    module = load_module(source)
    pruning_spec = architecture.pruning_spec()
    dims = pruning_spec.dims(module)
    if shares is None:
        shares = {dim.name: params.layers if dim.modules else params.share for dim in dims}
    if scores is None:
        scores = unit_scores(
            given.job,
            card,
            module,
            params.score,
            layers=params.layers > 0,
            learning_rate=params.learning_rate,
        )
    parent_config = architecture.Config.model_validate(dict(card.config))
    config, weights = prune_network(
        module, parent_config, pruning_spec, shares, scores, params.multiple
    )
    for dim in dims:
        if dim.modules and shares[dim.name]:
            stay = select(dim, scores[dim.name], shares[dim.name]).tolist()
            numbers = ", ".join(map(str, stay))
            given.job.journal.log(f"prune: {len(stay)} of {dim.size} layers stay: {numbers}")
    initial = given.job.state / f"{state}.safetensors"
    write_atomic(initial, save(weights))
    fit = {"epochs": params.epochs, "learning_rate": params.learning_rate}
    spec = fit_config(given.job, card, state, **fit)
    spec = replace(spec, config=config.model_dump(), initial=initial)
    if teacher_weight:
        spec = replace(spec, temperature=2.0, teacher_weight=teacher_weight)
        spec = _taught(given, spec, given.first)
    fit_and_save(given.job, spec, out, [*card.origin, "prune"])


def unit_scores(
    job: Job,
    card: Card,
    module: torch.nn.Module,
    kind: str,
    *,
    layers: bool,
    learning_rate: float = 5e-4,
) -> dict[str, torch.Tensor]:
    """Return name of a dimension -> (units,) scores from some train rows.

    Args:
        job: compress.
        card: of the network's bundle.
        module: the network.
        kind: taylor, fisher, movement or magnitude; those of magnitude are left out.
        layers: whether layers are scored too.
        learning_rate: of the steps that show the movement.
    """
    learning = base.learning(card.task)
    dims = base.models(card.task).architectures[card.architecture].pruning_spec().dims(module)
    units = [width for width in dims if not width.modules]
    scores = {}
    if kind == "movement":
        passes = [_train_batches(job, card.task) for _ in range(_MOVEMENT_PASSES)]
        batches = chain.from_iterable(passes)
        scores = movement_scores(module, units, learning, batches, learning_rate)
    elif kind != "magnitude":
        rows = _train_batches(job, card.task)
        scores = gradient_scores(module, units, learning, rows, kind)
    for dim in dims:
        if dim.modules and layers:
            rows = _train_batches(job, card.task)
            scores[dim.name] = dropped_losses(module, dim, learning, rows)
    return scores


def _train_batches(job: Job, task: str) -> Iterator[Batch]:
    """Yield batches of random train rows."""
    tokens = job.inputs["tokens"]
    rows = EncodedRows(tokens, "train", load_encoder(tokens, task))
    rng = np.random.default_rng(job.seed)
    chosen = rng.permutation(len(rows))[:_SCORE_ROWS]
    for start in range(0, len(chosen), _SCORE_BATCH):
        arrays = rows.batch(chosen[start : start + _SCORE_BATCH])
        yield {name: torch.from_numpy(value) for name, value in arrays.items()}


def _finetune(given: StepInput, params: Finetune) -> str:
    """Fit the network again, with the answers of the recipe's first network."""
    card, _ = read_bundle(given.source)
    fit_and_save(given.job, _fit_again(given, params), given.out, [*card.origin, "finetune"])
    return ""


def _fit_again(given: StepInput, params: Finetune) -> FitConfig:
    """Return a fit of the source, with the answers of the recipe's first network."""
    card, files = read_bundle(given.source)
    initial = given.job.state / f"{given.state}.safetensors"
    write_atomic(initial, files[WEIGHTS])
    fit = {"epochs": params.epochs, "learning_rate": params.learning_rate}
    spec = replace(fit_config(given.job, card, given.state, **fit), initial=initial)
    if not params.weight:
        return spec
    spec = replace(spec, temperature=params.temperature, teacher_weight=params.weight)
    return _taught(given, spec, given.first)


def _export(given: StepInput, params: None) -> str:  # noqa: ARG001
    """Export to ONNX in fp32: the same answers, often faster."""
    write_graph(given, given.source, _exported(given), ["export"])
    return ""


def _exported(given: StepInput) -> bytes:
    """Return the graph of the source. All steps that begin with this network share one export."""
    path = given.job.state / f"exported-{sha256(given.source / CARD)[:12]}.onnx"
    if not path.is_file():
        write_atomic(path, export_bundle(given.job, given.source))
    return path.read_bytes()


def write_graph(
    given: StepInput,
    network: Path,
    graph: bytes,
    steps: Sequence[str],
) -> None:
    """Write the bundle of a graph.

    Args:
        given: where it is written.
        network: bundle of the network that the graph was exported from.
        graph: bytes of the ONNX file.
        steps: added to the network's origin.
    """
    card, _ = read_bundle(network)
    spec = fit_config(given.job, card, given.state)
    save_onnx(
        given.out,
        spec,
        graph,
        given.job.tags["params_hash"],
        [*card.origin, *steps],
    )


def export_bundle(job: Job, bundle: Path, module: torch.nn.Module | None = None) -> bytes:
    """Return the graph of a torch bundle.

    Args:
        job: compress.
        bundle: of the network.
        module: exported in its place, a network of the same architecture.
    """
    card, _ = read_bundle(bundle)
    rows = _train_rows(job, card.task)
    architecture = bundle_architectures(card.task)[card.architecture]
    network = load_module(bundle) if module is None else module
    graph = architecture.graphs(network)["forward"]
    # The longest and the shortest row: an example with padding in it, so that no axis looks
    # constant.
    longest = int(rows.lengths.argmax())
    shortest = int(rows.lengths.argmin())
    return export(graph, dict(rows.batch([longest, shortest])))


def _train_rows(job: Job, task: str) -> EncodedRows:
    tokens = job.inputs["tokens"]
    return EncodedRows(tokens, "train", load_encoder(tokens, task))


def _quantize(given: StepInput, params: Quantize) -> str:
    """Export to ONNX and quantize, after a fit with the rounding of int8 if the params ask for it.

    Returns:
        Why nothing was quantized: there is no weight in a form that can be.
    """
    if params.qat:
        given = replace(given, source=_fit_rounded(given, params.qat))
    card, _ = read_bundle(given.source)
    exported = _exported(given)
    if params.method == "weights" and not weight_operators(exported):
        return f"{card.architecture} has no matrix whose weights alone can be quantized"
    content = quantized(given.job, card, exported, params)
    write_graph(given, given.source, content, [params.origin])
    return ""


def _fit_rounded(given: StepInput, params: Finetune) -> Path:
    """Return the bundle of the source after a fit with the rounding of int8.

    Raises:
        InputError: the source is an ensemble, which cannot be fitted.
    """
    card, _ = read_bundle(given.source)
    if card.architecture not in base.models(card.task).architectures:
        raise InputError(
            f"{card.architecture} is several networks, which cannot be fitted",
            where="compress.quantize.qat",
            remedy="set it to null in this recipe, or write distill before quantize",
        )
    out = given.job.state / f"{given.state}-qat" / "bundle"
    spec = replace(_fit_again(given, params), fake_int8=True)
    fit_and_save(given.job, spec, out, [*card.origin, "qat"])
    return out


def quantized(job: Job, card: Card, exported: bytes, params: Quantize) -> bytes:
    """Return a graph in smaller numbers.

    Sensitive operators stay fp32 where the params ask for it.

    Args:
        job: compress.
        card: of the network's bundle.
        exported: the fp32 graph.
        params: of the step.
    """
    if params.method == "fp16":
        return half_weights(exported)
    rows = _train_rows(job, card.task)

    def quantize(fp32: Sequence[str]) -> bytes:
        """Return the graph in integers, without some operators."""
        if params.method == "weights":
            return quantize_weights(exported, params.bits, fp32)
        count = params.calibration_rows
        return int8(exported, rows, count, job.seed, calibration=params.calibration, fp32=fp32)

    if params.max_drop is None:
        return quantize([])
    before = module_score(GraphModule(exported), job.inputs["tokens"], card.task)
    sample = rows.batch(range(min(_SENSITIVITY_ROWS, len(rows))))

    def outputs(graph: bytes) -> Any:
        """Return the logits (n, d) of some train rows."""
        return onnx_scorer(graph)("forward", sample)["logits"]

    def drop(graph: bytes) -> float:
        """Return the share of the monitored metric on validation that a graph loses."""
        score = module_score(GraphModule(graph), job.inputs["tokens"], card.task)
        return lost_share(before, score)

    def ranking() -> list[str]:
        """Return the operators, the most sensitive first."""
        find = weight_operators if params.method == "weights" else quantizable
        return list(sensitivities(quantize, outputs, outputs(exported), find(exported)))

    content, fp32 = int8_within(quantize, drop, params.max_drop, ranking)
    if fp32:
        job.journal.log(f"quantize: {len(fp32)} sensitive operators stay fp32")
    return content


def lost_share(before: float, after: float) -> float:
    """Return which share of a metric is lost; negative where it became better.

    Args:
        before: the metric, larger is better.
        after: the same of another model.
    """
    if after == before:
        return 0.0
    return (before - after) / abs(before) if before else math.copysign(math.inf, before - after)


def _distill(given: StepInput, params: Distill) -> str:
    """Fit a smaller network to the answers of the teacher.

    Returns:
        Why there is no student: the same network without a teacher is better on validation.
    """
    card, _ = read_bundle(given.source)
    architecture = base.models(card.task).architectures[params.architecture]
    config = architecture.Config.model_validate(params.nets.get(params.architecture, {}))
    fit: dict[str, Any] = {"epochs": params.epochs, "learning_rate": params.learning_rate}
    for name in ("batch_size", "workers"):
        if getattr(params, name):
            fit[name] = getattr(params, name)
    alone = replace(
        fit_config(given.job, card, f"{given.state}-alone", **fit),
        architecture=params.architecture,
        config=config.model_dump(),
    )
    taught = replace(
        alone,
        state=given.job.state / given.state,
        temperature=params.temperature,
        teacher_weight=params.weight,
        hidden_weight=params.hidden,
        teacher_embeddings=params.embeddings == "teacher",
        unlabeled=params.unlabelled,
    )
    taught = _taught(given, taught, given.source)
    if params.hidden:
        _check_states(given, architecture.build(config, load_encoder(given.tokens, card.task)))
    result = fit_distributed(taught, given.job.journal)
    if params.compare:
        metric = base.learning(card.task).monitored_metric
        reached = result.best[f"validation_{metric}"]
        without = fit_distributed(alone, given.job.journal).best[f"validation_{metric}"]
        if _is_better(without, reached, card.task):
            values = f"{without:.4f} without a teacher, {reached:.4f} with it"
            return f"the same network reaches {metric} {values}"
    _save(given.job, taught, result, given.out, [*card.origin, "distill"])
    return ""


def _check_states(given: StepInput, student: torch.nn.Module) -> None:
    """Check that the teacher and the student compute a state for each token.

    Raises:
        InputError: one of them does not.
    """
    for role, network in (("teacher", load_module(given.source)), ("student", student)):
        if not isinstance(network, HasTokenStates):
            raise InputError(
                f"the {role} ({type(network).__name__}) has no states of tokens to match",
                where="compress.distill.hidden",
                remedy="set it to 0, or let an encoder teach an encoder: transformer, pretrained",
            )


def _taught(given: StepInput, spec: FitConfig, teacher: Path) -> FitConfig:
    """Return a fit with a teacher, who answers each row once if its inputs never change.

    Steps with the same teacher and rows share the answers.

    Args:
        given: of the step.
        spec: the fit.
        teacher: bundle of the teacher.
    """
    spec = replace(spec, teacher=teacher)
    # Each step needs other inputs, or the states of the teacher.
    if spec.online or spec.hidden_weight:
        return spec
    rows = "all" if spec.unlabeled else "train"
    path = given.job.state / f"answers-{sha256(teacher / CARD)[:12]}-{rows}.npy"
    write_teacher_answers(spec, path)
    return replace(spec, teacher_answers=path)


def _is_better(value: float, other: float, task: str) -> bool:
    """Return whether a value of the monitored metric is better than another one."""
    if base.learning(task).monitored_goal == "max":
        return value > other
    return value < other


def fit_and_save(
    job: Job,
    spec: FitConfig,
    out: Path,
    origin: Sequence[str],
) -> None:
    """Fit a network and write its bundle."""
    _save(job, spec, fit_distributed(spec, job.journal), out, origin)


def _save(
    job: Job,
    spec: FitConfig,
    result: FitResult,
    out: Path,
    origin: Sequence[str],
) -> None:
    save_torch(out, spec, result.weights.read_bytes(), job.tags["params_hash"], origin)


STEP_FUNCTIONS: Mapping[str, StepFunction] = {
    "prune": _prune,
    "finetune": _finetune,
    "quantize": _quantize,
    "distill": _distill,
    "export": _export,
}
