"""Rows of a table asked of the classical baseline, against LightGBM called directly.

    gristmill serve diamonds --port 8000 &
    python benchmarks/table_serving.py PROJECT diamonds http://127.0.0.1:8000

PROJECT: one whose pipeline has run, with `classical` as the winner, and whose service runs.

"directly": `Booster.predict` in one thread, with the same trees, on rows that are a matrix already.
"empty": an app that answers without looking at the row. It runs under uvicorn alone, and as a
second application of the service, behind the same HAProxy. Both are what HTTP costs at least.
One client asks one row after the other over one connection. CPU is that of all processes of a
server: of the service and of the empty application this is all of Ray.
The parts take turns in each round. The table has medians of the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fastapi import FastAPI, Response
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import load as client
from benchmarks.served import free_port
from components.core.bundles import read_bundle
from components.core.tables import read_table
from components.inference.predictor import ARRAYS, bundled_encoder_files, load
from components.orchestration.cluster import supervisor
from components.orchestration.cluster.local_cluster import attached
from components.orchestration.processes import family
from components.tasks import base
from components.tasks.shared.baselines.tables.boosting import feature_matrix
from components.tasks.shared.baselines.tables.trees import Trees

ROUNDS = 7
QUESTIONS = 300
BATCH = 1000
START_S = 120.0
EMPTY = "empty"
PREFIXES = ("plain.trees.", "log.trees.")
Matrix = NDArray[np.float64]


def direct_scorer(arrays: Any, features: int) -> Callable[[Matrix], None]:
    """Return a function that asks LightGBM for the scores of all trees of a bundle."""
    from lightgbm import Booster

    boosters = []
    for prefix in PREFIXES:
        if f"{prefix}leaves" in arrays:
            text = Trees.from_arrays(arrays, prefix).text(features, 1)
            boosters.append(Booster(model_str=text))

    def score(rows: Matrix) -> None:
        """Score rows (n, features)."""
        for booster in boosters:
            booster.predict(rows, raw_score=True, num_threads=1)

    return score


def empty_app() -> FastAPI:
    """Return an app that answers each question with an empty object."""
    app = FastAPI()

    async def answer() -> Response:
        return Response(b"{}", media_type="application/json")

    app.add_api_route("/v1/predict", answer, methods=["POST"], response_model=None)
    return app


@contextmanager
def under_uvicorn() -> Iterator[tuple[str, list[psutil.Process]]]:
    """Run the empty app under uvicorn; yield its URL and its process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, EMPTY, str(port)])
    try:
        yield f"http://127.0.0.1:{port}", [psutil.Process(process.pid)]
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def on_serve(project: Path, url: str) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Run the empty app beside the service of a project; yield its URL and all of Ray."""
    with attached(project, psutil.Process()):
        from ray import serve
        from ray.serve.api import RunTarget, run_many

        from components.serving.replicas.deploy import remove

        ingress = serve.ingress(empty_app())(type("Empty", (), {}))
        app = serve.deployment(ingress, name=EMPTY, ray_actor_options={"num_cpus": 0}).bind()
        quiet = {"enable_access_log": False, "log_level": "WARNING"}
        run_many([RunTarget(app, EMPTY, f"/{EMPTY}", quiet)])
        record = supervisor.load(project.resolve())
        assert record is not None, f"{project} serves on another Ray"
        try:
            yield f"{url}/{EMPTY}", [psutil.Process(one.pid) for one in family(record.node)]
        finally:
            remove(EMPTY)


def await_answers(url: str, question: bytes) -> None:
    """Ask until the server answers."""
    deadline = time.monotonic() + START_S
    while {answer.status for answer in asked(url, [question])} != {200}:
        if time.monotonic() > deadline:
            sys.exit(f"{url} does not answer")
        time.sleep(0.5)


def asked(url: str, questions: Sequence[bytes]) -> list[client.Answer]:
    """Return the answers to questions over one connection."""
    return asyncio.run(
        client.ask(
            url,
            questions,
            1,
            lambda done: done < len(questions),
        )
    )


def over_http(
    url: str, questions: Sequence[bytes], processes: Sequence[psutil.Process]
) -> tuple[float, float]:
    """Return the median time of single questions, and the CPU time of a question; milliseconds.

    Args:
        url: of the server.
        questions: whole requests.
        processes: of the server.
    """
    before = cpu_seconds(processes)
    answers = asked(url, questions)
    used = cpu_seconds(processes) - before
    assert {answer.status for answer in answers} == {200}
    return client.percentile(answers, 0.5), 1000 * used / len(questions)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time of processes so far."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def milliseconds(ask: Callable[[int], object], questions: int) -> float:
    """Return the median time of single questions."""
    times = []
    for number in range(questions):
        start = time.perf_counter()
        ask(number)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def rate(ask: Callable[[], object], rows: int) -> float:
    """Return rows per second of one call."""
    start = time.perf_counter()
    ask()
    return rows / (time.perf_counter() - start)


def main(words: Sequence[str]) -> None:
    """Measure, and print a table."""
    from safetensors.numpy import load as load_arrays

    project, name, url = words
    data = Path(project) / "data" / name
    card, files = read_bundle(data / "models" / "winner")
    if card.architecture != "classical":
        sys.exit(f"the winner of {name} is {card.title}, not the classical baseline")
    predictor = load(data / "models" / "winner")
    evaluator = base.evaluator(card.task)
    rows = read_table(data / "clean", "test").slice(0, BATCH)
    queries = [case.query for case in evaluator.cases(rows)]
    prepare = (
        base.baselines(card.task).baselines["classical"].featurizer(bundled_encoder_files(files))
    )
    arrays = prepare(evaluator.columns(queries))
    matrix = feature_matrix(arrays["numbers"], arrays["categories"])
    direct = direct_scorer(load_arrays(files[ARRAYS]), matrix.shape[1])
    results: dict[str, list[float]] = {}
    with ExitStack() as stack:
        bare, bare_processes = stack.enter_context(under_uvicorn())
        second, ray_processes = stack.enter_context(on_serve(Path(project), url))
        servers = {
            "one row over HTTP": (url, ray_processes),
            "empty app on Serve": (second, ray_processes),
            "empty app under uvicorn": (bare, bare_processes),
        }
        asks = {}
        for key, (server, _) in servers.items():
            asks[key] = [client.post(server, [query.root]) for query in queries[:QUESTIONS]]
            await_answers(server, asks[key][0])
        for _ in range(ROUNDS):
            figures = {
                "one row directly, ms": milliseconds(
                    lambda number: direct(matrix[number : number + 1]), QUESTIONS
                ),
                "one row by the predictor, ms": milliseconds(
                    lambda number: predictor.predict([queries[number]]), QUESTIONS
                ),
            }
            for key, (server, processes) in servers.items():
                wall, cpu = over_http(server, asks[key], processes)
                figures[f"{key}, ms"] = wall
                figures[f"{key}, CPU ms"] = cpu
            figures["more over HTTP than directly, ms"] = (
                figures["one row over HTTP, ms"] - figures["one row directly, ms"]
            )
            figures["batches of 1,000 directly, rows/s"] = rate(lambda: direct(matrix), BATCH)
            figures["batches of 1,000 by the predictor, rows/s"] = rate(
                lambda: predictor.predict(queries), BATCH
            )
            for key, value in figures.items():
                results.setdefault(key, []).append(value)
    for key, values in results.items():
        print(
            f"{key:44} {statistics.median(values):10,.3f}  {min(values):,.3f} to {max(values):,.3f}"
        )


def serve_empty(port: int) -> None:
    """Serve the empty app with uvicorn, uvloop and httptools, as Ray Serve does."""
    import uvicorn

    uvicorn.run(
        empty_app(),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    if sys.argv[1] == EMPTY:
        serve_empty(int(sys.argv[2]))
    else:
        main(sys.argv[1:])
