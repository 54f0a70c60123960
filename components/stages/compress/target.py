"""Reach a target: the most accurate network with the speed or size that is asked for.

A network is exported, quantized, or pruned and quantized. What each structure costs on this machine
is measured, and the cheapest cut with the wanted speed is searched (Kurtic et al. 2023, ZipLM,
arXiv:2302.04089).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from components.core.bundles import Card, bundle_bytes, read_bundle
from components.core.job import Job
from components.inference.graph_module import GraphModule
from components.inference.predictor import WEIGHTS, load_module
from components.models.base import PrunableDim
from components.stages.compress.cut_search import Cut, cheapest_cut, cuts_of, group_of
from components.stages.compress.model_speed import seconds_per_row, speed_batches
from components.stages.compress.params import Prune, Quantize, Target
from components.stages.compress.prune import prune_network, units_that_stay
from components.stages.compress.steps import (
    StepInput,
    cut,
    export_bundle,
    lost_share,
    quantized,
    unit_scores,
    write_graph,
)
from components.tasks import base
from components.tasks.base import Batch
from components.training.evaluation import module_score

# Shares of the units whose cut is timed, and those among which the search chooses.
_TIMED = (0.5, 0.9)
SHARES = tuple(tenths / 10 for tenths in range(1, 10))
# The speed is met from this share of it on. A cut aims at the whole, and little more.
_MET = 0.9
_MOST_ABOVE = 1.1
_ATTEMPTS = 6
# Rounds in which a cut of the search is timed, and those of a result, which decide.
_ROUNDS = 15
_ROUNDS_OF_RESULT = 45
# Weight of the answers of the first network when a cut one is fitted.
_TEACHER_WEIGHT = 0.5
_MB = 1e6


@dataclass(frozen=True)
class Measured:
    """A network as a graph, with its speed, size and loss against its parent.

    Args:
        form: "export" for fp32, "quantize" for integers.
        graph: bytes of the ONNX file.
        speedup: parent's seconds divided by its seconds.
        size_bytes: of the bundle.
        drop: share of the monitored metric on validation that it loses. Negative: it is better.
    """

    form: str
    graph: bytes
    speedup: float
    size_bytes: int
    drop: float

    def keeps(self, target: Target) -> bool:
        """Return whether speed, size and loss are as asked."""
        return self.is_small_and_fast(target) and self.drop <= target.max_drop

    def is_small_and_fast(self, target: Target, share: float = _MET) -> bool:
        """Return whether the size and a share of the speed are as asked."""
        fast = target.speedup is None or self.speedup >= share * target.speedup
        small = target.max_size_mb is None or self.size_bytes <= target.max_size_mb * _MB
        return fast and small

    def __str__(self) -> str:
        size = f"{self.size_bytes / _MB:.2f} MB"
        return f"{self.speedup:.2f} times as fast, {size}, {self.drop:.2%} lost on validation"


def reach(given: StepInput, target: Target) -> tuple[bool, str]:
    """Write the bundle of the most accurate network that keeps a target.

    Args:
        given: what the recipe reads and writes.
        target: speed, size and loss.

    Returns:
        Whether the bundle was written, and what was reached.
    """
    search = _Search(given, target)
    exported = search.exported(search.module)
    whole = {form: search.measure(form, exported) for form in ("export", "quantize")}
    kept = [measured for measured in whole.values() if measured.keeps(target)]
    if kept:
        best = min(kept, key=lambda measured: (measured.drop, -measured.speedup))
        search.write(best, given.source)
        return True, f"reached without a cut: {best}"
    usable = [measured for measured in whole.values() if measured.drop <= target.max_drop]
    forms = usable or list(whole.values())
    if not search.dims:
        architecture = search.card.architecture
        fastest = max(forms, key=lambda measured: measured.speedup)
        return False, f"not reached: {architecture} has no prunable dimensions; {fastest}"
    return search.cut_to(search.fastest_cut(forms))


@dataclass
class _Search:
    """The network of a recipe, and what was measured of it."""

    given: StepInput
    target: Target
    card: Card = field(init=False)
    module: torch.nn.Module = field(init=False)
    dims: Sequence[PrunableDim] = field(init=False)
    value: float = field(init=False)
    batches: list[Batch] = field(init=False)

    def __post_init__(self) -> None:
        self.card, files = read_bundle(self.given.source)
        self.module = load_module(self.given.source)
        spec = base.models(self.card.task).architectures[self.card.architecture].pruning_spec()
        self.dims = spec.dims(self.module)
        tokens = self.given.tokens
        self.value = module_score(self.module, tokens, self.card.task)
        self.batches = speed_batches(tokens, self.card.task, self.target.batch)
        self.rest_bytes = bundle_bytes(self.given.source) - len(files[WEIGHTS])

    @property
    def job(self) -> Job:
        """Return the job of compress."""
        return self.given.job

    @property
    def settings(self) -> Prune:
        """Return how networks are cut."""
        return self.job.params.prune or Prune()

    @property
    def quantization(self) -> Quantize:
        """Return how graphs are quantized."""
        return self.job.params.quantize or Quantize()

    def exported(self, module: torch.nn.Module) -> bytes:
        """Return a network of the same architecture as a graph in fp32."""
        return export_bundle(self.job, self.given.source, module)

    def graph(self, form: str, exported: bytes) -> bytes:
        """Return a graph in fp32 as it is, or quantized."""
        if form == "export":
            return exported
        return quantized(self.job, self.card, exported, self.quantization)

    def speedups(self, graphs: Mapping[str, bytes], rounds: int = _ROUNDS) -> dict[str, float]:
        """Return how much faster graphs are than the network."""
        networks: dict[str, torch.nn.Module] = {"": self.module}
        for name, graph in graphs.items():
            networks[name] = GraphModule(graph)
        seconds = seconds_per_row(networks, self.batches, rounds)
        return {name: seconds[""] / seconds[name] for name in graphs}

    def measure(self, form: str, exported: bytes) -> Measured:
        """Return what an exported network of the same architecture reaches in a form."""
        graph = self.graph(form, exported)
        score = module_score(GraphModule(graph), self.given.tokens, self.card.task)
        return Measured(
            form=form,
            graph=graph,
            speedup=self.speedups({form: graph}, _ROUNDS_OF_RESULT)[form],
            size_bytes=len(graph) + self.rest_bytes,
            drop=lost_share(self.value, score),
        )

    def write(self, measured: Measured, network: Path) -> None:
        """Write the bundle of a graph.

        Args:
            measured: the graph.
            network: bundle of the network that it was exported from.
        """
        step = "export" if measured.form == "export" else self.quantization.origin
        write_graph(self.given, network, measured.graph, [step])

    def fastest_cut(self, forms: Sequence[Measured]) -> Measured:
        """Return the form that is the fastest when half of the units are cut.

        The faster form leaves more of the network. A large network may be faster in integers, and
        its cut in fp32.

        Args:
            forms: the whole network in the forms that it may have.
        """
        half = {group_of(dim): 0.5 for dim in self.dims if not dim.modules}
        speedups = [self._measure_unfitted(whole.form, half).speedup for whole in forms]
        return forms[speedups.index(max(speedups))]

    def cut_to(self, whole: Measured) -> tuple[bool, str]:
        """Cut the network until it has the speed and size, fit it, and write it as a graph.

        Args:
            whole: the network before the cut, in the form that is written.

        Returns:
            Whether the bundle was written, and what was reached.
        """
        form = whole.form
        scores = unit_scores(self.job, self.card, self.module, "taylor", layers=True)
        savings = self._savings(whole)
        cuts = cuts_of(self.dims, scores, SHARES, savings, self.settings.multiple)
        shares, reached = self._shares(whole, cuts)
        if not reached.is_small_and_fast(self.target):
            return False, f"not reached: the largest cut is {reached}"
        network = self.given.job.state / f"{self.given.state}-cut" / "bundle"
        cut(
            self.given,
            self.given.source,
            self.settings,
            f"{self.given.state}-cut",
            network,
            shares=shares,
            scores=scores,
            teacher_weight=_TEACHER_WEIGHT,
        )
        final = self.measure(form, self.exported(load_module(network)))
        if not final.keeps(self.target):
            return False, f"not reached: {final}, with {self.target.max_drop:.2%} allowed"
        self.write(final, network)
        return True, f"reached: {final}"

    def _unfitted(self, form: str, shares: Mapping[str, float]) -> bytes:
        """Return the graph of the network after a cut, before it is fitted."""
        architecture = base.models(self.card.task).architectures[self.card.architecture]
        config = architecture.Config.model_validate(dict(self.card.config))
        spec = architecture.pruning_spec()
        multiple = self.settings.multiple
        smaller, weights = prune_network(self.module, config, spec, shares, multiple=multiple)
        module = build_network(self.job, self.card, smaller, weights)
        return self.graph(form, self.exported(module))

    def _savings(self, whole: Measured) -> dict[str, dict[float, float]]:
        """Return the share of the time that is saved by a cut of each group of dimensions.

        Groups of the same kind, such as the heads of all layers, are cut together and share what
        is saved.

        Returns:
            group -> share that is really cut -> share of the whole network's time.
        """
        state = self.module.state_dict()
        kinds: dict[str, list[PrunableDim]] = {}
        for dim in self.dims:
            kinds.setdefault(kind_of(dim, state), []).append(dim)
        savings: dict[str, dict[float, float]] = {}
        for dims in kinds.values():
            graphs = {0.0: whole.graph}
            for share in _TIMED:
                stay = units_that_stay(dims[0], share, self.settings.multiple)
                cut_share = 1 - stay / dims[0].size
                if cut_share not in graphs:
                    shares = {dim.name: share for dim in dims}
                    graphs[cut_share] = self._unfitted(whole.form, shares)
            speedups = self.speedups({str(share): graph for share, graph in graphs.items()})
            groups = set(map(group_of, dims))
            for share in graphs:
                saved = max(1 - speedups["0.0"] / speedups[str(share)], 0.0)
                for group in groups:
                    of_group = savings.setdefault(group, {})
                    of_group[share] = of_group.get(share, 0.0) + saved / len(groups)
        return savings

    def _shares(
        self, whole: Measured, cuts: Mapping[str, Sequence[Cut]]
    ) -> tuple[dict[str, float], Measured]:
        """Return the shares of the dimensions that give the speed and size, and what they give.

        The table of savings is not exact, so the aim is corrected by what a cut really gives.
        """
        # Shares of the time whose cut is too small, and large enough.
        too_small, enough = 0.0, 1.0
        best: tuple[dict[str, float], Measured] | None = None
        cut_share = self._predicted_cut(whole)
        for _ in range(_ATTEMPTS):
            chosen = cheapest_cut(cuts, 1 - cut_share)
            reached = self._measure_unfitted(whole.form, chosen)
            if reached.is_small_and_fast(self.target, share=1.0):
                best = chosen, reached
                enough = cut_share
                if self._is_close(reached):
                    break
            else:
                too_small = cut_share
                if all(chosen[group] == options[-1].share for group, options in cuts.items()):
                    break
            cut_share = (too_small + enough) / 2
        if best is None:
            largest = {group: options[-1].share for group, options in cuts.items()}
            return self._by_dim(largest), self._measure_unfitted(whole.form, largest)
        chosen, reached = self._less_cut(whole.form, cuts, *best)
        return self._by_dim(chosen), reached

    def _less_cut(
        self,
        form: str,
        cuts: Mapping[str, Sequence[Cut]],
        chosen: dict[str, float],
        reached: Measured,
    ) -> tuple[dict[str, float], Measured]:
        """Return smaller cuts that still give the speed and size, and what they give.

        A group with few sizes makes the network much faster at once. So each group in turn is cut
        less, the one that loses the most first.

        Args:
            form: of the graphs.
            cuts: group -> its cuts.
            chosen: group -> share that is cut, which gives the speed and size.
            reached: what it gives.
        """
        attempts = 0
        for group in sorted(cuts, key=lambda name: -_loss(cuts[name], chosen[name])):
            for less in _smaller(cuts[group], chosen[group]):
                if self._is_close(reached) or attempts == _ATTEMPTS:
                    return chosen, reached
                attempts += 1
                trial = {**chosen, group: less}
                measured = self._measure_unfitted(form, trial)
                if not measured.is_small_and_fast(self.target, share=1.0):
                    break
                chosen, reached = trial, measured
        return chosen, reached

    def _predicted_cut(self, whole: Measured) -> float:
        """Return the share of the time that must go for the speed that is asked for."""
        if self.target.speedup is None:
            return 0.5
        return max(1 - whole.speedup / self.target.speedup, 0.05)

    def _by_dim(self, chosen: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each dimension for those of the groups."""
        return {dim.name: chosen.get(group_of(dim), 0.0) for dim in self.dims}

    def _measure_unfitted(self, form: str, chosen: Mapping[str, float]) -> Measured:
        """Return speed and size of the network after a cut of the groups, before it is fitted."""
        graph = self._unfitted(form, self._by_dim(chosen))
        speedup = self.speedups({form: graph})[form]
        return Measured(form, graph, speedup, len(graph) + self.rest_bytes, 0.0)

    def _is_close(self, reached: Measured) -> bool:
        """Return whether a network is hardly faster or smaller than was asked for."""
        speedup = self.target.speedup
        if speedup is not None and reached.speedup <= _MOST_ABOVE * speedup:
            return True
        size_mb = self.target.max_size_mb
        return size_mb is not None and _MOST_ABOVE * reached.size_bytes >= size_mb * _MB


