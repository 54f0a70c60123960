"""`gristmill retrain`: what it makes, what it refuses, and the one record that each attempt leaves."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from components.core.errors import EnvironmentFault, InputError
from components.orchestration.locks import only_one
from components.orchestration.processes import wait_until
from components.orchestration.retraining import project_copy, run_record
from components.orchestration.retraining.retrain import fresh, pulled, retrain
from components.orchestration.retraining.retrain_log import RetrainLog
from components.orchestration.runner.run import run_pipeline
from tests.components.orchestration.retrain_project import Small


class Hook(BaseHTTPRequestHandler):
    """Takes messages down."""

    taken: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not."""


@pytest.fixture(scope="module")
def hook() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def small(empty_store: Path, tmp_path_factory: pytest.TempPathFactory, hook: str) -> Small:
    made = Small(tmp_path_factory.mktemp("retrain") / "p", empty_store)
    made.edit("params.yaml", {"retrain": {"min_rows": 0.9, "webhook": hook}})
    made.commit()
    return made


def again(small: Small, **options: Any) -> int:
    return retrain(small.root, "default", **options)


def tree(small: Small) -> dict[str, bytes]:
    """The working tree, without what belongs to git, to the registry and to the state of commands."""
    apart = {".git", ".dvc", "mlflow", ".state", "__pycache__"}
    return {
        str(path.relative_to(small.root)): path.read_bytes()
        for path in small.root.rglob("*")
        if path.is_file() and not apart & set(path.relative_to(small.root).parts)
    }


