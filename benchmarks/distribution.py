"""Rows "step tax of Ray Train, 2 workers" and "start-up of train on a warm cluster, call to first step": Ray Train against torchrun with the same loop.

python benchmarks/distribution.py tax         # both need data/tokens of the default pipeline (dvc repro tokenize)
python benchmarks/distribution.py start-up

Ray's workers run at nice 15, so torchrun does too. The tax: both fits live side by side, and all processes of one arm (of Ray: of its whole cluster) are stopped
by SIGSTOP while the other works for a few seconds; steps of the same number are the same work, so they are compared one by one. The start-up: Ray's is from
the call of `fit_distributed` in a stage's task to the end of the first step, torchrun's from the start of its process.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
TOKENS, TASK = Path(os.environ.get("TOKENS", ROOT / "data/tokens")), "text_classification"
CONFIG = {"width": 128, "channels": 128, "kernels": [1, 2, 3, 4], "dropout": 0.5}  # of params.yaml
BLOCK_S, WORKERS = 2.0, 2


def make_spec(state: Path, epochs: int) -> Any:
    """The fit of the default pipeline."""
    from components.training.fit_config import FitConfig
    from components.training.params import FitParams

    return FitConfig(
        TASK,
        TOKENS,
        "textcnn",
        CONFIG,
        FitParams(workers=WORKERS, epochs=epochs, patience=epochs, checkpoint_steps=10_000),
        {},
        7,
        state,
    )


def noted(log: Path, work: Callable[[], Any]) -> None:
    """Do the work; the first worker writes when each step began and ended."""
    import torch

    from components.training.train_step import TrainStep, rank

    right = TrainStep.step

    def step(self: Any, *given: Any) -> float:
        began = time.time()
        loss = right(self, *given)
        if rank() == 0:
            with log.open("a") as stream:
                stream.write(f"{began} {time.time()}\n")
        return loss

    TrainStep.step = step  # type: ignore[method-assign]
    torch.set_num_threads(1)
    work()


def under_torchrun(state: Path, epochs: int) -> None:
    """One worker of torchrun."""
    import torch

    from components.core.job import Journal
    from components.training.loop import fit

    torch.distributed.init_process_group("gloo")
    noted(state / "log", lambda: fit(make_spec(state, epochs), Journal(state / "journal")))
    torch.distributed.destroy_process_group()


def under_ray(address: str, state: Path, epochs: int) -> None:
    """A driver whose task does what a stage's task does."""
    import ray

    ray.init(address=address, logging_level="WARNING", log_to_driver=False)

    def stage() -> None:
        from components.core.job import Journal
        from components.training import distributed

        right = distributed._work
        distributed._work = lambda config: noted(state / "log", lambda: right(config))
        (state / "called").write_text(str(time.time()))
        distributed.fit_distributed(make_spec(state, epochs), Journal(state / "journal"))

    ray.get(ray.remote(num_cpus=0, max_retries=0)(stage).remote())


def steps(state: Path) -> list[tuple[float, float]]:
    """(began, ended) of each step so far."""
    log = state / "log"
    return (
        [
            (float(a), float(b))
            for a, _, b in (line.partition(" ") for line in log.read_text().splitlines())
        ]
        if log.exists()
        else []
    )


def launch(arm: str, address: str, state: Path, epochs: int) -> subprocess.Popen[bytes]:
    """Start an arm in a session of its own."""
    state.mkdir(parents=True)
    torchrun = [
        "nice",
        "-n",
        "15",
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(WORKERS),
        "--master-port",
        str(random.randint(20_000, 30_000)),
    ]
    mine = [__file__, f"arm-{arm}", address, str(state), str(epochs)]
    command = [*(torchrun if arm == "torchrun" else [sys.executable]), *mine]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (state / "output").open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, cwd=ROOT, env=environment, start_new_session=True
        )


@contextmanager
def cluster() -> Iterator[tuple[str, psutil.Process]]:
    """An embedded Ray and the first of its processes."""
    from components.orchestration.cluster.connection import connected
    from components.orchestration.cluster.local_cluster import start, stop
    from components.orchestration.cluster.supervisor import environment

    with tempfile.TemporaryDirectory() as folder:
        record = start(Path(folder), None)
        try:
            with connected(record.address, environment(record.token), ""):
                yield record.address, psutil.Process(record.node.pid)
        finally:
            stop(Path(folder))


