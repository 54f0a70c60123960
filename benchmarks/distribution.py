"""Rows "step tax of Ray Train, 2 workers" and "start-up of train on a warm cluster, call to first
step".

Ray Train against torchrun with the same loop. Both need data/tokens of the default pipeline
(dvc repro tokenize).

python benchmarks/distribution.py tax
python benchmarks/distribution.py start-up

Ray's workers run at nice 15, so torchrun does too. The tax: both fits live side by side, and all
processes of one arm (of Ray: of its whole cluster) are stopped by SIGSTOP while the other works
for a few seconds. Steps of the same number are the same work, so they are compared one by one.
The start-up: Ray's is from the call of `fit_distributed` in a stage's task to the end of the
first step, torchrun's from the start of its process."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
TOKENS = Path(os.environ.get("TOKENS", ROOT / "data/tokens"))
TASK = "text_classification"
# The same as in params.yaml.
CONFIG = {
    "width": 128,
    "channels": 128,
    "kernels": [1, 2, 3, 4],
    "dropout": 0.5,
}
BLOCK_S = 2.0
WORKERS = 2
# When a step began and when it ended, in seconds since 1970.
Step = tuple[float, float]


def make_spec(state: Path, epochs: int) -> Any:
    """Return the config of the default pipeline's fit."""
    from components.training.fit_config import FitConfig
    from components.training.params import FitParams

    params = FitParams(
        workers=WORKERS,
        epochs=epochs,
        patience=epochs,
        checkpoint_steps=10_000,
    )
    return FitConfig(TASK, TOKENS, "textcnn", CONFIG, params, {}, 7, state)


def run_logged(log: Path, work: Callable[[], Any]) -> None:
    """Do some work. The first worker logs when each step began and ended."""
    import torch

    from components.training.train_step import TrainStep, rank

    original = TrainStep.step

    def step(self: Any, *args: Any) -> float:
        began = time.time()
        loss = original(self, *args)
        if rank() == 0:
            with log.open("a") as stream:
                stream.write(f"{began} {time.time()}\n")
        return loss

    TrainStep.step = step  # type: ignore[assignment]
    torch.set_num_threads(1)
    work()


def under_torchrun(state: Path, epochs: int) -> None:
    """Run one worker of torchrun."""
    import torch

    from components.core.job import Journal
    from components.training.loop import fit

    torch.distributed.init_process_group("gloo")
    run_logged(state / "log", lambda: fit(make_spec(state, epochs), Journal(state / "journal")))
    torch.distributed.destroy_process_group()


def under_ray(address: str, state: Path, epochs: int) -> None:
    """Run a driver whose task does what a stage's task does."""
    import ray

    ray.init(
        address=address,
        logging_level="WARNING",
        log_to_driver=False,
    )

    def stage() -> None:
        from components.core.job import Journal
        from components.training import ray_fit

        work = ray_fit._work
        ray_fit._work = lambda config: run_logged(state / "log", lambda: work(config))
        (state / "called").write_text(str(time.time()))
        ray_fit.fit_distributed(make_spec(state, epochs), Journal(state / "journal"))

    ray.get(ray.remote(num_cpus=0, max_retries=0)(stage).remote())


def read_steps(state: Path) -> list[Step]:
    """Return when each step so far began and ended."""
    log = state / "log"
    if not log.exists():
        return []
    steps = []
    for line in log.read_text().splitlines():
        began, _, ended = line.partition(" ")
        steps.append((float(began), float(ended)))
    return steps


def launch(
    arm: str,
    address: str,
    state: Path,
    epochs: int,
) -> subprocess.Popen[bytes]:
    """Start an arm in another session."""
    state.mkdir(parents=True)
    port = str(random.randint(20_000, 30_000))
    command = [sys.executable]
    if arm == "torchrun":
        command = ["nice", "-n", "15", sys.executable, "-m", "torch.distributed.run"]
        command += ["--nproc-per-node", str(WORKERS), "--master-port", port]
    command += [__file__, f"arm-{arm}", address, str(state), str(epochs)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (state / "output").open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )


@contextmanager
def cluster() -> Iterator[tuple[str, psutil.Process]]:
    """Start an embedded Ray. Yield its address and the first of its processes."""
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


