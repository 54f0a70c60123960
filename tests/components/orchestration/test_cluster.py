"""The cluster: what connects, what is joined, and that nothing is left behind however its people end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from components.core.cpus import CpuLimits
from components.core.errors import EnvironmentFault
from components.orchestration.cluster import connection, local_cluster, supervisor
from components.orchestration.cluster.supervisor import Record, load, record_path
from components.orchestration.processes import Identity, alive, family, identify, wait_until

ROOT = Path(__file__).parents[3]
OWNER = """
import os, subprocess, sys, time
from pathlib import Path
import psutil, ray
from components.orchestration.cluster.local_cluster import attached
def work():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(600)
with attached(Path(sys.argv[1]), psutil.Process()) as address:
    ray.remote(num_cpus=0)(work).remote()
    print(address, flush=True)
    time.sleep(600)
"""


def new_root(folder: Path) -> Path:
    """A project whose code is this tree's."""
    (folder / "components").symlink_to(ROOT / "components")
    return folder.resolve()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = new_root(tmp_path_factory.mktemp("项目 1"))
    yield folder
    local_cluster.stop(folder)


@pytest.fixture(autouse=True)
def _no_foreign_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def running(root: Path) -> Record:
    """The embedded Ray of `root`, which all tests share as long as none of them kills it."""
    return local_cluster.start(root, psutil.Process())


@pytest.fixture
def other() -> Iterator[psutil.Popen]:
    """Somebody else, who may own a cluster too."""
    process = psutil.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def owner_process(root: Path) -> subprocess.Popen[str]:
    """A process, leader of a group of its own, that has the cluster work for it."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def mentions(text: str) -> list[str]:
    """Command lines with a text in them."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if text in line:
            found.append(line)
    return found


def assert_gone(record: Record, members: set[Identity]) -> None:
    """No process, no folder, no record."""
    assert not family(record.node)
    assert not [member for member in members if alive(member)]
    assert not mentions(record.temp)
    assert not Path(record.temp).exists()
    assert load(Path(record.root)) is None


