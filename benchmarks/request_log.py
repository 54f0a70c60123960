"""Row "overhead of the request log <= 2% of serving throughput": the service that logs its answers against the same one that does not.

Both apps live in one process and answer through ASGI, without sockets, whose cost would hide the log's. Rounds of the arms are interleaved, and each round of an arm starts
with the other one idle. The log's own thread writes meanwhile. As shipped it logs 20 answers a second; the third arm logs all of them, to show what that would cost.

python benchmarks/request_log.py [--data data] [--bundle FOLDER] [--clients 16] [--rounds 12] [--seconds 2]
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

import httpx
import pyarrow.parquet as pq

from components.engine.predict import load
from components.monitor.params import MonitorParams
from components.serve.app import build_app
from components.serve.monitored import Monitored, Monitoring
from components.serve.params import LimitParams, ServeParams
from components.serve.wire import ModelInfo

ARMS: dict[str, dict[str, Any] | None] = {"without": None, "as shipped": {}, "all answers": {"rows_per_s": 10_000.0}}


async def load_for(app: Any, bodies: list[bytes], clients: int, seconds: float) -> float:
    """Requests per second."""
    done, began = 0, time.perf_counter()

    async def client(number: int) -> None:
        nonlocal done
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bench") as asked:
            place = number
            while time.perf_counter() - began < seconds:
                answer = await asked.post("/v1/predict", content=bodies[place % len(bodies)], headers={"content-type": "application/json"})
                assert answer.status_code == 200, answer.text
                place, done = place + clients, done + 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / (time.perf_counter() - began)


async def measure(apps: dict[str, Any], bodies: list[bytes], told: argparse.Namespace) -> dict[str, list[float]]:
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
    reader.add_argument("--rounds", type=int, default=12)
    reader.add_argument("--seconds", type=float, default=2.0)
    told = reader.parse_args()
    texts = [text for path in sorted((told.data / "clean").glob("test-*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    predictor = load(told.bundle or told.data / "models" / "winner")
    model = ModelInfo(name="bench", version="1", data_hash=predictor.card.data_hash)
    params = ServeParams(max_batch_tokens=4096, limits=LimitParams(queued_items=4096))
    with tempfile.TemporaryDirectory() as scratch:
        watches = {arm: Monitored(Monitoring(Path(scratch) / str(number), MonitorParams(**knobs))) for number, (arm, knobs) in enumerate(ARMS.items()) if knobs is not None}
        apps = {arm: build_app(predictor, model, params, monitored=watches.get(arm)) for arm in ARMS}
        found = asyncio.run(measure(apps, bodies, told))
        print("| arm | requests/s, median (range) | against without, by round | logged | lost |\n| --- | --- | --- | --- | --- |")
        for arm, rates in found.items():
            ratios = [rate / base - 1 for rate, base in zip(rates, found["without"], strict=True)]
            log = watches[arm].log if arm in watches else None
            spread = f"{statistics.median(ratios):+.1%} ({min(ratios):+.1%} to {max(ratios):+.1%})"
            kept = f"{log.written:,} | {sum(log.dropped.values()):,}" if log else "|"
            print(f"| {arm} | {statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f}) | {spread} | {kept} |")
        for watch in watches.values():
            watch.log.close()


if __name__ == "__main__":
    main()
