"""Rows "Pareto front": the candidates of compress beside what other tools make of the same teacher.

    pip install --no-deps nncf onnx-neural-compressor onnxruntime-extensions torch-pruning \
        openvino-telemetry ninja natsort py-cpuinfo prettytable tabulate
    python benchmarks/compression_peers.py headlines      # after gristmill run headlines

Each tool is used plainly, as its own pages show, with the same calibration rows. What Torch-Pruning
leaves is fitted again by the epochs, rows, batches and learning rate of train. All networks compute
the same batches of validation rows in turn, on one thread, in one process. A size is that of the
bundle, with the files that encode a text.

A point of a tool is above ours if none of our candidates is as fast for single rows and in batches,
as small, and not less accurate beyond noise: by McNemar's test at 5% on the rows of validation and
test together, or by their difference. Test rows choose nothing here.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name
from components.core.bundles import CARD, bundle_bytes, read_bundle, read_card, shown_size
from components.core.params import read_yaml
from components.inference.graph_module import GraphModule, load_network
from components.inference.predictor import GRAPH, load_module
from components.metrics.exact_tests import mcnemar
from components.stages.compress.model_speed import round_seconds, speed_batches
from components.stages.compress.quantize import export, one_thread_sessions
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder

ROOT = Path(__file__).resolve().parent.parent
BATCHES = (1, 32)
SPLITS = ("validation", "test")
_CALIBRATION_ROWS = 256
_ROUNDS = 45
_NOISE = 0.05
_PRUNED_SHARES = (0.5,)


@dataclass(frozen=True)
class Point:
    """What was measured of one network.

    Args:
        size: of its bundle in bytes.
        speedups: rows at a time -> how much faster it is than the teacher, in each round.
        right: split -> (n,) whether each answer is right.
    """

    size: int
    speedups: Mapping[int, NDArray[np.float64]]
    right: Mapping[str, NDArray[np.bool_]]

    def covers(self, other: Point) -> bool:
        """Return whether it is as fast and small as another one, and as accurate up to noise."""
        as_fast = all(
            np.median(self.speedups[batch]) >= np.median(other.speedups[batch]) for batch in BATCHES
        )
        mine = np.concatenate([self.right[split] for split in SPLITS])
        others = np.concatenate([other.right[split] for split in SPLITS])
        wins, losses = int((mine & ~others).sum()), int((others & ~mine).sum())
        as_accurate = wins >= losses or mcnemar(wins, losses) >= _NOISE
        return as_fast and self.size <= other.size and as_accurate


def main() -> None:
    """Print a table of one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name; its network must be pretrained")
    name = parser.parse_args().pipeline
    data = ROOT / "data" / name
    params = read_yaml(ROOT / "pipelines" / name / "params.yaml")
    teacher = data / "models" / "trained" / "network"
    bundles = {card.parent.name: card.parent for card in data.glob(f"models/compressed/*/{CARD}")}
    networks = {"teacher": load_network(teacher)}
    networks |= {folder: load_network(path) for folder, path in sorted(bundles.items())}
    sizes = {"teacher": bundle_bytes(teacher)}
    sizes |= {folder: bundle_bytes(path) for folder, path in bundles.items()}
    graph = read_bundle(bundles["onnx"])[1][GRAPH]
    rest_bytes = sizes["onnx"] - len(graph)
    for tool, made in peers(graph, teacher, data / "tokens", params).items():
        networks[tool] = GraphModule(made)
        sizes[tool] = len(made) + rest_bytes
    points = measured(networks, sizes, data / "tokens", read_card(teacher).card.task)
    print(f"{name}, {processor_name()}, {_ROUNDS} rounds; {versions()}")
    show(points, list(bundles))


def measured(
    networks: Mapping[str, torch.nn.Module], sizes: Mapping[str, int], tokens: Path, task: str
) -> dict[str, Point]:
    """Return the speed and the answers of all networks.

    Args:
        networks: by name, the teacher among them.
        sizes: of their bundles in bytes.
        tokens: folder of encoded tables.
        task: name of the task.
    """
    seconds = {}
    for batch in BATCHES:
        seconds[batch] = round_seconds(networks, speed_batches(tokens, task, batch), _ROUNDS)
    points = {}
    for name, network in networks.items():
        speedups = {
            batch: np.array(seconds[batch]["teacher"]) / np.array(seconds[batch][name])
            for batch in BATCHES
        }
        right = {split: right_answers(network, tokens, task, split) for split in SPLITS}
        points[name] = Point(sizes[name], speedups, right)
    return points