def send_signal(parents: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes and all their descendants."""
    for parent in parents:
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.Error):
                process.send_signal(number)


def wait_for_step(state: Path, driver: subprocess.Popen[bytes], count: int = 1) -> float:
    """Wait for a step. Return when it ended."""
    while True:
        steps = read_steps(state)
        if len(steps) >= count:
            return steps[count - 1][1]
        if driver.poll() is not None:
            raise SystemExit((state / "output").read_text())
        time.sleep(0.05)


def end(driver: subprocess.Popen[bytes]) -> None:
    """Kill an arm and wait until Ray's CPUs are free again."""
    import ray

    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    while ray.available_resources().get("CPU", 0) < WORKERS:
        time.sleep(0.2)


def start_up(rounds: int) -> None:
    """Print the seconds from the call to the end of the first step."""
    import ray

    times: dict[str, list[float]] = {"torchrun": [], "ray": []}
    with cluster() as (address, _), tempfile.TemporaryDirectory() as folder:
        ray.get(ray.remote(lambda: None).remote())
        for number in range(rounds):
            for arm in in_turn(times, number):
                state = Path(folder) / f"{arm}-{number}"
                # Ray starts idle workers in place of those that ended.
                time.sleep(5)
                began = time.time()
                driver = launch(arm, address, state, 1)
                first = wait_for_step(state, driver)
                if arm == "ray":
                    began = float((state / "called").read_text())
                times[arm].append(first - began)
                end(driver)
                print(f"{arm} {times[arm][-1]:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    ratios = [
        ray_s / torch_s for ray_s, torch_s in zip(times["ray"], times["torchrun"], strict=True)
    ]
    shown = "; ".join(
        f"{arm} {statistics.median(seconds):.1f} s ({min(seconds):.1f}-{max(seconds):.1f})"
        for arm, seconds in times.items()
    )
    ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"
    print(f"| start-up, call to first step | {shown} | {ratio} |")


def in_turn(arms: Iterable[str], number: int) -> list[str]:
    """Return the arms in the order of a round. In every second round it is reversed."""
    order = list(arms)
    if number % 2:
        order.reverse()
    return order


def tax(minutes: float, epochs: int = 200) -> None:
    """Print the tax: both arms do the same steps, in turns."""
    with cluster() as (address, head), tempfile.TemporaryDirectory() as folder:
        drivers = {
            arm: launch(arm, address, Path(folder) / arm, epochs) for arm in ("torchrun", "ray")
        }
        arms = {arm: [psutil.Process(driver.pid)] for arm, driver in drivers.items()}
        arms["ray"].append(head)
        for arm, driver in drivers.items():
            wait_for_step(Path(folder) / arm, driver, 5)
        breaks: list[float] = []
        for number in range(int(minutes * 60 / BLOCK_S / 2)):
            for arm in in_turn(arms, number):
                other = next(name for name in arms if name != arm)
                send_signal(arms[other], signal.SIGSTOP)
                send_signal(arms[arm], signal.SIGCONT)
                breaks.append(time.time())
                time.sleep(BLOCK_S)
        for processes in arms.values():
            send_signal(processes, signal.SIGCONT)
        steps = {arm: read_steps(Path(folder) / arm) for arm in arms}
        for driver in drivers.values():
            os.killpg(driver.pid, signal.SIGKILL)
    report(steps, breaks)


def report(steps: dict[str, list[Step]], breaks: list[float]) -> None:
    """Compare steps of the same number that lie inside one block, and print the row."""

    def is_whole(step: Step) -> bool:
        # The first step after a break wakes everything up.
        began = step[0] - 0.02
        return step[0] > breaks[0] and not any(began <= moment <= step[1] for moment in breaks)

    pairs = [
        (ray_step[1] - ray_step[0], torch_step[1] - torch_step[0])
        for ray_step, torch_step in zip(steps["ray"], steps["torchrun"], strict=False)
        if is_whole(ray_step) and is_whole(torch_step)
    ]
    rng = random.Random(7)
    ratios = []
    for _ in range(1000):
        ratios.append(_ratio([rng.choice(pairs) for _ in pairs]))
    ratios.sort()
    ray_ms, torch_ms = (1000 * statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    interval = f"{_ratio(pairs) - 1:+.2%} ({ratios[25] - 1:+.2%} to {ratios[975] - 1:+.2%})"
    print(
        f"| step tax, {len(pairs)} steps "
        f"| torchrun {torch_ms:.1f} ms, Ray Train {ray_ms:.1f} ms "
        f"| {interval}, load {os.getloadavg()[0]:.1f} |"
    )


def _ratio(pairs: list[tuple[float, float]]) -> float:
    """Return the geometric mean of the ratios, in which a slow step has no greater weight."""
    return statistics.geometric_mean([ray_s / torch_s for ray_s, torch_s in pairs])


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
