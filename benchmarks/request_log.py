"""Row "overhead of the request log <= 2% of serving throughput": the service that logs its answers against the same one that does not.

Both apps live in one process and are called through ASGI, without sockets and clients, whose cost would hide the log's. Requests are counted per CPU-second of the process, in
which the log's own thread writes, too. Rounds of the arms are interleaved; the interval is a bootstrap over rounds (95%) of the median. As shipped it logs 20 answers a second;
the third arm logs all of them, to show what that would cost.

python benchmarks/request_log.py [--data data] [--bundle FOLDER] [--clients 16] [--rounds 45] [--seconds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from components.inference.predictor import load
from components.monitoring.params import MonitorParams
from components.serving.http.app import build_app
from components.serving.http.messages import ModelInfo
from components.serving.http.monitoring_routes import Monitored, Monitoring
from components.serving.params import LimitParams, ServeParams

ARMS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "as shipped": {},
    "all answers": {"rows_per_s": 10_000.0},
}


async def ask(app: Any, body: bytes) -> None:
    """One request, straight into the app: an HTTP client would cost as much as the answer."""
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        status.extend([message["status"]] if message["type"] == "http.response.start" else [])

    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"host", b"bench"),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/predict",
        "raw_path": b"/v1/predict",
    }
    await app(
        scope
        | {
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("bench", 80),
            "state": {},
        },
        receive,
        send,
    )
    assert status == [200], status


async def load_for(app: Any, bodies: list[bytes], clients: int, seconds: float) -> float:
    """Requests per CPU-second of the process, with the log's thread."""
    done, began, cpu = 0, time.perf_counter(), time.process_time()

    async def client(number: int) -> None:
        nonlocal done
        place = number
        while time.perf_counter() - began < seconds:
            await ask(app, bodies[place % len(bodies)])
            place, done = place + clients, done + 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / (time.process_time() - cpu)


async def measure(
    apps: dict[str, Any], bodies: list[bytes], told: argparse.Namespace
) -> dict[str, list[float]]:
    """Rounds of all arms, in an order that turns."""
    found: dict[str, list[float]] = {arm: [] for arm in apps}
    for app in apps.values():
        await load_for(app, bodies, told.clients, 0.5)
    for number in range(told.rounds):
        for arm in (*apps, *apps)[number % len(apps) :][: len(apps)]:
            found[arm].append(await load_for(apps[arm], bodies, told.clients, told.seconds))
    return found


def main() -> None:
    """Run the row."""
    import torch

    torch.set_num_threads(1)
    reader = argparse.ArgumentParser()
    reader.add_argument("--data", type=Path, default=Path("data"))
    reader.add_argument("--bundle", type=Path, help="the winner, unless given")
    reader.add_argument("--clients", type=int, default=16)
    reader.add_argument("--rounds", type=int, default=45)
    reader.add_argument("--seconds", type=float, default=1.0)
    told = reader.parse_args()
    texts = [
        text
        for path in sorted((told.data / "clean").glob("test-*.parquet"))
        for text in pq.read_table(path)["text"].to_pylist()
    ]
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    predictor = load(told.bundle or told.data / "models" / "winner")
    model = ModelInfo(name="bench", version="1", data_hash=predictor.card.data_hash)
    params = ServeParams(max_batch_tokens=4096, limits=LimitParams(queued_items=4096))
    with tempfile.TemporaryDirectory() as scratch:
        watches = {
            arm: Monitored(Monitoring(Path(scratch) / str(number), MonitorParams(**knobs)))
            for number, (arm, knobs) in enumerate(ARMS.items())
            if knobs is not None
        }
        apps = {
            arm: build_app(predictor, model, params, monitored=watches.get(arm)) for arm in ARMS
        }
        found = asyncio.run(measure(apps, bodies, told))
        print(
            "| arm | requests per CPU-second, median (range) | against without, by round | logged | lost |\n| --- | --- | --- | --- | --- |"
        )
        for arm, rates in found.items():
            ratios = [rate / base - 1 for rate, base in zip(rates, found["without"], strict=True)]
            log = watches[arm].log if arm in watches else None
            low, high = np.quantile(
                np.median(np.random.default_rng(7).choice(ratios, (2000, len(ratios))), axis=1),
                [0.025, 0.975],
            )
            parallel_map = f"{statistics.median(ratios):+.2%} ({low:+.2%} to {high:+.2%})"
            kept = f"{log.written:,} | {sum(log.dropped.values()):,}" if log else "|"
            print(
                f"| {arm} | {statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f}) | {parallel_map} | {kept} |"
            )
        for watch in watches.values():
            watch.log.close()


if __name__ == "__main__":
    main()
