"""A project that is served, watched and retrained by itself, and its clients: what the test and the benchmark of the closed loop share."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import httpx

from components.inference.predictor import load
from components.metrics.exact_tests import mcnemar
from components.monitoring.monitor_folder import LATEST
from components.orchestration.drift.drift_check import monitoring
from components.orchestration.pipeline_params import Params
from components.orchestration.pipeline_params import load as load_params
from components.registry.release.retrain_record import RetrainRecord, retrains
from components.registry.versions.model_versions import fetch
from components.registry.versions.reader import read_snapshot
from components.stages.serve.stage import info
from tests.commands.project import Project
from tests.ports import free_port

ITEMS = 4  # texts of a request
_TRIES = 5  # of a label that cannot be taken yet
_TOLERANCE = 1e-4  # of a probability, as serve's own check has it


@dataclass(frozen=True)
class Text:
    """A review and what it should be called."""

    text: str
    label: str


@dataclass(frozen=True)
class Answer:
    """What the service said to one of them."""

    asked: Text
    id: str
    item: int
    model: Mapping[str, str]  # name, version, data_hash, bundle
    label: str
    probabilities: Mapping[str, float]

    @property
    def right(self) -> bool:
        """Whether it is what it should be called."""
        return self.label == self.asked.label


class Diary:
    """Lines with the time and the seconds since the beginning, on the screen and in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self._began = path, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")

    def note(self, step: str, text: str) -> None:
        """One line."""
        line = f"{time.strftime('%H:%M:%S')} {self.seconds:7.1f} s  {step}: {text}"
        print(line, flush=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began


class Hook:
    """A webhook on this machine: keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Of drift, oldest first."""
        return [each for each in list(self.told) if each.get("event") == "drift"]


class Clients:
    """Ask a service over HTTP and keep every answer; what is no good answer is kept, too."""

    def __init__(self, url: str, threads: int = 2) -> None:
        self.answers: list[Answer] = []
        self.failed: list[str] = []
        self._threads = threads
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=60)

    def ask(self, texts: Sequence[Text]) -> list[Answer]:
        """Some texts a request, several requests at a time; answers in the order of the texts."""
        parts = [texts[start : start + ITEMS] for start in range(0, len(texts), ITEMS)]
        with ThreadPoolExecutor(self._threads) as pool:
            return [answer for some in pool.map(self._one, parts) for answer in some]

    def label(self, answers: Sequence[Answer]) -> int:
        """Say what they should have been. Returns how many labels were taken."""
        taken = 0
        for each in answers:
            for _ in range(_TRIES):
                given = self._http.post(
                    "/v1/feedback",
                    json={"id": each.id, "item": each.item, "label": each.asked.label},
                )
                if given.status_code != 503:
                    break
                time.sleep(int(given.headers["Retry-After"]))
            taken += given.status_code == 202
            if given.status_code != 202:
                self.failed.append(f"feedback: {given.status_code} {given.text}")
        return taken

    @contextmanager
    def always(self, texts: Sequence[Text], pause: float) -> Iterator[None]:
        """Traffic that goes on meanwhile: a request every `pause` seconds."""
        stop = threading.Event()

        def go() -> None:
            place = 0
            while not stop.wait(pause):
                self._one(texts[place : place + ITEMS])
                place = (place + ITEMS) % len(texts)

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _one(self, texts: Sequence[Text]) -> list[Answer]:
        try:
            given = self._http.post(
                "/v1/predict", json={"inputs": [{"text": each.text} for each in texts]}
            )
            told = given.json() if given.status_code == 200 else {}
        except (httpx.HTTPError, ValueError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            return []
        if len(told.get("predictions", ())) != len(texts):
            self.failed.append(f"{given.status_code} {given.text[:200]}")
            return []
        made = [
            Answer(text, told["id"], item, told["model"], each["label"], each["probabilities"])
            for item, (text, each) in enumerate(zip(texts, told["predictions"], strict=True))
        ]
        self.answers.extend(made)
        return made


class Scene(Project):
    """A copy of the project over a file of reviews, with a first model, its service and its scheduler.

    Args:
        root: made anew.
        source: what it learns from at first.
        sections: changes to params.yaml.
        dvc: another pipeline than the nine stages.
    """

    def __init__(
        self,
        root: Path,
        source: Sequence[Text],
        sections: Mapping[str, Any],
        dvc: str | None = None,
    ) -> None:
        super().__init__(root)
        self.hook = Hook()
        self.edit("params.yaml", {"ingest": {"source": None}})
        self.edit(
            "params.yaml",
            {
                "ingest": {
                    "source": {"kind": "files", "path": "mine/reviews.csv"},
                    "feedback": "data/feedback/default",
                }
            },
        )
        self.edit(
            "params.yaml",
            {
                "monitor": {
                    "keep_text": True,
                    "rows_per_s": 1000.0,
                    "every_s": 1.0,
                    "webhook": self.hook.url,
                },
                "retrain": {"webhook": self.hook.url},
            },
        )
        self.edit("params.yaml", sections)
        self.write("mine/reviews.csv", [(each.text, each.label) for each in source])
        if dvc:
            (root / "dvc.yaml").write_text(dvc, encoding="utf-8")
        (root / ".git" / "info" / "exclude").write_text("/mine/\n")
        for words in (
            ["add", "-A"],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "scene"],
        ):
            subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
        self.port = free_port()
        self.clients = Clients(f"http://127.0.0.1:{self.port}")
        self.logs = {name: root.parent / f"{name}.log" for name in ("serve", "schedule")}

    @property
    def window(self) -> int:
        """Answers that are compared at a time."""
        return int(self.params.monitor.window)

    @property
    def params(self) -> Params:
        """As they are now."""
        return load_params(self.root / "params.yaml")

    def windows(self) -> int:
        """Windows of inputs that the service has looked at."""
        latest = monitoring(self.root, self.params).folder / LATEST
        return (
            sum(
                each["kind"] == "inputs"
                for each in json.loads(latest.read_text(encoding="utf-8"))["history"]
            )
            if latest.is_file()
            else 0
        )

    def records(self) -> list[RetrainRecord]:
        """Retrains that have ended, oldest first."""
        shelf = read_snapshot(self.root, "default")
        return retrains(shelf) if shelf else []

    @contextmanager
    def running(self) -> Iterator[None]:
        """`gristmill serve` and `gristmill schedule --on-drift`, as a person leaves them."""
        streams: list[IO[bytes]] = []
        started: list[subprocess.Popen[bytes]] = []
        commands = {
            "serve": ["serve", "--port", str(self.port)],
            "schedule": ["schedule", "--on-drift", "--every", "1"],
        }
        try:
            for name, words in commands.items():
                streams.append(self.logs[name].open("wb"))
                env = self.env | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "components.cli", *words],
                        cwd=self.root,
                        env=env,
                        stdin=subprocess.DEVNULL,
                        stdout=streams[-1],
                        stderr=streams[-1],
                    )
                )
                self.until(lambda name=name: self._begun(name, started[-1]), f"{name} to begin")  # type: ignore[misc]
            yield
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(120)
            for stream in streams:
                stream.close()
            self.hook.close()

    def _begun(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.said(name)
        return any(word in self.said(name) for word in ("answers at", "watching"))

    def said(self, name: str) -> str:
        """What the service or the scheduler has printed."""
        return self.logs[name].read_text(encoding="utf-8", errors="replace")

    def until(self, true: Callable[[], bool], what: str, seconds: float = 900.0) -> float:
        """Wait. Returns the seconds that it took."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > seconds:
                raise TimeoutError(
                    f"waited in vain for {what}:\n"
                    + "\n".join(
                        f"{name}: {path.read_text(encoding='utf-8')[-3000:]}"
                        for name, path in self.logs.items()
                        if path.is_file()
                    )
                )
            time.sleep(0.3)
        return time.monotonic() - began

    def retrained(self) -> str:
        """`gristmill retrain` to its end. Returns its last line."""
        done = self.finish(self.start("retrain", "--trigger", "the first model"), 3600)
        assert done.code == 0 and self.records()[-1].after, done.out + done.error
        return done.out.strip().splitlines()[-1]

    def monitored(self) -> tuple[int, str]:
        """Exit code and last line of `gristmill monitor`."""
        done = self.gristmill("monitor", COLUMNS="300")
        assert done.code in (0, 5), done.error
        return done.code, done.out.strip().splitlines()[-1]

    def accept(self) -> list[str]:
        """What a person does: here the script plays that part. Returns the texts that may now be learned from."""
        done = self.gristmill(
            "feedback", "accept", "--all", "--by", "the script, in place of a reviewer"
        )
        assert done.code == 0, done.error
        files = sorted((self.root / "data" / "feedback" / "default").glob("accepted-*.jsonl"))
        return [
            json.loads(line)["text"]
            for path in files
            for line in path.read_text(encoding="utf-8").splitlines()
        ]

    def mixed(self) -> int:
        """Answers that are not what the version that they name says to their text, or that name facts of another one."""
        wrong = 0
        with tempfile.TemporaryDirectory() as scratch:
            for version in {each.model["version"] for each in self.clients.answers}:
                mine = [each for each in self.clients.answers if each.model["version"] == version]
                bundle = fetch(self.root, "default", int(version), Path(scratch) / version)
                predictor, told = (
                    load(bundle),
                    info("default", int(version), bundle, []).ref.model_dump(),
                )
                expected = predictor.predict(
                    [
                        predictor.evaluator.query({"text": each.asked.text, "title": ""})
                        for each in mine
                    ]
                )
                for given, should in zip(mine, expected, strict=True):
                    gap = max(
                        abs(given.probabilities[name] - value)
                        for name, value in should.probabilities.items()
                    )
                    wrong += (
                        given.label != should.label or gap > _TOLERANCE or dict(given.model) != told
                    )
        return wrong


@dataclass(frozen=True)
class Share:
    """An accuracy, with its exact interval of 95% (Clopper and Pearson)."""

    right: int
    rows: int

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Share:
        """Of answers."""
        return cls(sum(each.right for each in answers), len(answers))

    @property
    def value(self) -> float:
        """The share."""
        return self.right / self.rows

    def __str__(self) -> str:
        from scipy.stats import binomtest

        low, high = binomtest(self.right, self.rows).proportion_ci(0.95, "exact")
        return f"{self.value:.1%} ({low:.1%} to {high:.1%}) of {self.rows:,}"


@dataclass(frozen=True)
class Duel:
    """Two models on the same cases."""

    wins: int  # of the second
    losses: int

    @property
    def p(self) -> float:
        """McNemar's exact test, two-sided."""
        return mcnemar(self.wins, self.losses)

    def __str__(self) -> str:
        return f"{self.wins} won, {self.losses} lost, p = {self.p:.2g}"


def paired_wins(old: Sequence[bool], new: Sequence[bool]) -> Duel:
    """Of answers to the same cases in the same order."""
    return Duel(
        sum(b and not a for a, b in zip(old, new, strict=True)),
        sum(a and not b for a, b in zip(old, new, strict=True)),
    )