def _loss(options: Sequence[Cut], share: float) -> float:
    """Return the loss of the cut of a share."""
    return next(cut.loss for cut in options if cut.share == share)


def _smaller(options: Sequence[Cut], share: float) -> list[float]:
    """Return the shares of the smaller cuts, the largest first."""
    return [cut.share for cut in reversed(options) if cut.share < share]


def build_network(
    job: Job, card: Card, config: Any, weights: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Return a network with these weights, in evaluation mode.

    Args:
        job: compress.
        card: of a bundle of the same architecture.
        config: of the network.
        weights: by name.
    """
    from components.training.batches import load_encoder

    architecture = base.models(card.task).architectures[card.architecture]
    module = architecture.build(config, load_encoder(job.inputs["tokens"], card.task))
    module.load_state_dict(dict(weights))
    return module.eval().requires_grad_(False)


def kind_of(dim: PrunableDim, state: Mapping[str, torch.Tensor]) -> str:
    """Return the kind of a dimension: its name without numbers, its units and their weights.

    Args:
        dim: the dimension.
        state: parameters by name.
    """
    letters = "".join(character for character in dim.name if not character.isdigit())
    weights = sum(
        state[name].numel() // state[name].shape[axis] * width
        for name, axis, _, width in dim.slices
    )
    return f"{letters} {dim.size} {weights}"