def right_answers(network: Any, tokens: Path, task: str, split: str) -> NDArray[np.bool_]:
    """Return (n,) whether the answer to each row of a split is right."""
    rows = EncodedRows(tokens, split, load_encoder(tokens, task))
    right = []
    with torch.inference_mode():
        # Rows one by one, so that an answer does not depend on how a tool treats padding.
        for index in range(len(rows)):
            inputs, target = tensors(rows, [index])
            right.append(bool(network(**inputs).argmax(1)[0] == target[0]))
    return np.array(right)


def tensors(rows: EncodedRows, chosen: Sequence[int]) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the inputs and the targets (n,) of some rows."""
    arrays = dict(rows.batch(chosen))
    target = torch.from_numpy(arrays.pop("target"))
    return {name: torch.from_numpy(value) for name, value in arrays.items()}, target


def show(points: Mapping[str, Point], ours: Sequence[str]) -> None:
    """Print all points, and for those of other tools which of ours covers them."""
    print("| network | size | smaller | batch 1 | batch 32 | validation, test | covered by |")
    print("| --- | ---: | ---: | ---: | ---: | --- | --- |")
    for name, point in points.items():
        cells = [shown_size(point.size), f"{points['teacher'].size / point.size:.1f}x"]
        for batch in BATCHES:
            low, middle, high = np.percentile(point.speedups[batch], [25, 50, 75])
            cells.append(f"{middle:.2f}x ({low:.2f} to {high:.2f})")
        cells.append(", ".join(f"{100 * point.right[split].mean():.1f}" for split in SPLITS))
        covered = "ours"
        if name not in ours:
            covered = ", ".join(each for each in ours if points[each].covers(point)) or "none"
        print(f"| {name} | {' | '.join(cells)} | {covered} |")


def versions() -> str:
    """Return the versions of the tools."""
    names = ("onnxruntime", "nncf", "onnx-neural-compressor", "torch-pruning")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def peers(graph: bytes, teacher: Path, tokens: Path, params: Any) -> dict[str, bytes]:
    """Return the graphs that other tools make of the teacher.

    Args:
        graph: the teacher as ONNX in fp32.
        teacher: its bundle.
        tokens: folder of encoded tables.
        params: of the pipeline.
    """
    task = read_card(teacher).card.task
    rows = EncodedRows(tokens, "train", load_encoder(tokens, task))
    chosen = np.random.default_rng(0).choice(
        len(rows), min(_CALIBRATION_ROWS, len(rows)), replace=False
    )
    inputs = []
    for row in chosen:
        arrays = dict(rows.batch([int(row)]))
        del arrays["target"]
        inputs.append(arrays)
    made: dict[str, bytes] = {}
    tools: dict[str, Callable[[Path, Path], None]] = {
        "ONNX Runtime, dynamic": ort_dynamic,
        "ONNX Runtime, static": lambda source, target: ort_static(source, target, inputs),
        "neural-compressor, dynamic": neural_compressor_dynamic,
        "neural-compressor, static": lambda source, target: neural_compressor_static(
            source, target, inputs
        ),
        "NNCF": lambda source, target: nncf_static(source, target, inputs),
    }
    with one_thread_sessions():
        for name, tool in tools.items():
            made[name] = converted(graph, tool)
        for share in _PRUNED_SHARES:
            pruned = torch_pruned(teacher, rows, params, share)
            name = f"Torch-Pruning, {share:.0%}"
            made[name] = pruned
            made[f"{name}, ONNX Runtime static"] = converted(
                pruned, lambda source, target: ort_static(source, target, inputs)
            )
    return made


def converted(graph: bytes, tool: Callable[[Path, Path], None]) -> bytes:
    """Return what a tool writes for a graph."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        source.write_bytes(graph)
        tool(source, target)
        return target.read_bytes()


