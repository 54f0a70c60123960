"""`gristmill monitor` and `gristmill feedback` on a project with a champion: windows, alarms, a webhook, MLflow, review."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from label_answers import validation_profile

from components.cli import feedback
from components.core.bundles import Card
from components.core.errors import EnvironmentFault
from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore, Key
from components.monitoring.monitor_folder import FEEDBACK, REQUESTS
from components.monitoring.profile import Profiler, profile_of
from components.monitoring.request_log import AnswerLogger, Index, RequestLog
from components.orchestration.drift import drift_check
from components.orchestration.drift.drift_check import DRIFT, Watchman, check_drift, monitoring
from components.orchestration.pipeline_params import Params, load
from components.registry.store.tracking_store import client
from components.registry.versions.model_versions import register
from components.tasks import base
from components.tasks.shared.evaluator.classification.evaluator import Answer
from tests.commands.project import Done, call

ROOT = Path(__file__).parents[3]
TASK, CLEAN = "text_classification", {"min_characters": 2, "max_characters": 2000}
CHINESE = [
    f"{a}{b}{c}"
    for a in ("房间", "早餐", "前台", "电梯", "位置", "大堂")
    for b in ("很", "不", "真", "太")
    for c in ("干净", "好", "吵闹，下次不来了", "方便", "满意")
]


def make_bundle(folder: Path) -> Path:
    """A model that carries the profile of short Chinese reviews."""
    from components.training.bundle_writer import save_numpy

    facet = base.baselines(TASK)
    import pyarrow as pa

    rows = pa.table(
        {
            "text": ["很好吃", "很好", "太差了", "太差"],
            "title": [""] * 4,
            "label": ["好评", "好评", "差评", "差评"],
        }
    )
    arrays, files = facet.baselines["classical"].fit(
        rows,
        {"classes": ["差评", "好评"]},
        facet.options["train"].model_validate({}),
        base.schema(TASK).options["clean"].model_validate({}),
        7,
    )
    profile = profile_of(
        {"text": CHINESE * 5},
        dict(base.schema(TASK).fields(base.schema(TASK).options["clean"].model_validate(CLEAN))),
        CLEAN,
    )
    profile |= {
        "predictions": validation_profile(
            ["好评", "差评"] * 100, [0.9, 0.8] * 100, [True] * 180 + [False] * 20
        )
    }
    save_numpy(
        folder,
        Card(
            TASK,
            "numpy",
            "classical",
            {},
            {"classes": ["差评", "好评"]},
            7,
            "ab" * 32,
            "cd" * 32,
            ["train"],
            profile,
        ),
        arrays,
        files,
    )
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose version 1 is champion."""
    root = tmp_path_factory.mktemp("watched")
    for name in ("pipelines", "components", "dvc.yaml", "constraints.txt"):
        (root / name).symlink_to(ROOT / name)
    text = (
        (ROOT / "params.yaml")
        .read_text(encoding="utf-8")
        .replace("keep_text: false", "keep_text: true")
        .replace("  window: 500 ", "  window: 60 ")
        .replace("  labels: 100 ", "  labels: 20 ")
    )
    (root / "params.yaml").write_text(text, encoding="utf-8")
    register(root, "default", make_bundle(root / "bundle"), None, {})
    client(root).set_registered_model_alias("default", "champion", "1")
    return root


