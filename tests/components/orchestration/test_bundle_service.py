"""`gristmill serve --bundle` answers with a bundle alone: no Ray, no registry, no library of the pipeline."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from champions import TEXTS
from fastapi.testclient import TestClient

from components.core.bundles import CARD
from components.core.errors import BundleError, EnvironmentFault, GristmillError, InputError
from components.inference.predictor import GRAPH
from components.orchestration.service.bundle_service import CHECKS, hold_bundle, open_bundle
from components.serving.http.app import build_app
from components.serving.http.keyring import Key, Keyring
from tests.components.training.small_bundles import (
    CLASSES,
    exchange,
    onnx_bundle,
    torch_bundle,
)
from tests.structure.import_graph import ROOT


def client(folder: Path, keys: Keyring | None = None) -> TestClient:
    """Return a client of the app of a bundle."""
    predictor, model = open_bundle(folder, None)
    return TestClient(build_app(predictor, model, keys=keys), base_url="http://localhost")


def test_a_request_is_limited_as_by_the_service_over_ray(tmp_path: Path) -> None:
    with client(onnx_bundle(tmp_path / "bundle")) as asked:
        nobody = asked.post("/v1/predict", json=TEXTS[0], headers={"host": "evil.example"})
        many = asked.post("/v1/predict", json={"inputs": TEXTS * 30})
        wrong = asked.post("/v1/predict", json={"inputs": [{"town": "Bonn"}]})
    assert [nobody.status_code, many.status_code, wrong.status_code] == [421, 422, 422]


def test_keys_are_wanted_where_there_are_some(tmp_path: Path) -> None:
    keys = Keyring([Key.of("ann", "secret")])
    with client(onnx_bundle(tmp_path / "bundle"), keys) as asked:
        refused = asked.post("/v1/predict", json=TEXTS[0])
        headers = {"Authorization": "Bearer secret"}
        answered = asked.post("/v1/predict", json=TEXTS[0], headers=headers)
    assert [refused.status_code, answered.status_code] == [401, 200]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_answers_and_ends_with_0(number: signal.Signals, tmp_path: Path) -> None:
    bundle = onnx_bundle(tmp_path / "bundle")
    words = [sys.executable, "-m", "components.cli", "serve", "mine"]
    words += ["--bundle", str(bundle), "--port", "0", "--allow-host", "models.example.com"]
    environment = {**os.environ, "GRISTMILL_KEYS_FILE": str(tmp_path / "keys.json")}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            assert line.startswith("mine version ")
            url = line.partition("answers at ")[2].split()[0]
            headers = {"Content-Type": "application/json", "Host": "models.example.com"}
            with urlopen(Request(f"{url}/v1/predict", b'{"text": "hotel"}', headers)) as response:
                answer = json.load(response)
        finally:
            server.send_signal(number)
        assert server.wait(30) == 0
    assert answer["predictions"][0]["label"] in CLASSES


def truncated(folder: Path) -> Path:
    path = onnx_bundle(folder) / GRAPH
    path.write_bytes(path.read_bytes()[:-7])
    return folder


def altered(folder: Path) -> Path:
    path = onnx_bundle(folder) / GRAPH
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return folder


def linked_out(folder: Path) -> Path:
    path = onnx_bundle(folder) / GRAPH
    path.rename(folder.parent / "outside")
    path.symlink_to(folder.parent / "outside")
    return folder


def silent(folder: Path) -> Path:
    """A bundle that agrees with itself, and whose graph is none."""
    exchange(onnx_bundle(folder), GRAPH, b"no graph")
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def checked(content: str) -> Callable[[Path], Path]:
    """Return what writes a bundle with a check.json."""

    def make(folder: Path) -> Path:
        (onnx_bundle(folder) / CHECKS).write_text(content, encoding="utf-8")
        return folder

    return make


def pipe(folder: Path) -> Path:
    os.mkfifo(onnx_bundle(folder) / CHECKS)
    return folder


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (empty, InputError, r"holds no bundle\.json, so it is no bundle"),
        (torch_bundle, InputError, r"needs torch.*\n.*--format onnx"),
        (truncated, BundleError, "was altered: it has"),
        (altered, BundleError, "was altered: its SHA-256"),
        (linked_out, BundleError, "leads out of the bundle"),
        (silent, BundleError, "cannot be read"),
        (pipe, InputError, "is no file of at most"),
        (checked('{"cases": [{"query": 7}]}'), InputError, r"cases\.0\.query"),
        (checked('{"cases": [{"query": {"word": "a"}}]}'), InputError, "holds no queries: text"),
        (checked('{"cases": [{"query": {"text": "\\u200b"}}]}'), BundleError, "refuses a query"),
        (checked("[" * 100_000), InputError, "holds no queries"),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused(
    make: Callable[[Path], Path], kind: type[GristmillError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        open_bundle(make(tmp_path / "bundle"), None)


def test_a_name_from_outside_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb\x1b[31m"
    shutil.copytree(onnx_bundle(tmp_path / "bundle"), folder)
    _, model = open_bundle(folder, None)
    assert model.name.isprintable()


@pytest.mark.parametrize(
    ("host", "keys", "hosts", "message"),
    [
        ("127.0.0.1", Keyring(), (), "cannot listen on 127.0.0.1"),
        ("0.0.0.0", Keyring(), (), "can be reached from other machines, and no API key"),
        ("127.0.0.1", Keyring(), ("http://a",), "--allow-host: allowed_hosts.0"),
        ("no.such.name.invalid", Keyring([Key.of("ann", "x")]), (), "cannot listen on no.such"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_first(
    host: str, keys: Keyring, hosts: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(GristmillError) as refused:
        port = taken.getsockname()[1]
        hold_bundle(tmp_path, None, host=host, port=port, keys=keys, allowed_hosts=hosts)
    assert message in str(refused.value)
    expected = InputError if hosts else EnvironmentFault
    assert isinstance(refused.value, expected)


def test_a_card_that_is_changed_between_two_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.orchestration.service import bundle_service

    bundle = onnx_bundle(tmp_path / "bundle")
    real = bundle_service.sha256

    def sha256_then_change(path: Path) -> str:
        digest = real(path)
        (bundle / CARD).write_text((bundle / CARD).read_text(encoding="utf-8") + "\n")
        return digest

    monkeypatch.setattr(bundle_service, "sha256", sha256_then_change)
    with pytest.raises(BundleError, match="not the card that was registered"):
        open_bundle(bundle, None)
