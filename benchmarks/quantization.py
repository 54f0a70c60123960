"""Section "quantized in several ways": one network in fp32, in int8, and with few-bit weights.

    python benchmarks/quantization.py headlines    # after gristmill run headlines

The parent of the candidates of compress is exported once and quantized in each way. Dynamic int8 of
ONNX Runtime, which gristmill does not offer, stands beside it. All graphs compute the same batches
of validation rows in turn, on one thread, in one process. Speeds are medians of rounds, with the
range of half of them. Test rows are not read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.compression import BATCHES, ROOT, candidates, speedups
from benchmarks.processor import processor_name
from components.core.bundles import read_card
from components.inference.graph_module import GraphModule
from components.inference.predictor import load_module
from components.stages.compress.quantize import export, int8
from components.stages.compress.quantize_weights import half_weights, quantize_weights
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.evaluation import module_score

SEED = 7
CALIBRATION_ROWS = 256


def main() -> None:
    """Print a table of one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name")
    name = parser.parse_args().pipeline
    data = ROOT / "data" / name
    parent = candidates(data)["parent"]
    task = read_card(parent).card.task
    tokens = data / "tokens"
    graphs = quantized(parent, tokens, task)
    networks = {way: GraphModule(graph) for way, graph in graphs.items()}
    speeds = {batch: speedups(networks, "fp32", tokens, task, batch) for batch in BATCHES}
    rows = validation_inputs(tokens, task)
    with torch.inference_mode():
        exact = networks["fp32"](**rows)
    print(f"{name}, {processor_name()}, {parent.parent.name}, {len(exact)} rows of validation")
    print("| graph | MB | batch 1 | batch 32 | KL | moved by the batch | on validation |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for way, network in networks.items():
        values = [
            f"{len(graphs[way]) / 1e6:.1f}",
            *(speeds[batch][way] for batch in BATCHES),
            f"{divergence(exact, network, rows):.4f}",
            f"{moved_by_batch(network, rows):.4f}",
            f"{module_score(network, tokens, task):.4f}",
        ]
        print(f"| {way} | {' | '.join(values)} |")


def quantized(parent: Path, tokens: Path, task: str) -> dict[str, bytes]:
    """Return name -> graph of the parent in each form.

    Args:
        parent: bundle of the network.
        tokens: folder of encoded tables.
        task: name of the task.
    """
    rows = EncodedRows(tokens, "train", load_encoder(tokens, task))
    architecture = base.models(task).architectures[read_card(parent).card.architecture]
    graph = architecture.graphs(load_module(parent))["forward"]
    example = rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())])
    fp32 = export(graph, dict(example))
    return {
        "fp32": fp32,
        "static int8": int8(fp32, rows, CALIBRATION_ROWS, SEED),
        "dynamic int8": dynamic_int8(fp32),
        "weights in 8 bits": quantize_weights(fp32, 8),
        "weights in 4 bits": quantize_weights(fp32, 4),
        "weights in fp16": half_weights(fp32),
    }


def dynamic_int8(content: bytes) -> bytes:
    """Return a graph quantized by ONNX Runtime's `quantize_dynamic`, per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "fp32.onnx"
        target = Path(folder) / "int8.onnx"
        source.write_bytes(content)
        quantize_dynamic(str(source), str(target), per_channel=True, weight_type=QuantType.QInt8)
        return target.read_bytes()


def validation_inputs(tokens: Path, task: str) -> dict[str, torch.Tensor]:
    """Return the inputs of at most 256 validation rows as one batch."""
    rows = EncodedRows(tokens, "validation", load_encoder(tokens, task))
    arrays = dict(rows.batch(range(min(256, len(rows)))))
    del arrays["target"]
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def divergence(
    exact: torch.Tensor, network: torch.nn.Module, rows: Mapping[str, torch.Tensor]
) -> float:
    """Return the mean KL divergence of a network's answers from the exact logits (n, c)."""
    with torch.inference_mode():
        logits = network(**rows)
    difference = exact.log_softmax(-1) - logits.log_softmax(-1)
    return float((exact.softmax(-1) * difference).sum(-1).mean())


def moved_by_batch(network: torch.nn.Module, rows: Mapping[str, torch.Tensor]) -> float:
    """Return how far a logit of the first row is alone from what it is among the others."""
    with torch.inference_mode():
        together = network(**rows)[:1]
        alone = network(**{name: value[:1] for name, value in rows.items()})
    return float((together - alone).abs().max())


if __name__ == "__main__":
    main()