class Project:
    """A copy of it, and a service that was asked things."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()
        self.params: Params = load(root / "params.yaml")
        watch = monitoring(root, self.params)
        self.folder, self.home = watch.folder, root / "data" / ".state" / "default"
        self.log = RequestLog(
            watch.folder / REQUESTS,
            replace(watch, params=watch.params.model_copy(update={"rows_per_s": 1e4})).params,
        )
        self.box = FeedbackStore(watch.folder / FEEDBACK, 1000)

    def asked(self, texts: list[str]) -> list[str]:
        """Log answers; returns their ids."""
        rules = base.evaluator(TASK)
        from components.core.bundles import read_bundle

        recorder = AnswerLogger(
            self.log,
            "1",
            Profiler(TASK, read_bundle(self.root / "bundle")[0].profile),
            rules,
        )
        ids = [f"{time.time_ns():032d}" for _ in texts]
        for number, (id_, text) in enumerate(zip(ids, texts, strict=True)):
            sure = (0.9, 0.8)[number % 2]
            answer = Answer(
                label=("好评", "差评")[number % 2],
                probability=sure,
                probabilities={"好评": 1 - sure, "差评": sure},
            )
            recorder.log_sample(id_, [rules.Query(text=text)], [answer])
        self.log.flush()
        return ids

    def labelled(self, ids: list[str], right: bool) -> None:
        """What /v1/feedback does."""
        for id_ in ids:
            row = Index(self.log.folder).find(id_, 0)
            assert row
            other = {"好评": "差评", "差评": "好评"}[row["prediction"]]
            self.box.add(
                FeedbackEntry(
                    id_,
                    0,
                    {"label": row["prediction"] if right else other},
                    time.time(),
                    row["version"],
                    row["prediction"],
                    row["probability"],
                    row["input"],
                )
            )

    def look(self, **params: Any) -> dict[str, Any]:
        """One look."""
        told = replace(self.params, monitor=self.params.monitor.model_copy(update=params))
        return check_drift(self.root, told, self.said.append)

    def environment(self) -> dict[str, str]:
        """Return what a command of a person finds."""
        foreign = ("RAY_", "GRISTMILL_", "MLFLOW_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return env | {"PYTHONPATH": str(ROOT)}

    def command(self, *words: str) -> Done:
        """Run a command as a person types it."""
        done = subprocess.run(
            [sys.executable, "-m", "components.cli", *words],
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def call(self, *words: str) -> Done:
        """Run a command in this process."""
        return call(self.root, self.environment(), *words)


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(drift_check, "_WRITE_DELAY_S", 0.0)
    made = Project(shutil.copytree(template, tmp_path / "p", symlinks=True))
    yield made
    made.log.close()


def like(count: int, start: int = 0) -> list[str]:
    return [CHINESE[(start + 7 * i) % len(CHINESE)] for i in range(count)]


ENGLISH = [
    f"the {a} was {b} and we {c} it"
    for a in ("room", "lobby", "breakfast", "lift")
    for b in ("clean", "noisy", "broken", "lovely")
    for c in ("liked", "hated", "left", "loved")
]


def test_nothing_is_said_of_few_answers(project: Project) -> None:
    project.asked(like(59))
    told = project.look()
    assert (told["waiting"]["inputs"], told["windows"], "inputs" in told) == ([59, 60], 0, False)
    assert not (project.home / DRIFT).exists()


def test_each_window_is_looked_at_once_and_drift_is_told_everywhere(project: Project) -> None:
    project.asked(like(70))
    first = project.look()
    assert (
        first["windows"],
        first["alarms"],
        first["inputs"]["drift"],
        first["waiting"]["inputs"],
    ) == (1, 0, [], [10, 60])
    assert project.look()["windows"] == 1, "the same rows again say nothing new"
    project.asked(ENGLISH[:50])
    told = project.look()
    assert (told["windows"], told["alarms"]) == (2, 1)
    alarm = json.loads((project.home / DRIFT).read_text(encoding="utf-8"))
    assert (alarm["level"], alarm["version"]) == (0.01, 1)
    assert "text.script" in alarm["fields"]
    assert "DRIFT of default version 1" in project.said[-1]
    store = client(project.root)
    (run,) = store.search_runs(
        [store.get_experiment_by_name("default").experiment_id], "tags.`gristmill.watches` = '1'"
    )
    assert [
        point.step for point in store.get_metric_history(run.info.run_id, "drifted.inputs")
    ] == [1, 2]
    assert "text.script" in run.data.tags["drift.inputs"]
    shown = project.command("monitor")
    assert shown.code == drift_check.DRIFTED, shown.error
    assert "drift of" in shown.out
    assert "100.0% -> 1" in shown.out, "how much of it was Chinese, and is"


def test_a_webhook_is_told_and_one_that_is_down_is_not_and_hurts_nobody(project: Project) -> None:
    came: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/secret-path"
    project.asked(ENGLISH[:60])
    project.look(webhook=url)
    server.shutdown()
    server.server_close()
    assert [(each["event"], each["pipeline"], each["version"]) for each in came] == [
        ("drift", "default", 1)
    ]
    project.asked(ENGLISH[:60])
    assert project.look(webhook=url)["alarms"] == 2
    assert "the webhook of monitor.webhook was not told: ConnectError" in project.said
    assert "secret-path" not in "".join(project.said)


def test_a_registry_that_is_away_stops_no_look(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise EnvironmentFault("does not answer")

    monkeypatch.setattr("components.orchestration.drift.drift_alerts._log", away)
    project.asked(ENGLISH[:60])
    assert project.look()["alarms"] == 1
    assert (project.home / DRIFT).is_file()
    assert "MLflow was not told of a window: does not answer" in project.said


def test_a_fall_of_accuracy_is_drift_unless_the_labels_are_rejected(project: Project) -> None:
    ids = project.asked(like(59))
    project.labelled(ids[:20], right=True)
    assert project.look()["accuracy"]["drift"] == []
    project.labelled(ids[20:39], right=False)
    project.box.decide([(id_, 0) for id_ in ids[20:39]], "rejected", "li")
    project.labelled(ids[39:58], right=True)
    assert project.look()["alarms"] == 0, "labels that a person has thrown out say nothing"
    project.labelled(ids[58:], right=False)
    more = project.asked(like(19))
    project.labelled(more, right=False)
    told = project.look()
    assert (told["accuracy"]["drift"], told["accuracy"]["findings"][0]["change"]) == (
        [],
        "90.0% -> 95.0%",
    ), "the window before is the one that ended"
    project.labelled(project.asked(like(1)), right=False)
    told = project.look()
    assert (told["accuracy"]["drift"], told["accuracy"]["findings"][0]["change"]) == (
        ["accuracy"],
        "90.0% -> 0.0%",
    )


def test_a_new_champion_begins_anew_and_one_that_comes_back_goes_on_where_it_was(
    project: Project,
) -> None:
    ids = project.asked(ENGLISH[:60])
    project.labelled(ids[:20], right=False)
    assert project.look()["alarms"] == 2
    store = client(project.root)
    first = store.get_model_version("default", "1")
    copied = store.create_model_version("default", source=first.source, tags=first.tags)
    store.set_registered_model_alias("default", "champion", copied.version)
    told = project.look()
    assert (told["version"], told["windows"], told["alarms"]) == (2, 0, 0)
    assert not (project.home / DRIFT).exists()
    assert project.look()["before"] == [
        {
            "version": 1,
            "until": told["before"][0]["until"],
            "labels_until": told["before"][0]["labels_until"],
            "windows": 2,
            "alarms": 2,
        }
    ]
    store.set_registered_model_alias("default", "champion", "1")
    project.asked(like(10))
    told = project.look()
    assert (told["version"], told["windows"], told["alarms"], told["waiting"]) == (
        1,
        2,
        2,
        {"inputs": [10, 60], "accuracy": [0, 20]},
    )
    assert len(project.said) == 2 and not (project.home / DRIFT).exists(), (
        "what was told of once is not told again"
    )
    project.asked(ENGLISH[:50])
    assert (project.look()["windows"], len(project.said)) == (3, 3)


def test_how_far_versions_were_looked_at_is_kept_of_the_latest() -> None:
    rules = base.evaluator(TASK).feedback
    told = drift_check._turn({}, 1, rules)
    for version in range(2, 100):
        told = drift_check._turn(told | {"until": float(version)}, version, rules)
    told = drift_check._turn(told, 1, rules)
    assert (told["until"], len(told["before"]), told["before"][-1]["version"]) == (
        0.0,
        drift_check._VERSIONS,
        99,
    )
    assert drift_check._turn(told, 98, rules)["until"] == 99.0


def test_only_what_a_person_accepts_becomes_training_data(project: Project) -> None:
    ids = project.asked(["电话13812345678，房间很干净", *like(3)])
    project.labelled(ids, right=False)
    listed = project.call("feedback", "list")
    assert "<phone>" in listed.out
    assert (
        "4 wait, 4 of them with another label than was answered. Decide: gristmill feedback "
        in listed.out
    )
    assert not (project.root / "data" / "feedback").exists()
    assert project.call("feedback", "reject", ids[1], "--by", "li").code == 0
    refused = project.call("feedback", "accept", "nobody", "--by", "li")
    assert (refused.code, "means 0 of the labels that wait" in refused.error) == (2, True)
    done = project.command("feedback", "accept", "--all", "--by", "li")
    assert done.code == 0, done.error
    (path,) = (project.root / "data" / "feedback" / "default").glob("accepted-*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [f"feedback-{id_}-0" for id_ in (ids[0], *ids[2:])]
    assert rows[0] == {
        "id": f"feedback-{ids[0]}-0",
        "text": "电话<phone>，房间很干净",
        "title": "",
        "label": "差评",
    }
    assert "no label waits" in project.command("feedback", "list").out


def accept_and_die(decided: int) -> None:
    """Accept all labels in a process that is killed when so many of its decisions are on the disk."""
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        return
    decide = FeedbackStore.decide

    def half(box: FeedbackStore, keys: list[Key], decision: str, by: str) -> None:
        decide(box, keys[:decided], decision, by)
        os.kill(os.getpid(), signal.SIGKILL)

    FeedbackStore.decide = half  # type: ignore[method-assign, assignment]
    feedback.accept("li", all_=True)


def test_what_an_accept_that_was_killed_had_not_decided_is_learnt_only_if_a_person_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    folder, shown = (
        project.root / "data" / "feedback" / "default",
        lambda: sorted(path.name for path in folder.glob("accepted-*.jsonl")),
    )
    project.labelled(project.asked(like(2)), right=False)
    accept_and_die(decided=0)
    assert shown() == [] and len(project.box.waiting()) == 2, (
        "nothing is learnt from what still waits"
    )
    feedback.reject("li", all_=True)
    assert list(folder.iterdir()) == []

    ids = project.asked(like(3))
    project.labelled(ids, right=True)
    accept_and_die(decided=2)
    assert shown() == [] and [label.id for label in project.box.waiting()] == ids[2:]
    feedback.list_()
    (name,) = shown()
    assert [
        json.loads(line)["id"] for line in (folder / name).read_text(encoding="utf-8").splitlines()
    ] == [f"feedback-{id_}-0" for id_ in ids[:2]]
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_label_without_a_text_cannot_be_accepted(project: Project) -> None:
    project.box.add(
        FeedbackEntry("e" * 32, 0, {"label": "好评"}, time.time(), "1", "差评", 0.9, None)
    )
    refused = project.call("feedback", "accept", "--all", "--by", "li")
    assert refused.code == 2
    assert "monitor.keep_text" in refused.error
    assert not (project.root / "data" / "feedback").exists()


def test_a_profile_that_cannot_be_compared_is_refused_and_hurts_no_service(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a champion from outside, whose profile has the right names and a wrong count
    bundle = shutil.copytree(project.root / "bundle", tmp_path / "outside")
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    card["profile"]["fields"]["text.length"]["rows"] = -1
    (bundle / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    outside = register(project.root, "default", bundle, None, {})
    client(project.root).set_registered_model_alias("default", "champion", str(outside.number))
    # when a person looks, then the file and the reason are printed
    shown = project.call("monitor")
    assert shown.code == 2, shown.error
    assert "bundle.json: holds a profile of the training rows" in shown.error
    assert "fields.text.length" in shown.error and "rows" in shown.error
    assert "Traceback" not in shown.error
    # and a service that looks again and again prints it once
    naps = iter([None] * 3)
    clock = SimpleNamespace(time=time.time, sleep=lambda _: next(naps))
    monkeypatch.setattr(drift_check, "time", clock)
    with pytest.raises(StopIteration):
        Watchman(project.root, project.params, project.said.append).run()
    assert len(project.said) == 1
    assert project.said[0].startswith("monitoring: holds a profile of the training rows")


def test_commands_that_read_import_no_web_framework() -> None:
    code = "import sys, components.orchestration.drift.drift_check; print('fastapi' in sys.modules)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
