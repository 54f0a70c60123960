"""Row "throughput with batching, answers equal to 1e-5".

The service with its batches against the same service that scores one query at a time. A real
uvicorn runs on one core and the load generator on another. Each client asks one review and asks
again when it is answered. Rounds of the arms are interleaved. Weights of the Transformer are not
fitted: they do not change its speed.

python benchmarks/batching.py [--data data] [--clients 64] [--rounds 5] [--seconds 4] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ARMS: dict[str, dict[str, Any]] = {
    "without": {"max_batch_size": 1, "batch_wait_ms": 0.0},
    "with": {"max_batch_size": 32, "max_batch_tokens": 4096},
}
TASK = "text_classification"
HEAD = (
    "POST /v1/predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)
# Answers that are compared between the arms.
CHECKED = 400


@dataclass(frozen=True)
class Round:
    """Holds the result of one period of load.

    Args:
        rate: requests per second.
        per_cpu: requests per CPU-second of the service; the same on a busy machine.
        p99: of the time to answer, in milliseconds.
    """

    rate: float
    per_cpu: float
    p99: float


def serve(
    bundle: Path,
    port: int,
    core: int,
    changes: dict[str, Any],
) -> None:
    """Run the service on one core. This is the main function of a child process."""
    os.sched_setaffinity(0, {core})
    import torch
    import uvicorn

    from components.inference.predictor import load
    from components.serving.http.app import build_app
    from components.serving.http.messages import ModelInfo
    from components.serving.params import ServeParams

    torch.set_num_threads(1)
    predictor = load(bundle)
    info = ModelInfo(
        name="bench",
        version="1",
        data_hash=predictor.card.data_hash,
        examples=[{"text": "房间很干净"}],
    )
    params = ServeParams.model_validate({**changes, "limits": {"queued_items": 4096}})
    app = build_app(predictor, info, params)
    uvicorn.run(
        app,
        port=port,
        log_level="error",
        access_log=False,
    )


class Served:
    """Runs a service in a child process."""

    def __init__(self, bundle: Path, core: int, changes: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve,
            args=(bundle, self.port, core, changes),
            daemon=True,
        )
        self.process.start()
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the service does not come up")

    def cpu(self) -> float:
        """Return the CPU-seconds that the service has used."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def stop(self) -> None:
        """End the service."""
        self.process.terminate()
        self.process.join()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """Send one request over an open connection and return the body of the answer.

    The answer is parsed here, because a client library would cost more than the model.
    """
    writer.write(HEAD.format(len(body)).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    answer = await reader.readexactly(length)
    assert head.startswith(b"HTTP/1.1 200"), answer
    return answer


async def load_for(
    port: int,
    bodies: list[bytes],
    clients: int,
    seconds: float,
) -> tuple[int, float, float]:
    """Return the number of requests, the seconds that they took, and their p99 in milliseconds."""
    times: list[float] = []
    began = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        position = number
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            await ask(reader, writer, bodies[position % len(bodies)])
            times.append((time.perf_counter() - start) * 1000)
            position += clients
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    took = time.perf_counter() - began
    return len(times), took, sorted(times)[int(len(times) * 0.99)]


async def answers(port: int, bodies: list[bytes], clients: int) -> list[dict[str, float]]:
    """Return the probabilities for each body. Several clients ask at once."""
    probabilities: list[dict[str, float]] = [{}] * len(bodies)

    async def client(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for position in range(first, len(bodies), clients):
            answer = json.loads(await ask(reader, writer, bodies[position]))
            probabilities[position] = answer["predictions"][0]["probabilities"]
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return probabilities


def transformer(data: Path, folder: Path) -> Path:
    """Write the bundle of a Transformer of 4 layers of 256, pruned by half, as int8 ONNX.

    Its weights are random.
    """
    import numpy as np
    import torch

    from components.stages.compress.quantize import export, int8
    from components.tasks import base
    from components.training.batches import EncodedRows, load_encoder
    from components.training.bundle_writer import save_onnx
    from components.training.fit_config import FitConfig
    from components.training.params import FitParams

    config = {
        "width": 256,
        "layers": 4,
        "heads": [2] * 4,
        "head_width": 64,
        "feedforward": [256] * 4,
        "dropout": 0.0,
    }
    tokens = data / "tokens"
    encoder = load_encoder(tokens, TASK)
    architecture = base.models(TASK).architectures["transformer"]
    torch.manual_seed(7)
    module = architecture.build(architecture.Config.model_validate(config), encoder)
    rows = EncodedRows(tokens, "train", encoder)
    example = {name: value for name, value in rows.batch(np.arange(4)).items() if name != "target"}
    spec = FitConfig(TASK, tokens, "transformer", config, FitParams(), {}, 7, folder / "state")
    graph = export(architecture.graphs(module)["forward"], example)
    content = int8(graph, rows, 64, 7)
    save_onnx(folder / "bundle", spec, content, "0" * 64, ["drawn", "int8"])
    return folder / "bundle"


def measure(
    name: str,
    bundle: Path,
    bodies: list[bytes],
    options: argparse.Namespace,
    cores: list[int],
) -> None:
    """Measure all rounds of one model and print its row."""
    services = {arm: Served(bundle, cores[0], changes) for arm, changes in ARMS.items()}
    try:
        difference = largest_difference(services, bodies[:CHECKED], options.clients)
        rounds: dict[str, list[Round]] = {arm: [] for arm in services}
        for number in range(options.rounds):
            for arm, service in sorted(services.items(), reverse=bool(number % 2)):
                rounds[arm].append(measure_round(service, bodies, options))
    finally:
        for service in services.values():
            service.stop()
    cells = [round_cell(rounds[arm]) for arm in ARMS]
    cells += [gain_cell(rounds, kind) for kind in ("rate", "per_cpu")]
    print(f"| {name} | {' | '.join(cells)} | {difference:.1e} |", flush=True)


def largest_difference(services: Mapping[str, Served], bodies: list[bytes], clients: int) -> float:
    """Return the largest difference of a probability between the arms."""
    one, other = (
        asyncio.run(answers(service.port, bodies, clients)) for service in services.values()
    )
    differences = []
    for left, right in zip(one, other, strict=True):
        differences += [abs(left[label] - right[label]) for label in left]
    return max(differences)


def measure_round(service: Served, bodies: list[bytes], options: argparse.Namespace) -> Round:
    """Measure one period of load."""
    before = service.cpu()
    answered, took, p99 = asyncio.run(
        load_for(service.port, bodies, options.clients, options.seconds)
    )
    return Round(answered / took, answered / (service.cpu() - before), p99)


def round_cell(rounds: Sequence[Round]) -> str:
    """Return the text of an arm: requests/s, requests per CPU-second, p99."""
    rate = median_and_range([result.rate for result in rounds])
    per_cpu = median_and_range([result.per_cpu for result in rounds])
    p99 = statistics.median(result.p99 for result in rounds)
    return f"{rate}, {per_cpu}, {p99:.0f}"


def gain_cell(rounds: Mapping[str, Sequence[Round]], kind: str) -> str:
    """Return the gain in a metric, by round."""
    ratios = [
        getattr(fast, kind) / getattr(slow, kind)
        for fast, slow in zip(rounds["with"], rounds["without"], strict=True)
    ]
    return median_and_range(ratios, 2)


def median_and_range(values: Sequence[float], digits: int = 0) -> str:
    """Return the median and the range of some values."""
    median = f"{statistics.median(values):,.{digits}f}"
    return f"{median} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def main() -> None:
    """Print the table."""
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    bodies = []
    for path in sorted((options.data / "clean").glob("test-*.parquet")):
        for text in pq.read_table(path)["text"].to_pylist():
            bodies.append(json.dumps({"text": text}).encode())
    models = options.data / "models"
    with tempfile.TemporaryDirectory() as scratch:
        bundles: dict[str, Callable[[], Path]] = {
            "classical": lambda: models / "trained" / "classical",
            "TextCNN, torch": lambda: models / "trained" / "network",
            "TextCNN, distilled, torch": lambda: models / "compressed" / "distilled",
            "TextCNN, int8 ONNX": lambda: models / "compressed" / "int8",
            "Transformer, 4 layers, int8 ONNX": lambda: transformer(options.data, Path(scratch)),
        }
        print(
            "| model | one at a time: requests/s, per CPU-second, p99 ms | batches: the same "
            "| gain in requests/s | gain per CPU-second | largest difference |",
            flush=True,
        )
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for name, bundle in bundles.items():
            if not options.only or options.only in name:
                measure(name, bundle(), bodies, options, cores)


if __name__ == "__main__":
    main()
