"""Real Ray nodes on one machine, each at an address of its own: in network namespaces on a bridge where those are allowed, else on 127.0.0.x."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


def _ip(*words: str) -> bool:
    return (
        bool(shutil.which("ip"))
        and subprocess.run(["ip", *words], capture_output=True).returncode == 0
    )


class Nodes:
    """A cluster whose nodes can be killed. The first is the head and holds no CPU."""

    def __init__(self) -> None:
        self.name = f"gm{secrets.token_hex(2)}"
        self.temp = Path(tempfile.mkdtemp(prefix="gm-"))
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.apart = (
            _ip("link", "add", self.name, "type", "bridge")
            and _ip("link", "set", self.name, "up")
            and self._space(1)
        )
        self.port = free_port()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        quick = {
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_initial_delay_ms": "500",
        }
        self.environment = (
            clean
            | quick
            | {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}:{Path(__file__).parents[1]}",
            }
        )

    def _space(self, number: int) -> bool:
        """A namespace with one end of a cable in it, the other on the bridge."""
        space, inside, outside = (
            f"{self.name}n{number}",
            f"{self.name}i{number}",
            f"{self.name}o{number}",
        )
        made = _ip("netns", "add", space) and _ip(
            "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", space
        )
        up = (
            made
            and _ip("link", "set", outside, "master", self.name, "up")
            and _ip("-n", space, "link", "set", "lo", "up")
        )
        return (
            up
            and _ip(
                "-n", space, "addr", "add", f"{self.address(number, apart=True)}/24", "dev", inside
            )
            and _ip("-n", space, "link", "set", inside, "up")
        )

    def address(self, number: int, apart: bool | None = None) -> str:
        return (
            f"{'10.213.7' if (self.apart if apart is None else apart) else '127.0.0'}.{10 + number}"
        )

    def inside(self, number: int) -> list[str]:
        """How a program is started on a node."""
        return ["ip", "netns", "exec", f"{self.name}n{number}"] if self.apart else []

    def add(self, number: int) -> None:
        """Start a node; 1 is the head."""
        if self.apart and number > 1:
            assert self._space(number)
        head = [
            "--head",
            f"--port={self.port}",
            "--num-cpus=0",
            "--include-dashboard=false",
            "--no-monitor",
        ]
        rest = [f"--address={self.address(1)}:{self.port}", "--num-cpus=1"]
        options = [
            *(head if number == 1 else rest),
            f"--node-ip-address={self.address(number)}",
            "--object-store-memory=80000000",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            "--block",
        ]
        where = [f"--temp-dir={self.temp}/{number}", "--dashboard-agent-listen-port=0"]
        with (self.temp / f"{number}.log").open("wb") as log:
            command = [
                *self.inside(number),
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                *options,
                *where,
            ]
            self.started[str(number)] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.temp,
                start_new_session=True,
            )
        if number == 1:
            deadline = time.monotonic() + 60
            while (
                "Ray runtime started" not in (self.temp / "1.log").read_text(errors="replace")
                and time.monotonic() < deadline
            ):
                time.sleep(0.1)

    def kill(self, number: int) -> None:
        """SIGKILL for all of a node's processes."""
        node = self.started.pop(str(number))
        with suppress(psutil.Error):
            for each in [
                psutil.Process(node.pid),
                *psutil.Process(node.pid).children(recursive=True),
            ]:
                with suppress(psutil.Error):
                    each.send_signal(signal.SIGKILL)
        node.wait(10)

    def close(self) -> None:
        """Kill what is left."""
        for number in reversed(list(self.started)):
            self.kill(int(number))
        if self.apart:
            for number in range(1, 10):
                _ip("netns", "del", f"{self.name}n{number}")
        _ip("link", "del", self.name)
        shutil.rmtree(self.temp, ignore_errors=True)
