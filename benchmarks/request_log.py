"""Row "overhead of the request log <= 2% of serving throughput".

The service that logs its answers against the same one that does not. Both apps live in one
process and are called through ASGI, without sockets and clients, whose cost would hide the log's.
Requests are counted per CPU-second of the process, in which the log's thread writes, too. Rounds
of the arms are interleaved. The interval is a bootstrap over rounds (95%) of the median. By
default the service logs 20 answers a second. The third arm logs all of them, to show what that
would cost.

python benchmarks/request_log.py [--data data] [--bundle FOLDER] [--clients 16] [--rounds 45]
    [--seconds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from components.inference.predictor import load
from components.monitoring.monitor_folder import Monitoring
from components.monitoring.params import MonitorParams
from components.serving.http.app import build_app
from components.serving.http.messages import ModelInfo
from components.serving.http.monitoring_routes import ReplicaMonitor
from components.serving.params import LimitParams, ServeParams

# Arm -> changes of section `monitor`. None: no log.
ARMS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "as shipped": {},
    "all answers": {"rows_per_s": 10_000.0},
}
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/predict",
    "raw_path": b"/v1/predict",
    "query_string": b"",
    "root_path": "",
    "client": ("127.0.0.1", 1),
    "server": ("bench", 80),
}


async def ask(app: Any, body: bytes) -> None:
    """Send one request straight into the app. An HTTP client would cost as much as the answer."""
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"host", b"bench"),
    ]
    await app(SCOPE | {"headers": headers, "state": {}}, receive, send)
    assert status == [200], status


async def load_for(
    app: Any,
    bodies: list[bytes],
    clients: int,
    seconds: float,
) -> float:
    """Return the requests per CPU-second of the process, with the log's thread."""
    done = 0
    began = time.perf_counter()
    cpu = time.process_time()

    async def client(number: int) -> None:
        nonlocal done
        position = number
        while time.perf_counter() - began < seconds:
            await ask(app, bodies[position % len(bodies)])
            position += clients
            done += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / (time.process_time() - cpu)


async def measure(
    apps: dict[str, Any],
    bodies: list[bytes],
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    """Return the rates of all rounds of all arms. The arms take turns in going first."""
    rates: dict[str, list[float]] = {arm: [] for arm in apps}
    for app in apps.values():
        await load_for(app, bodies, options.clients, 0.5)
    for number in range(options.rounds):
        for arm in (*apps, *apps)[number % len(apps) :][: len(apps)]:
            rate = await load_for(apps[arm], bodies, options.clients, options.seconds)
            rates[arm].append(rate)
    return rates


def read_bodies(data: Path) -> list[bytes]:
    """Return the test cases as bodies of requests."""
    bodies = []
    for path in sorted((data / "clean").glob("test-*.parquet")):
        for text in pq.read_table(path)["text"].to_pylist():
            bodies.append(json.dumps({"text": text}).encode())
    return bodies


def main() -> None:
    """Print the table."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--bundle", type=Path, help="the winner, unless given")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=45)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    bodies = read_bodies(options.data)
    predictor = load(options.bundle or options.data / "models" / "winner")
    model = ModelInfo(
        name="bench",
        version="1",
        data_hash=predictor.card.data_hash,
    )
    params = ServeParams(max_batch_tokens=4096, limits=LimitParams(queued_items=4096))
    with tempfile.TemporaryDirectory() as scratch:
        watches = {}
        for number, (arm, changes) in enumerate(ARMS.items()):
            if changes is not None:
                folder = Path(scratch) / str(number)
                monitoring = Monitoring(folder, MonitorParams(**changes), predictor.card.task)
                watches[arm] = ReplicaMonitor(monitoring)
        apps = {
            arm: build_app(predictor, model, params, monitored=watches.get(arm)) for arm in ARMS
        }
        rates = asyncio.run(measure(apps, bodies, options))
        show(rates, watches)
        for watch in watches.values():
            watch.log.close()


def show(rates: Mapping[str, Sequence[float]], watches: Mapping[str, ReplicaMonitor]) -> None:
    """Print a row for each arm."""
    print(
        "| arm | requests per CPU-second, median (range) | against without, by round "
        "| logged | lost |\n| --- | --- | --- | --- | --- |"
    )
    for arm, values in rates.items():
        ratios = [rate / base - 1 for rate, base in zip(values, rates["without"], strict=True)]
        drawn = np.random.default_rng(7).choice(ratios, (2000, len(ratios)))
        low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
        gain = f"{statistics.median(ratios):+.2%} ({low:+.2%} to {high:+.2%})"
        logged = "|"
        if arm in watches:
            log = watches[arm].log
            logged = f"{log.written:,} | {sum(log.dropped.values()):,}"
        median = f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"
        print(f"| {arm} | {median} | {gain} | {logged} |")


if __name__ == "__main__":
    main()
