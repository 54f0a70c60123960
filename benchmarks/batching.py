"""Row "throughput with batching, answers equal to 1e-5": the service with its batches against the same service that scores one query at a time.

A real uvicorn on one core, the load generator on another, clients that ask one review each and ask again when they are answered.
Rounds of the arms are interleaved. Weights of the Transformer are not fitted: they change no time.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ARMS = {
    "without": {"max_batch_size": 1, "batch_wait_ms": 0.0},
    "with": {"max_batch_size": 32, "max_batch_tokens": 4096},
}
TASK = "text_classification"
HEAD = "POST /v1/predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
CHECKED = 400  # answers that are compared between the arms


def serve(bundle: Path, port: int, core: int, changes: dict[str, Any]) -> None:
    """In a process of its own: the service on one core."""
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
    uvicorn.run(
        build_app(
            predictor,
            info,
            ServeParams.model_validate({**changes, "limits": {"queued_items": 4096}}),
        ),
        port=port,
        log_level="error",
        access_log=False,
    )


class Served:
    """A running service."""

    def __init__(self, bundle: Path, core: int, changes: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(bundle, self.port, core, changes), daemon=True
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
        """Seconds of CPU that it has used."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.join()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """One request over a kept connection, read by hand: a client library would cost more than the model."""
    writer.write(HEAD.format(len(body)).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    answer = await reader.readexactly(length)
    assert head.startswith(b"HTTP/1.1 200"), answer
    return answer


async def load_for(
    port: int, bodies: list[bytes], clients: int, seconds: float
) -> tuple[int, float, float]:
    """Requests, the seconds that they took, and their p99 in milliseconds."""
    times: list[float] = []
    began = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        place = number
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            await ask(reader, writer, bodies[place % len(bodies)])
            times.append((time.perf_counter() - start) * 1000)
            place += clients
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    took = time.perf_counter() - began
    return len(times), took, sorted(times)[int(len(times) * 0.99)]


async def answers(port: int, bodies: list[bytes], clients: int) -> list[dict[str, float]]:
    """The probabilities of each body, asked by several clients at once."""
    found: list[dict[str, float]] = [{}] * len(bodies)

    async def client(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for place in range(first, len(bodies), clients):
            found[place] = json.loads(await ask(reader, writer, bodies[place]))["predictions"][0][
                "probabilities"
            ]
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return found


def transformer(data: Path, folder: Path) -> Path:
    """A Transformer of 4 layers of 256, half of it cut away and the rest as int8 ONNX, with weights as they are drawn."""
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
    encoder, architecture = (
        load_encoder(tokens, TASK),
        base.models(TASK).architectures["transformer"],
    )
    torch.manual_seed(7)
    module = architecture.build(architecture.Config.model_validate(config), encoder)
    rows = EncodedRows(tokens, "train", encoder)
    example = {name: value for name, value in rows.batch(np.arange(4)).items() if name != "target"}
    spec = FitConfig(TASK, tokens, "transformer", config, FitParams(), {}, 7, folder / "state")
    save_onnx(
        folder / "bundle",
        spec,
        int8(export(architecture.graphs(module)["forward"], example), rows, 64, 7),
        "0" * 64,
        ["drawn", "int8"],
    )
    return folder / "bundle"


def measure(
    name: str, bundle: Path, bodies: list[bytes], told: argparse.Namespace, cores: list[int]
) -> None:
    """All rounds of one model; prints its row."""
    running = {arm: Served(bundle, cores[0], changes) for arm, changes in ARMS.items()}
    try:
        given = {
            arm: asyncio.run(answers(each.port, bodies[:CHECKED], told.clients))
            for arm, each in running.items()
        }
        gap = max(
            abs(one[label] - other[label])
            for one, other in zip(*given.values(), strict=True)
            for label in one
        )
        rounds: dict[str, list[Round]] = {arm: [] for arm in running}
        for number in range(told.rounds):
            for arm, each in sorted(running.items(), reverse=bool(number % 2)):
                before = each.cpu()
                answered, took, p99 = asyncio.run(
                    load_for(each.port, bodies, told.clients, told.seconds)
                )
                rounds[arm].append(Round(answered / took, answered / (each.cpu() - before), p99))
    finally:
        for each in running.values():
            each.stop()
    cells = [
        f"{parallel_map([each.rate for each in rounds[arm]])}, {parallel_map([each.per_cpu for each in rounds[arm]])}, {statistics.median(each.p99 for each in rounds[arm]):.0f}"
        for arm in ARMS
    ]
    gains = [
        parallel_map(
            [
                getattr(fast, kind) / getattr(slow, kind)
                for fast, slow in zip(rounds["with"], rounds["without"], strict=True)
            ],
            2,
        )
        for kind in ("rate", "per_cpu")
    ]
    print(f"| {name} | {' | '.join([*cells, *gains])} | {gap:.1e} |", flush=True)


@dataclass(frozen=True)
class Round:
    """One stretch of load."""

    rate: float  # requests per second
    per_cpu: float  # requests per CPU-second of the service: the same on a busy machine
    p99: float  # milliseconds


def parallel_map(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def main() -> None:
    """Run the row."""
    import pyarrow.parquet as pq

    reader = argparse.ArgumentParser()
    reader.add_argument("--data", type=Path, default=Path("data"))
    reader.add_argument("--clients", type=int, default=64)
    reader.add_argument("--rounds", type=int, default=5)
    reader.add_argument("--seconds", type=float, default=4.0)
    reader.add_argument("--only")
    told = reader.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    texts = [
        text
        for path in sorted((told.data / "clean").glob("test-*.parquet"))
        for text in pq.read_table(path)["text"].to_pylist()
    ]
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    models = told.data / "models"
    with tempfile.TemporaryDirectory() as scratch:
        bundles = {
            "classical": models / "trained" / "classical",
            "TextCNN, torch": models / "trained" / "network",
        }
        bundles |= {
            "TextCNN, distilled, torch": models / "compressed" / "distilled",
            "TextCNN, int8 ONNX": models / "compressed" / "int8",
        }
        made = {"Transformer, 4 layers, int8 ONNX": lambda: transformer(told.data, Path(scratch))}
        print(
            "| model | one at a time: requests/s, per CPU-second, p99 ms | batches: the same | gain in requests/s | gain per CPU-second | largest difference |",
            flush=True,
        )
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for name in (each for each in (*bundles, *made) if not told.only or told.only in each):
            measure(name, bundles.get(name) or made[name](), bodies, told, cores)


if __name__ == "__main__":
    main()
