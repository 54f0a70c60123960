"""Training over several nodes: one is killed in the middle of an epoch and another joins; one is killed and none joins."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from nodes import Nodes
from safetensors.torch import load_file
from stage_runner import StageRunner
from test_random_kills import work

from components.core.files import sha256
from components.training.batches import EncodedRows, load_encoder, plan
from components.training.fit_config import FitConfig
from components.training.loop import finished

DRIVER = """
import json, os, sys, time
from pathlib import Path
import ray
from components.core.job import Journal
from components.training import ray_fit
from components.training.params import FitParams
from components.training.fit_config import FitConfig

def slow(config, work=ray_fit._work):
    from components.training import loop
    right = loop._Loop._step
    def step(self, rows, total):
        time.sleep(0.05)
        epoch, batch = self.state.epoch, self.state.batch
        right(self, rows, total)
        mine = {"epoch": epoch, "batch": batch, "rank": loop.rank(), "world": loop.world(), "rows": rows[loop.rank() :: loop.world()].tolist(), "node": ray.util.get_node_ip_address()}
        with (self.spec.state / f"steps-{os.getpid()}-{ray.util.get_node_ip_address()}").open("a") as log:
            log.write(json.dumps({"time": time.time(), **mine}) + "\\n")
    loop._Loop._step = step
    work(config)

given = json.loads(sys.argv[2])
spec = FitConfig(**{**given, "params": FitParams(**given["params"]), "tokens": Path(given["tokens"]), "state": Path(given["state"])})
ray.init(address=sys.argv[1], log_to_driver=False)
deadline = time.monotonic() + 150
while ray.cluster_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
    time.sleep(0.1)
ray_fit._work, ray_fit._WAIT_S, ray_fit._WAIT_FEWER_S = slow, 100.0, 3.0
fitted = ray_fit.fit_distributed(spec, Journal(spec.state / "journal"))
(spec.state / "told").write_text(fitted.workers)  # Ray prints what it likes, when it likes
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head and two nodes of one CPU."""
    made = Nodes()
    try:
        for number in (1, 2, 3):
            made.add(number)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def calm(nodes: Nodes, reviews: StageRunner, tmp_path_factory: pytest.TempPathFactory) -> FitConfig:
    """A fit of two workers whom nobody disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    spec = reviews.spec(
        folder / "fit",
        "textcnn",
        {"dropout": 0.0},
        workers=2,
        epochs=3,
        batch_size=16,
        checkpoint_steps=4,
    )
    group = [
        get_context("spawn").Process(
            target=work, args=(rank, spec, str(folder / "meeting"), 0.0), daemon=True
        )
        for rank in range(2)
    ]
    for each in group:
        each.start()
    for each in group:
        each.join(60)
    return spec


def drive(nodes: Nodes, spec: FitConfig) -> subprocess.Popen[str]:
    given = json.dumps(
        {**vars(spec), "params": spec.params.model_dump(), "loss_params": None}, default=str
    )
    command = [
        *nodes.inside(1),
        sys.executable,
        "-c",
        DRIVER,
        f"{nodes.address(1)}:{nodes.port}",
        given,
    ]
    return subprocess.Popen(
        command, env=nodes.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def steps(spec: FitConfig) -> list[dict[str, Any]]:
    """What all workers did, in the order of time."""
    return sorted(
        (
            json.loads(line)
            for log in spec.state.glob("steps-*")
            for line in log.read_text().splitlines()
        ),
        key=lambda step: step["time"],
    )


def wait_for_second_epoch(spec: FitConfig, driver: subprocess.Popen[str]) -> None:
    while not any(step["epoch"] == 1 and step["batch"] > 4 for step in steps(spec)):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.05)


def check_each_sample_once(spec: FitConfig) -> None:
    """The shares of the workers make whole batches of the plan: what counts of a step that was done twice is the later one."""
    rows = EncodedRows(spec.tokens, "train", load_encoder(spec.tokens, spec.task))
    last: dict[tuple[int, int], dict[int, dict[str, Any]]] = {}
    for step in steps(spec):
        shares = last.setdefault((step["epoch"], step["batch"]), {})
        if any(share["world"] != step["world"] for share in shares.values()):
            shares.clear()
        shares[step["rank"]] = step
    for epoch in range(spec.params.epochs):
        for number, batch in enumerate(
            plan(rows.lengths, spec.params.batch_size, spec.seed, epoch)
        ):
            shares = last[epoch, number]
            assert len(shares) == shares[0]["world"]
            assert sorted(row for share in shares.values() for row in share["rows"]) == sorted(
                batch.tolist()
            )


@pytest.mark.timeout(300)
def test_a_node_is_killed_and_another_joins(nodes: Nodes, calm: FitConfig, tmp_path: Path) -> None:
    spec = replace(calm, state=tmp_path / "fit")
    driver = drive(nodes, spec)
    wait_for_second_epoch(spec, driver)
    assert {step["node"] for step in steps(spec)} == {nodes.address(2), nodes.address(3)}
    nodes.kill(2)
    nodes.add(4)
    errors = driver.communicate(timeout=200)[1]
    assert driver.returncode == 0, errors
    assert (spec.state / "told").read_text() == "2"
    assert {step["node"] for step in steps(spec)} == {nodes.address(number) for number in (2, 3, 4)}
    check_each_sample_once(spec)
    found, undisturbed = finished(spec), finished(calm)
    assert found and undisturbed and found.curve == undisturbed.curve
    assert sha256(found.weights) == sha256(undisturbed.weights)


@pytest.mark.timeout(300)
def test_a_node_is_killed_and_fewer_go_on(nodes: Nodes, calm: FitConfig, tmp_path: Path) -> None:
    spec = replace(
        calm, state=tmp_path / "fit", params=calm.params.model_copy(update={"min_workers": 1})
    )
    driver = drive(nodes, spec)
    wait_for_second_epoch(spec, driver)
    nodes.kill(3)
    errors = driver.communicate(timeout=200)[1]
    assert driver.returncode == 0, errors
    assert (spec.state / "told").read_text() == "2, from epoch 2 on 1"
    assert "with 1 workers instead of 2" in (spec.state / "journal").read_text()
    check_each_sample_once(spec)
    found, undisturbed = finished(spec), finished(calm)
    assert found and undisturbed
    for one, two in zip(found.curve, undisturbed.curve, strict=True):
        assert {**one, "workers": 2.0} == pytest.approx(two, abs=1e-4)
    first, second = load_file(found.weights), load_file(undisturbed.weights)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-4
