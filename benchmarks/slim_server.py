"""Row "gristmill without extras: installed size, and the first answer of serve --bundle".

    python benchmarks/slim_server.py ENVIRONMENT QUERY BUNDLE …

ENVIRONMENT: a folder for a new virtual environment; one that is there is used as it is
QUERY: of the models, as JSON
BUNDLE: a folder that `gristmill serve --bundle` takes
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name
from components.serving.replicas.address import claim

ROOT = Path(__file__).resolve().parents[1]
RUNS = 9


def install(environment: Path) -> None:
    """Install gristmill without extras into a new virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = str(environment / "bin" / "pip")
    words = [pip, "install", "--quiet", "-c", "constraints.txt", "."]
    subprocess.run(words, cwd=ROOT, check=True)


def installed_bytes(environment: Path) -> int:
    """Return the size of the installed packages, pip among them."""
    (folder,) = environment.glob("lib/python3*/site-packages")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def first_answer(environment: Path, bundle: Path, query: bytes) -> tuple[float, float, float]:
    """Return the seconds until the first answer, those of computing, and the memory in MiB."""
    port = claim("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/v1/predict"
    command = str(environment / "bin" / "gristmill")
    words = [command, "serve", "--bundle", str(bundle), "--port", str(port)]
    began = time.perf_counter()
    server = subprocess.Popen(words, cwd=environment, stdout=subprocess.DEVNULL)
    try:
        while not answers(url, query):
            assert server.poll() is None
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        process = psutil.Process(server.pid)
        times = process.cpu_times()
        return seconds, times.user + times.system, process.memory_full_info().pss / 2**20
    finally:
        server.terminate()
        assert server.wait(30) == 0


def answers(url: str, query: bytes) -> bool:
    """Return whether a service answers a query."""
    try:
        with urlopen(Request(url, query, {"Content-Type": "application/json"})) as response:
            return bool(json.load(response)["predictions"])
    except (ConnectionError, URLError):
        return False


def main(environment: Path, query: str, bundles: list[Path]) -> None:
    """Print the rows."""
    if not environment.exists():
        install(environment)
    print(f"{processor_name()}; {installed_bytes(environment) / 1e6:.0f} MB installed")
    print("| bundle | first answer, s: median (range) | of computing, s | memory (PSS), MiB |")
    print("| --- | --- | --- | --- |")
    for bundle in bundles:
        first_answer(environment, bundle.resolve(), query.encode())
        runs = [first_answer(environment, bundle.resolve(), query.encode()) for _ in range(RUNS)]
        seconds, computing, memory = (list(column) for column in zip(*runs, strict=True))
        span = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        rest = f"{statistics.median(computing):.2f} | {statistics.median(memory):.0f}"
        print(f"| {bundle.name} | {span} | {rest} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]])