def ort_dynamic(source: Path, target: Path) -> None:
    """Quantize weights, and activations when they are computed."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target)


def ort_static(source: Path, target: Path, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Quantize weights and activations after the preparation that the documentation asks for."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._inputs = iter(inputs)

        def get_next(self) -> Any:
            """Return the next row; None after the last."""
            return next(self._inputs, None)

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(target), Reader())


def neural_compressor_dynamic(source: Path, target: Path) -> None:
    """Quantize by Intel's neural-compressor for ONNX."""
    from onnx_neural_compressor.quantization import config, quantize

    quantize(source, target, config.DynamicQuantConfig())
    _into_one_file(target)


def neural_compressor_static(
    source: Path, target: Path, inputs: Sequence[Mapping[str, Any]]
) -> None:
    """Quantize by Intel's neural-compressor for ONNX, with ranges from rows."""
    from onnx_neural_compressor import data_reader
    from onnx_neural_compressor.quantization import config, quantize

    class Reader(data_reader.CalibrationDataReader):
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Any:
            """Return the next row; None after the last."""
            return next(self._inputs, None)

        def rewind(self) -> None:
            """Begin again."""
            self._inputs = iter(inputs)

    quantize(source, target, config.StaticQuantConfig(calibration_data_reader=Reader()))
    _into_one_file(target)


def _into_one_file(model: Path) -> None:
    """Write a model, whose weights lie in a file beside it, with its weights in it."""
    import onnx

    onnx.save(onnx.load(model), model, save_as_external_data=False)


def nncf_static(source: Path, target: Path, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Quantize by NNCF as a Transformer."""
    import nncf
    import onnx

    model = nncf.quantize(
        onnx.load(source), nncf.Dataset(list(inputs)), model_type=nncf.ModelType.TRANSFORMER
    )
    onnx.save(model, target)


def torch_pruned(teacher: Path, rows: EncodedRows, params: Any, share: float) -> bytes:
    """Return the teacher as ONNX after Torch-Pruning cut it and it was fitted again.

    Args:
        teacher: its bundle.
        rows: of train.
        params: of the pipeline.
        share: of the channels and heads that is cut.
    """
    import torch_pruning as tp

    torch.manual_seed(0)
    network = load_module(teacher).requires_grad_(True)
    attentions = [each for each in network.modules() if hasattr(each, "attention_head_size")]
    heads = {}
    for attention in attentions:
        for layer in (attention.query, attention.key, attention.value):
            heads[layer] = attention.num_attention_heads
    example, _ = tensors(rows, [0, 1])
    pruner = tp.pruner.BasePruner(
        network,
        example,
        tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=share,
        ignored_layers=[network.head],
        num_heads=heads,
        prune_head_dims=False,
        prune_num_heads=True,
        head_pruning_ratio=share,
        output_transform=torch.sum,
    )
    pruner.step()
    for attention in attentions:
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.all_head_size = attention.query.out_features
    fit(network, rows, params["train"])
    graph = base.models(read_card(teacher).card.task).architectures["pretrained"].graphs(network)
    lengths = rows.lengths
    arrays = dict(rows.batch([int(lengths.argmax()), int(lengths.argmin())]))
    return export(graph["forward"], arrays)


def fit(network: torch.nn.Module, rows: EncodedRows, train: Mapping[str, Any]) -> None:
    """Fit a network to the targets by a plain loop with the settings of train."""
    optimizer = torch.optim.AdamW(
        network.parameters(), train["learning_rate"], weight_decay=train["weight_decay"]
    )
    batch = train["batch_size"]
    steps = math.ceil(len(rows) / batch) * train["epochs"]
    warmup = max(1, round(train["warmup_share"] * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup))
    )
    network.train()
    for chosen in epochs_of(len(rows), batch, train["epochs"]):
        inputs, target = tensors(rows, chosen)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(**inputs).float()
        loss = torch.nn.functional.cross_entropy(
            logits, target, label_smoothing=train["label_smoothing"]
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), train["clip_norm"])
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)


def epochs_of(count: int, batch: int, epochs: int) -> Iterator[list[int]]:
    """Yield the rows of each batch, in another order in each epoch."""
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count, batch):
            yield order[start : start + batch].tolist()


if __name__ == "__main__":
    main()