def test_new_data_run_in_a_copy_and_leave_a_record(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(small)
    assert again(small, trigger="test") == 0
    assert (
        "pipeline default has no model yet: this retrain trains from nothing"
        in capsys.readouterr().out
    )
    assert tree(small) == before and not project_copy.copy_folder(small.root, "default").exists()
    (made,) = small.records()
    assert (made.trigger, made.outcome, made.version, made.rows) == ("test", "promoted", 1, 40)
    assert set(made.seconds) == {"ingest", "train", "serve"} and made.columns == {
        "text": "text",
        "label": "text",
    }
    assert made.commit == project_copy.git(small.root, "rev-parse", "HEAD")
    assert Hook.taken[-1]["outcome"] == "promoted" and Hook.taken[-1]["id"] == made.id


def test_nothing_new_is_nothing_done(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    before = small.records()
    assert again(small) == 0
    assert "nothing new since the retrain of" in capsys.readouterr().out
    assert (
        small.records() == before and not project_copy.copy_folder(small.root, "default").exists()
    )


def test_a_run_that_made_a_model_is_known_once(
    small: Small, capfd: pytest.CaptureFixture[str]
) -> None:
    small.put(["first"], 39)
    before = len(small.records())
    assert (
        run_pipeline(small.root, "default")
        == 0
        == run_pipeline(small.root, "default")
        == again(small)
    )
    (made,) = small.records()[before:]
    assert (made.trigger, made.outcome, made.version, made.rows) == (
        "gristmill run",
        "promoted",
        1,
        40,
    )
    out = capfd.readouterr().out
    assert (
        f"nothing new since the run of {made.began} (promoted)" in out
        and "will not know of this run" not in out
    )
    assert fresh(small.root, "default") is None


def test_a_run_of_what_dvc_knows_is_one_of_its_own_kind(small: Small) -> None:
    known = small.records()[-1]
    with_other = type(known).read(
        {**known.__dict__, "id": "other", "source": "other", "before": 1, "after": 2}
    )
    RetrainLog(small.root, "default").close(with_other)  # another champion since then
    assert fresh(small.root, "default") is not None
    assert run_pipeline(small.root, "default") == 0
    assert (
        small.records()[-1].outcome,
        small.records()[-1].detail,
        small.records()[-1].inputs,
    ) == ("unchanged", "DVC knew the result of serve", known.inputs)
    assert fresh(small.root, "default") is None


def test_one_at_a_time(small: Small) -> None:
    with (
        only_one(small.root / "data/.state/retrain.lock", "a retrain of this project"),
        pytest.raises(EnvironmentFault, match="is under way already: process"),
    ):
        again(small)


@pytest.mark.parametrize(
    ("count", "header", "told"),
    [
        (10, ("text", "label"), "10 rows where there were 40, less than 90%"),
        (40, ("review", "label"), "the column 'text' is gone"),
        (0, None, "there is no file or folder 'mine/rows.csv'"),
    ],
)
def test_a_source_that_is_not_what_it_was_is_refused_and_recorded_once(
    small: Small, count: int, header: tuple[str, str] | None, told: str
) -> None:
    path = small.put([], count, header or ("text", "label"))
    if header is None:
        path.unlink()
    before = len(small.records())
    for _ in range(2):  # two nights
        with pytest.raises(InputError, match=told):
            again(small)
    made = small.records()[before:]
    assert [each.outcome for each in made] == ["source refused"] and told in made[0].detail
    assert not project_copy.copy_folder(small.root, "default").exists()


def test_what_is_stopped_or_killed_leaves_one_record_no_process_and_is_gone_on_from(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    small.put(["SLEEP"])
    before, open_record, copy = (
        len(small.records()),
        small.root / "data/.state/retrain/default/running.json",
        project_copy.copy_folder(small.root, "default"),
    )

    def begun(slept: int) -> subprocess.Popen[str]:
        """A retrain that is in train."""
        process = small.start("retrain")
        assert wait_until(
            lambda: (
                (copy / f"slept.{slept}").exists()
                and json.loads(open_record.read_text())["stage"] == "train"
            ),
            200,
        )
        return process

    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script's background job
    try:
        stopped = begun(0)
    finally:
        signal.signal(signal.SIGINT, ours)
    os.kill(stopped.pid, signal.SIGTERM)
    end = small.finish(stopped)
    assert (end.out + end.error).count("To go on: gristmill retrain\n") == 1
    assert end.code == 130 and not open_record.exists() and small.records()[-1].outcome == "stopped"
    killed = begun(1)
    killed.kill()
    killed.communicate()
    assert wait_until(
        lambda: not [each for each in small.processes() if str(copy) in each], 60
    )  # the kernel has told them
    assert (copy / "data/raw").is_dir() and len(small.records()) == before + 1
    assert again(small) == 0
    assert (
        "was killed in stage train" in (out := capsys.readouterr().out)
        and "goes on in .dvc/tmp/retrain/default" in out
    )
    first, second, done = small.records()[before:]
    assert [
        told["outcome"] for told in Hook.taken if told["id"] in (first.id, second.id, done.id)
    ] == ["stopped", "killed", "promoted"], "the webhook is told of each end"
    assert (first.outcome, second.outcome, done.outcome) == ("stopped", "killed", "promoted")
    assert second.detail.startswith("in stage train") and "ingest" in first.seconds
    assert "ingest" not in done.seconds  # it was finished
    shown = small.gristmill("history", COLUMNS="300").out
    for told in ("by hand: stopped", "by hand: killed", "in stage train, which began"):
        assert told in shown, shown


def test_killed_in_its_first_stage_and_in_its_last_it_goes_on_and_releases_once(
    small: Small,
) -> None:
    small.put(["NAP"])
    before, open_record, copy = (
        len(small.records()),
        small.root / "data/.state/retrain/default/running.json",
        project_copy.copy_folder(small.root, "default"),
    )
    for stage in ("ingest", "serve"):
        process = small.start("retrain")
        assert wait_until(
            lambda stage=stage: (
                (copy / f"nap.{stage}").exists()
                and json.loads(open_record.read_text())["stage"] == stage
            ),
            200,
        )  # type: ignore[misc]
        process.kill()
        process.communicate()
        assert wait_until(lambda: not [each for each in small.processes() if str(copy) in each], 60)
    assert again(small) == 0
    *killed, done = small.records()[before:]
    assert [(each.outcome, each.detail.split(",")[0]) for each in killed] == [
        ("killed", "in stage ingest"),
        ("killed", "in stage serve"),
    ]
    assert done.outcome == "promoted" and set(done.seconds) == {"serve"} and not copy.exists()


def test_a_stage_that_fails_is_a_record_even_with_the_webhook_down(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    small.put(["CRASH"])
    small.edit("params.yaml", {"retrain": {"webhook": "http://127.0.0.1:9/secret"}})
    assert again(small) == 4
    made = small.records()[-1]
    assert made.outcome == "failed" and made.detail == "in stage train: the sky has fallen"
    errors = capsys.readouterr().err
    assert "the webhook at 127.0.0.1 did not take the message" in errors and "secret" not in errors


def test_a_model_that_loses_is_a_record_and_no_failure(
    small: Small, hook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small.put(["WORSE"])
    small.edit("params.yaml", {"retrain": {"webhook": hook}})
    stage = small.root / "components" / "stages" / "clean" / "split.py"
    stage.write_text(stage.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    assert again(small) == 0
    assert (
        "changes that are not committed are left out: components/stages/clean/split.py"
        in capsys.readouterr().out
    )
    assert (small.records()[-1].outcome, small.records()[-1].detail) == ("refused", "champion")
    assert again(small) == 0 and "nothing new" in capsys.readouterr().out  # that is settled, too


def test_params_and_committed_code_are_new_and_readmes_are_not(small: Small) -> None:
    settled = fresh(small.root, "default")
    (small.root / "README.md").write_text("other words", encoding="utf-8")
    small.commit()  # with the change in clean
    code = fresh(small.root, "default")
    small.edit("params.yaml", {"seed": 8})
    assert (
        settled is None
        and not pulled(small.root, "default")
        and code is not None
        and fresh(small.root, "default") not in (None, code)
    )


def test_a_full_disk_is_told_early_or_leaves_no_half_copy(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.put(["x" * 300_000])
    with monkeypatch.context() as patched:
        patched.setattr(
            project_copy.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**6})
        )
        with pytest.raises(EnvironmentFault, match="has 1 MB free, and a retrain wants"):
            again(small)
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(EnvironmentFault, match="the copy cannot be made"):
            project_copy.make_copy(
                small.root, load(small), project_copy.code_of(small.root).commit, "plan", None
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not project_copy.copy_folder(small.root, "default").exists()
    assert small.records()[-1].outcome == "failed" and "has 1 MB free" in small.records()[-1].detail


def load(small: Small) -> Any:
    from components.orchestration.pipeline_params import load as read

    return read(small.root / "params.yaml")


def test_a_record_waits_for_a_registry_that_is_away(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, made = RetrainLog(small.root, "default"), small.records()[-1]
    late = type(made).read({**made.__dict__, "id": "late"})
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{small.root}/nowhere/at/all.db")
        (small.root / "nowhere").write_text("no folder")
        ledger.close(late)
    assert small.records()[-1] == made
    ledger.send()
    ledger.close(late)  # a kill between the two steps would send it twice
    assert [each.id for each in small.records()].count("late") == 1


def test_a_record_that_is_refused_for_good_holds_up_no_other_and_long_columns_are_compared(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, made = RetrainLog(small.root, "default"), small.records()[-1]
    header = [f"{number}. {'How much do you agree? ' * 6}!" for number in range(60)]
    small.put([], 40, header)
    ledger.folder.joinpath("outbox", "0.json").write_text("{}")  # half of a record
    too_long, survey = (
        {**made.__dict__, "id": name, "outcome": "refused", "columns": columns}
        for name, columns in (("long", made.columns), ("survey", dict.fromkeys(header, "text")))
    )
    ledger.close(type(made).read({**too_long, "data": "d" * 9000}))
    ledger.close(type(made).read(survey))
    assert small.records()[-1].id == "survey" and not list(ledger.folder.glob("outbox/*.json"))
    assert sorted(path.name for path in ledger.folder.glob("outbox/*")) == [
        "0.refused",
        "long.refused",
    ]
    assert "a record of" in (told := capsys.readouterr().err) and "long.refused" in told
    small.put([], 40, [*header[:59], header[59] + "?"])
    with pytest.raises(InputError, match=r"the column '59\. How much") as caught:
        again(small)
    assert caught.value.what.count("is gone") == 1
    ledger.close(type(made).read({**made.__dict__, "id": "as before"}))
    small.put([])


def test_history_shows_retrains(small: Small) -> None:
    done = small.gristmill("history", COLUMNS="300")
    assert done.code == 0, done.error
    for told in (
        "test: promoted, version 1",
        "gristmill run: promoted, version 1",
        "source refused",
        "by hand: refused",
        "the sky has fallen",
    ):
        assert told in done.out, done.out


def run_by_hand(small: Small, meanwhile: Sequence[str] = ()) -> None:
    """Begin a run, do what happens meanwhile, end it."""
    close = run_record.begin(small.root, load(small))
    for name in meanwhile:
        (small.root / name).parent.mkdir(parents=True, exist_ok=True)
        with (small.root / name).open("a", encoding="utf-8") as stream:
            stream.write('{"text": "more", "label": "pos"}\n')
    os.utime(small.root / "data/reports/serve.json")
    close(1.0)


def test_what_a_run_has_not_seen_is_new(small: Small) -> None:
    told = "data/feedback/default/accepted-{}.jsonl"
    small.edit("params.yaml", {"ingest": {"feedback": "data/feedback/default"}})
    (small.root / "data/raw/manifest.json").write_text(
        json.dumps({"files": [{"name": "feedback/accepted-1.jsonl"}]})
    )
    run_by_hand(small)
    assert fresh(small.root, "default") is None
    source = (small.root / "mine/rows.csv").read_bytes()
    run_by_hand(
        small, [told.format(1), told.format(2), "mine/rows.csv"]
    )  # after it has begun: DVC may have looked before that
    assert fresh(small.root, "default") is not None
    (small.root / "mine/rows.csv").write_bytes(source)
    run_by_hand(
        small
    )  # ingest has read the first file, and DVC does not see that there is a second
    assert fresh(small.root, "default") is not None
    (small.root / told.format(2)).unlink()
    assert fresh(small.root, "default") is None


def test_a_run_of_code_that_is_not_committed_is_not_what_a_retrain_would_do(small: Small) -> None:
    small.edit("params.yaml", {"seed": 9})
    stage = small.root / "components" / "stages" / "clean" / "split.py"
    committed = stage.read_text(encoding="utf-8")
    stage.write_text(committed + "\n# not committed\n", encoding="utf-8")
    run_by_hand(small)
    assert (
        fresh(small.root, "default") is not None and "not committed" in small.records()[-1].detail
    )
    stage.write_text(committed, encoding="utf-8")
    run_by_hand(small)
    assert fresh(small.root, "default") is None


def test_a_path_out_of_the_project_is_refused(small: Small) -> None:
    outside = Path(small.root).parent / "outside.csv"
    outside.write_bytes((small.root / "mine" / "rows.csv").read_bytes())
    small.edit("params.yaml", {"ingest": {"source": {"path": "../outside.csv"}}})
    with pytest.raises(InputError, match="leads out of the project"):
        again(small)


def test_git_that_fails_says_why(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with pytest.raises(EnvironmentFault, match="git rev-parse"):
        project_copy.code_of(tmp_path)
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match="a folder of a larger git repository"):
        project_copy.code_of(tmp_path / "inner")