def signalled(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                each.send_signal(number)


def wait_for_step(state: Path, driver: subprocess.Popen[bytes], count: int = 1) -> float:
    """When that step had ended."""
    while len(found := steps(state)) < count:
        if driver.poll() is not None:
            raise SystemExit((state / "output").read_text())
        time.sleep(0.05)
    return found[count - 1][1]


def end(driver: subprocess.Popen[bytes]) -> None:
    import ray

    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    while ray.available_resources().get("CPU", 0) < WORKERS:
        time.sleep(0.2)


def start_up(rounds: int) -> None:
    """Seconds from the call to the end of the first step, round by round."""
    import ray

    times: dict[str, list[float]] = {"torchrun": [], "ray": []}
    with cluster() as (address, _), tempfile.TemporaryDirectory() as folder:
        ray.get(ray.remote(lambda: None).remote())
        for number in range(rounds):
            for arm in (list(times), list(reversed(times)))[number % 2]:
                state = Path(folder) / f"{arm}-{number}"
                time.sleep(5)  # Ray starts idle workers in place of those that ended
                began = time.time()
                driver = launch(arm, address, state, 1)
                first = wait_for_step(state, driver)
                times[arm].append(
                    first - (float((state / "called").read_text()) if arm == "ray" else began)
                )
                end(driver)
                print(f"{arm} {times[arm][-1]:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    ratios = [
        ray_s / torch_s for ray_s, torch_s in zip(times["ray"], times["torchrun"], strict=True)
    ]
    shown = "; ".join(
        f"{arm} {statistics.median(each):.1f} s ({min(each):.1f}-{max(each):.1f})"
        for arm, each in times.items()
    )
    print(
        f"| start-up, call to first step | {shown} | {statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f}) |"
    )


def tax(minutes: float, epochs: int = 200) -> None:
    """The same steps under both, in turns."""
    with cluster() as (address, head), tempfile.TemporaryDirectory() as folder:
        drivers = {
            arm: launch(arm, address, Path(folder) / arm, epochs) for arm in ("torchrun", "ray")
        }
        arms = {
            arm: [psutil.Process(driver.pid)] + ([head] if arm == "ray" else [])
            for arm, driver in drivers.items()
        }
        for arm, driver in drivers.items():
            wait_for_step(Path(folder) / arm, driver, 5)
        breaks: list[float] = []
        for number in range(int(minutes * 60 / BLOCK_S / 2)):
            for arm in (list(arms), list(reversed(arms)))[number % 2]:
                other = next(each for each in arms if each != arm)
                signalled(arms[other], signal.SIGSTOP)
                signalled(arms[arm], signal.SIGCONT)
                breaks.append(time.time())
                time.sleep(BLOCK_S)
        for each in arms.values():
            signalled(each, signal.SIGCONT)
        found = {arm: steps(Path(folder) / arm) for arm in arms}
        for driver in drivers.values():
            os.killpg(driver.pid, signal.SIGKILL)
    report(found, breaks)


def report(found: dict[str, list[tuple[float, float]]], breaks: list[float]) -> None:
    """Compare steps of the same number that lie whole inside one block."""

    def whole(step: tuple[float, float]) -> bool:
        return step[0] > breaks[0] and not any(
            step[0] - 0.02 <= moment <= step[1] for moment in breaks
        )  # the first step after a break wakes everything up

    both = [
        (mine[1] - mine[0], theirs[1] - theirs[0])
        for mine, theirs in zip(found["ray"], found["torchrun"], strict=False)
        if whole(mine) and whole(theirs)
    ]
    chance = random.Random(7)
    ratios = sorted(_ratio([chance.choice(both) for _ in both]) for _ in range(1000))
    ray_ms, torch_ms = (1000 * statistics.median(each) for each in zip(*both, strict=True))
    interval = f"{_ratio(both) - 1:+.2%} ({ratios[25] - 1:+.2%} to {ratios[975] - 1:+.2%})"
    print(
        f"| step tax, {len(both)} steps | torchrun {torch_ms:.1f} ms, Ray Train {ray_ms:.1f} ms | {interval}, load {os.getloadavg()[0]:.1f} |"
    )


def _ratio(both: list[tuple[float, float]]) -> float:
    """Geometric mean: one slow step weighs as a step."""
    return statistics.geometric_mean([mine / theirs for mine, theirs in both])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["tax"]:
            tax(minutes=3)
        case ["start-up"]:
            start_up(rounds=6)
        case ["arm-torchrun", _, state, epochs]:
            under_torchrun(Path(state), int(epochs))
        case ["arm-ray", address, state, epochs]:
            under_ray(address, Path(state), int(epochs))
        case _:
            raise SystemExit(__doc__)
