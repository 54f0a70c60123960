"""A real bundle on a real Ray Serve: deployed, asked, swapped under load, removed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from components.core.bundles import Card
from components.core.errors import EnvironmentFault, InputError
from components.serving.http.client import ask, healthy
from components.serving.http.keyring import KEY_VARIABLE, Key, Keyring
from components.serving.http.messages import ModelInfo
from components.serving.params import ServeParams
from components.serving.replicas import address
from components.serving.replicas.deploy import deploy, remove
from tests.components.small_ray import small_ray

ROOT = Path(__file__).parents[3]
CLASSES = ["差评", "好评"]
HASH = "ab" * 32


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classical baseline, fitted on a handful of reviews."""
    from components.tasks.base import baselines, schema
    from components.training.bundle_writer import save_numpy

    texts = {
        "好评": ["质量很好", "非常好吃", "服务很好 满意", "强烈推荐 好", "good food"],
        "差评": ["太差了", "质量很差", "难吃 失望", "差 退货", "bad food"],
    }
    rows = pa.table(
        {
            "text": [text for group in texts.values() for text in group],
            "label": [label for label, group in texts.items() for _ in group],
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
    card = Card(
        task="text_classification",
        runtime="numpy",
        architecture="classical",
        config={},
        targets={"classes": CLASSES},
        seed=7,
        data_hash=HASH,
        params_hash="cd" * 32,
        origin=["train"],
    )
    folder = tmp_path_factory.mktemp("model")
    save_numpy(folder, card, arrays, files)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two CPUs, of our own."""
    folder = tempfile.mkdtemp(prefix="gm")  # short: Ray makes Unix sockets below it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
            "components.serving.replicas.ray_middlewares.middlewares",
        )
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv(KEY_VARIABLE, raising=False)
        environment = {
            "env_vars": {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        }
        with small_ray(runtime_env=environment, temp_dir=folder):
            yield
    shutil.rmtree(folder, ignore_errors=True)


def options(version: str, **changes: Any) -> dict[str, Any]:
    facts = ModelInfo(
        name="reviews",
        version=version,
        data_hash=HASH,
        bundle="cd" * 6,
        examples=[{"text": "很好"}],
    )
    return {
        "app_name": "reviews",
        "route_prefix": "/reviews",
        "host": "127.0.0.1",
        "port": 0,
        "params": ServeParams(),
        "model": facts,
    } | changes


class Load:
    """Asks without a pause from two threads, and notes status and version of each answer."""

    def __init__(self, url: str) -> None:
        self.url, self.seen, self._stop = url, [], threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._stop.is_set():
                answer = client.post(
                    f"{self.url}/v1/predict", json={"inputs": [{"text": "很好"}] * 3}
                )
                self.seen.append((answer.status_code, answer.json()["model"]["version"]))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_refusals_before_anything_starts(cluster, bundle):
    with pytest.raises(EnvironmentFault, match="no API key") as fault:
        deploy(bundle, **options("1", host="0.0.0.0"))
    assert KEY_VARIABLE in fault.value.remedy
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(EnvironmentFault, match="cannot listen") as fault:
            deploy(bundle, **options("1", port=other.getsockname()[1]))
    assert "--port N" in fault.value.remedy


def test_a_port_that_another_process_takes_first(cluster, bundle, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        free = [address.claim("127.0.0.1", 0)]

        def lose_the_first(host: str, port: int) -> int:
            claims.append(port)
            return taken if len(claims) == 1 else free[0]

        monkeypatch.setattr("components.serving.replicas.deploy.claim", lose_the_first)
        # a port that was asked for is refused, and nothing stays behind
        claims: list[int] = []
        with pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{taken}: another"):
            deploy(bundle, **options("1", port=taken))
        assert claims == [taken]
        # for any port, the next one is tried
        claims = []
        url = deploy(bundle, **options("1"))
        assert url == f"http://127.0.0.1:{free[0]}/reviews" and claims == [0, 0]
        assert ask(url, [{"text": "很好"}])["model"]["version"] == "1"
        remove("reviews")


def test_the_life_of_a_deployment(cluster, bundle, tmp_path):
    # given a deployment
    url = deploy(bundle, **options("1"))
    # when it is asked, well and badly
    answer = ask(url, [{"text": "很好"}, {"text": "很差"}])
    post = {
        "url": f"{url}/v1/predict",
        "headers": {"content-type": "application/json"},
        "trust_env": False,
        "timeout": 30,
    }
    statuses = {
        body[:12]: httpx.post(content=body, **post).status_code
        for body in (
            '{"text": "好"}',
            '{"text": ',
            '{"text": 5}',
            '{"text": "\\ud800"}',
            '{"text": "！"}',
        )
    }
    large = httpx.post(content=json.dumps({"text": "x" * (16 << 20)}), **post)
    # then it answers, and refuses what it must
    assert [prediction["label"] for prediction in answer["predictions"]] == ["好评", "差评"]
    assert answer["model"] == {
        "name": "reviews",
        "version": "1",
        "data_hash": HASH,
        "bundle": "cd" * 6,
    }
    assert list(statuses.values()) == [200, 422, 422, 422, 422]
    assert large.status_code == 413
    assert [
        httpx.get(url + path, trust_env=False).status_code
        for path in (
            "/",
            "/docs",
            "/openapi.json",
            "/healthz",
            "/readyz",
            "/metrics",
            "/v1/model",
            "/nothing",
        )
    ] == [200] * 7 + [404]
    assert httpx.get(f"{url}/openapi.json", trust_env=False).json()["servers"] == [
        {"url": "/reviews"}
    ]
    # and it has one name and one id, whatever the client says of both
    named = httpx.post(
        f"{url}/v1/predict", json={"text": "好"}, headers={"X-Request-Id": "mine"}, trust_env=False
    )
    assert named.headers.get_list("x-request-id") == [named.json()["id"]]
    foreign = httpx.get(f"{url}/healthz", headers={"Host": "evil.example"}, trust_env=False)
    assert (foreign.status_code, "evil" in f"{foreign.text}{foreign.headers}") == (421, False)

    # when it is swapped under load, once with success and once with a bundle that was altered
    altered = shutil.copytree(bundle, tmp_path / "altered")
    (altered / "arrays.safetensors").write_bytes(b"x")
    with Load(url) as load:
        assert deploy(bundle, **options("2")) == url
        with pytest.raises(InputError, match="was altered"):
            deploy(altered, **options("3"))
        time.sleep(0.5)
    # then no request was dropped, and the version before the bad one goes on
    assert {status for status, _ in load.seen} == {200}
    assert {version for _, version in load.seen} == {"1", "2"}
    assert healthy(url)["version"] == "2"

    # when a second application joins and both go
    other = deploy(
        bundle,
        **options(
            "9", app_name="other", route_prefix="/other", keys=Keyring([Key.of("ann", "s3cret")])
        ),
    )
    assert [
        httpx.get(
            f"{other}/v1/model", headers={"authorization": f"Bearer {key}"}, trust_env=False
        ).status_code
        for key in ("s3cret", "wrong")
    ] == [200, 401]
    with pytest.raises(EnvironmentFault, match="already runs on port"):
        deploy(bundle, **options("9", port=1))
    remove("reviews")
    # then the other one stays until it is removed too, and the port with it
    assert (healthy(url), healthy(other)["version"]) == (None, "9")
    remove("other")
    with pytest.raises(httpx.ConnectError):
        httpx.get(other, trust_env=False)