# -- connecting
def test_workers_run_this_tree_and_everything_listens_on_loopback_alone(
    root: Path, running: Record, other: psutil.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    # given a token for another cluster, which must not be used
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    # Ray's own shutdown takes this one away, and a test before may have left it.
    before = {name: value for name, value in os.environ.items() if name != "PYTHONBREAKPOINT"}
    # when this process attaches and runs a task
    with local_cluster.attached(root, other) as address:
        path, variables, _ = ray.get(ray.remote(surroundings()).remote())
        listening = [
            link.laddr.ip
            for member in family(running.node)
            for link in psutil.Process(member.pid).net_connections("inet")
            if link.status == psutil.CONN_LISTEN
        ]
    # then it ran this tree's code, quietly
    assert path == str(ROOT / "components" / "__init__.py")
    assert variables["PYTHONPATH"].split(":")[0] == str(root)
    assert variables["RAY_TRAIN_ENABLE_PRINT_PATCH"] == "0"
    # and nobody outside can knock
    assert address == running.address and address.startswith("127.0.0.1:")
    assert len(listening) >= 4 and {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    # and this process is as it was, but for a variable that Ray sets for its debugger
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    after = {name: value for name, value in os.environ.items() if name != "PYTHONBREAKPOINT"}
    assert after == before and not ray.is_initialized()


def test_ray_starts_without_the_parts_that_nobody_uses(running: Record) -> None:
    lines = [" ".join(psutil.Process(member.pid).cmdline()) for member in family(running.node)]
    assert any("gcs_server" in line for line in lines)
    assert not [line for line in lines if "dashboard.py" in line]
    # `ray start` itself has not imported Ray Serve, which imports pandas.
    libraries = {library.path for library in psutil.Process(running.node.pid).memory_maps()}
    assert any("_raylet" in path for path in libraries)
    assert not [path for path in libraries if "pandas" in path]
    # And its agent does not look for a dashboard.
    (log,) = Path(running.temp).glob("r/session_2*/logs/dashboard_agent.log")
    assert "Loaded" in log.read_text() and "ERROR" not in log.read_text()


def surroundings() -> Callable[[], tuple[str, dict[str, str], list[str]]]:
    """A function that travels by value: workers do not see the tests."""

    def look() -> tuple[str, dict[str, str], list[str]]:
        import os
        import sys
        from pathlib import Path

        import components

        return str(Path(str(components.__file__)).resolve()), dict(os.environ), sys.path

    return look


def test_the_token_is_nowhere_but_in_its_file(root: Path, running: Record) -> None:
    token = running.token.read_text()
    assert len(token) == 64
    assert (
        running.token.stat().st_mode & 0o777 == 0o600
        and Path(running.temp).stat().st_mode & 0o777 == 0o700
    )
    assert not mentions(token)
    written = [
        file
        for folder in (record_path(root).parent, Path(running.temp))
        for file in folder.rglob("*")
        if file.is_file() and file != running.token
    ]
    assert len(written) > 10
    assert not [file for file in written if token.encode() in file.read_bytes()]
    assert token not in json.dumps(local_cluster.describe(root))


def test_without_the_token_nobody_gets_in(running: Record) -> None:
    code = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR')"
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_NUM_REDIS_GET_RETRIES": "1",
    }
    answer = subprocess.run(
        [sys.executable, "-c", code, running.address],
        env=without,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode and "InvalidAuthToken" in answer.stderr


def test_ray_address_is_used_and_given_the_code(
    root: Path, running: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    # given somebody's cluster, whose nodes have no code of ours: here it is our own, seen from outside
    for name, value in {
        "RAY_ADDRESS": running.address,
        "RAY_AUTH_TOKEN_PATH": str(running.token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }.items():
        monkeypatch.setenv(name, value)
    # when a process attaches for a root that has no cluster
    with local_cluster.attached(ROOT, None) as address:
        _, variables, path = ray.get(ray.remote(surroundings()).remote())
    # then it is used, and the code came with the job
    assert address == running.address
    modules = [folder for folder in path if "py_modules" in folder]
    assert len(modules) == 1 and variables["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
    assert not record_path(ROOT).exists() or load(ROOT) != running


def test_an_address_that_does_not_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_ANSWER_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for address, words in (
            (f"127.0.0.1:{silent.getsockname()[1]}", "does not answer"),
            ("127.0.0.1:1", "does not answer"),
            ("ray://127.0.0.1:10001", "Ray Client"),
        ):
            monkeypatch.setenv("RAY_ADDRESS", address)
            with (
                pytest.raises(EnvironmentFault, match=words) as fault,
                local_cluster.attached(root, None),
            ):
                pass
            assert address in fault.value.where and "unset RAY_ADDRESS" in fault.value.remedy


# -- starting
def test_shared_memory_is_asked_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_room(total: int, free: int) -> list[str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=total, free=free))
        return local_cluster.store_options(tmp_path)

    assert with_room(2**35, 2**34) == [f"--object-store-memory={2**30}"]
    assert with_room(2**31, 2**30) == [f"--object-store-memory={2**30 // 5}"]
    assert "--plasma-directory={temp}" in with_room(
        2**26, 2**26
    )  # a container with Docker's default
    with pytest.raises(EnvironmentFault, match="nearly full") as fault:
        with_room(2**33, 2**28)
    assert "--shm-size" in fault.value.remedy


def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = new_root(tmp_path)
    monkeypatch.setattr(local_cluster, "store_options", lambda: ["--no-such-option"])
    with pytest.raises(EnvironmentFault, match="no-such-option") as fault:
        local_cluster.start(root, psutil.Process())
    assert fault.value.where.endswith("cluster.log") and "gristmill doctor" in fault.value.remedy
    assert local_cluster.describe(root) is None and not mentions(str(root))


def test_a_copy_of_a_project_does_not_take_the_cluster_of_the_first(
    running: Record, tmp_path: Path
) -> None:
    record_path(tmp_path).parent.mkdir(parents=True)
    shutil.copy(record_path(Path(running.root)), record_path(tmp_path))
    assert local_cluster.describe(tmp_path) is None
    assert local_cluster.stop(tmp_path) is False
    assert running.usable


def test_a_number_that_was_given_away_is_not_killed() -> None:
    # given a leader of a session, and a record of one that had its number before
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    me = identify(os.getpid())
    found = identify(stranger.pid)
    assert me and found
    for past in (found._replace(began=found.began - 1), found._replace(boot="another")):
        # when what is left of it is removed
        supervisor.end(Record("/nowhere", "", me, past, None, "/nowhere/gm-", "", 0.0))
        # then the stranger lives
        assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


# -- whose it is
def test_ray_stays_as_long_as_one_owner_needs_it(
    root: Path, running: Record, other: psutil.Popen
) -> None:
    # given a second owner
    local_cluster.start(root, other)
    # when the first needs it no longer, then it stays for the second
    local_cluster.release(root, psutil.Process())
    described = local_cluster.describe(root)
    assert described and (described["state"], described["owners"]) == ("running", [other.pid])
    # and `up` keeps it without any owner
    up = local_cluster.start(root, None)
    assert up.owners is None and up.node == running.node
    local_cluster.release(root, other)
    assert local_cluster.start(root, psutil.Process()).owners is None
    replace(up, owners=running.owners).save()


def test_the_owner_of_a_stage_is_the_dvc_above_it(tmp_path: Path) -> None:
    # given a process tree like that of `dvc repro`: dvc, a shell, the stage
    (tmp_path / "dvc").write_text(
        "import subprocess, sys\nsys.exit(subprocess.call(sys.argv[2], shell=True))\n"
    )
    stage = tmp_path / "stage.py"
    stage.write_text(
        "from components.orchestration.cluster.local_cluster import owner_of_stage\nprint(owner_of_stage().pid)\n"
    )
    line = f'"{sys.executable}" "{stage}"; true'

    def owner(*command: str, **more: str) -> tuple[int, int]:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), **more},
            stdout=subprocess.PIPE,
            text=True,
        )
        answer = process.communicate()[0]
        return int(answer), process.pid

    found, dvc = owner(sys.executable, str(tmp_path / "dvc"), "repro", line)
    assert found == dvc
    # but under `gristmill run` it is that, if it is above it at all
    assert (
        owner(
            sys.executable,
            str(tmp_path / "dvc"),
            "repro",
            line,
            GRISTMILL_OWNER_PID=str(os.getpid()),
        )[0]
        == os.getpid()
    )
    found, dvc = owner(
        sys.executable, str(tmp_path / "dvc"), "repro", line, GRISTMILL_OWNER_PID="999999999"
    )
    assert found == dvc
    # and alone it is the stage
    found, alone = owner(sys.executable, str(stage))
    assert found == alone


# -- ends of all kinds
def test_two_starts_at_once_give_one_ray_which_goes_with_the_last_of_them(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    # given two processes that start at the same time, each with a busy worker
    owners = [owner_process(root), owner_process(root)]
    try:
        addresses = {owner.stdout.readline() for owner in owners if owner.stdout}
        record = load(root)
        assert record and addresses == {record.address + "\n"}
        assert wait_until(lambda: len(detached(record)) == 2, 60)
        members = family(record.node)
        # when the process group of one is killed, then Ray stays
        kill_group(owners[0])
        time.sleep(2)
        assert record.usable
        # when that of the other is killed, then everything is gone, and what the workers started too
        kill_group(owners[1])
        assert wait_until(
            lambda: not Path(record.temp).exists() and not alive(record.supervisor), 15
        )
        assert_gone(record, members)
    finally:
        for owner in owners:
            kill_group(owner)
        local_cluster.stop(root)


def detached(record: Record) -> list[Identity]:
    """What workers have started outside of Ray's session."""
    return [member for member in family(record.node) if os.getsid(member.pid) != record.node.pid]


def kill_group(owner: subprocess.Popen[str]) -> None:
    if owner.poll() is None:
        os.killpg(owner.pid, signal.SIGKILL)
        # Not reaped at once: the zombie that is left must not count as an owner.
        threading.Timer(5, owner.wait).start()


def test_a_killed_supervisor_is_made_up_for_by_the_next_start(
    root: Path, running: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_GRACE_S", 2.0)
    # given a supervisor that was killed, and a Ray that hears nothing
    members = family(running.node)
    os.kill(running.node.pid, signal.SIGSTOP)
    os.kill(running.supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(running.supervisor), 5)
    described = local_cluster.describe(root)
    assert described and described["state"] == "gone"
    # when the next command starts Ray
    following = local_cluster.start(root, psutil.Process())
    # then the old one is gone and a new one runs
    assert following.node != running.node and following.usable
    assert not Path(running.temp).exists() and not [member for member in members if alive(member)]
    # when the project's state is deleted, then nobody could find Ray again, so it ends
    record_path(root).unlink()
    members = family(following.node)
    assert wait_until(lambda: not alive(following.supervisor), 15)
    assert_gone(following, members)


def test_stopping_what_does_not_run(tmp_path: Path) -> None:
    assert local_cluster.stop(tmp_path) is False
    assert local_cluster.describe(tmp_path) is None
    unreadable: dict[str, Any] = {"address": 1}
    record_path(tmp_path).write_text(json.dumps(unreadable))
    assert local_cluster.stop(tmp_path) is False


@pytest.mark.parametrize(("usable", "given"), [(5, 5), (1, 2)])
def test_ray_gets_the_cpus_that_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: int, given: int
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(supervisor, "cpu_limits", lambda: CpuLimits(16, 8, usable))
    monkeypatch.setattr(
        supervisor.subprocess, "Popen", lambda words, env, **_: started.append((words, env))
    )
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    supervisor.launch(tmp_path, [])
    (words, environment) = started[0]
    assert f"--num-cpus={given}" in words
    assert environment["OPENBLAS_NUM_THREADS"] == str(usable)
    assert environment["MKL_NUM_THREADS"] == "7"
