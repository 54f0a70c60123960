"""The stage without its HTTP round: what it registers, how it judges, and that the champion is asked anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from stage_runner import StageRunner, sentences

from components.core.bundles import CARD, Card, add_to_profile
from components.core.errors import InputError
from components.core.files import to_json
from components.core.job import Job
from components.core.tables import read_table, write_table
from components.inference.abstention import KEY
from components.metrics.selective_prediction import abstention_table
from components.registry.params import RegistryParams
from components.registry.release.gate_results import Gate
from components.registry.release.gates import GateParams
from components.registry.release.promotion import history
from components.registry.store import tracking_store
from components.registry.versions.model_versions import cases_of
from components.registry.versions.reader import RegistrySnapshot, read_snapshot
from components.serving.params import ServeParams
from components.stages.clean.frozen_split import freeze
from components.stages.evaluate.answer_costs import measure_costs
from components.stages.evaluate.candidates import measure_candidate
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.stage import _answers
from components.stages.serve import stage
from components.tasks import base
from components.training.bundle_writer import save_numpy

TAGS = {
    "pipeline": "default",
    "params_hash": "p" * 64,
    "params_file": "params.yaml",
    "git_commit": "c" * 40,
    "git_dirty": "true",
    "dvc_lock": "d" * 64,
    "run_id": "",
    "experiment": "",
}
PATIENT = GateParams(latency_p95_ms=1e6)  # the machine may be busy
FAST = EvaluateParams(resamples=100, latency_queries=20)


@pytest.fixture(scope="module")
def candidates(
    reviews: StageRunner, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Bundles: the baseline, and one that learned from 20 rows only."""
    folder, train = (
        tmp_path_factory.mktemp("candidates"),
        read_table(reviews.root / "clean", "train"),
    )
    return {
        name: baseline(reviews, folder / name, rows)
        for name, rows in (("good", train), ("poor", train.slice(0, 20)))
    }


def baseline(runner: StageRunner, folder: Path, rows: pa.Table) -> Path:
    """A bundle that has learned from these rows."""
    classes = runner.manifest()["classes"]
    arrays, files = (
        base.baselines(runner.task)
        .baselines["classical"]
        .fit(rows, {"classes": classes}, runner.sections["train"], runner.sections["clean"], 7)
    )
    card = Card(
        task=runner.task,
        runtime="numpy",
        architecture="classical",
        config={},
        targets={"classes": classes},
        seed=7,
        data_hash="ab" * 32,
        params_hash="cd" * 32,
        origin=[folder.name],
    )
    save_numpy(folder, card, arrays, files)
    return folder


@pytest.fixture(scope="module")
def template(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(empty_store, tmp_path_factory.mktemp("template") / "repo")
    (root / "params.yaml").write_text("seed: 7\nregistry: {mode: auto}\n", encoding="utf-8")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(stage, "_ask_over_http", lambda *_: stage.SmokeTest(5, 0, 0.0, 1e-4, 1.0))
    return shutil.copytree(template, tmp_path / "repo")


def job_of(
    root: Path, reviews: StageRunner, bundle: Path, rules: RegistryParams | None = None, **tags: str
) -> Job:
    """A job of serve: what evaluate would have left for this winner."""
    evaluator = base.evaluator(reviews.task)
    validation, test = (
        list(evaluator.cases(read_table(reviews.root / "clean", split)))
        for split in ("validation", "test")
    )
    found = measure_candidate("network", bundle, "models/winner", validation, test, FAST, 7)
    queries = [case.query for case in validation]
    row = found.row | measure_costs({"network": found.predictor}, queries, FAST)["network"]
    plan_files = {
        "deciding_metric": "macro_f1",
        "goal": "max",
        "leaked_rows": 0,
        "candidates": [
            row | {"winner": True},
            row | {"name": "classical", "winner": False, "baseline": True},
        ],
    }
    data = root / "data"
    shutil.rmtree(data, ignore_errors=True)
    write_table(data / "answers", {"test": _answers(evaluator, found.test_answers, test)})
    (data / "leaderboard.json").write_text(to_json(plan_files), encoding="utf-8")
    (data / "evaluation.html").write_text(
        "<main><!-- gates -->to come<!-- end of gates --></main>", encoding="utf-8"
    )
    inputs = {
        "clean": reviews.root / "clean",
        "winner": bundle,
        "answers": data / "answers",
        "leaderboard": data / "leaderboard.json",
        "evaluation": data / "evaluation.html",
    }
    sections = {"serve": ServeParams(), "registry": rules or RegistryParams(gates=PATIENT)}
    return Job(
        "serve",
        reviews.task,
        7,
        root,
        sections["serve"],
        sections,
        inputs,
        {"report": data / "serve.json", "html": data / "report.html"},
        root / ".state",
        {**TAGS, **tags},
    )


def shelf(root: Path) -> RegistrySnapshot:
    found = read_snapshot(root, "default")
    assert found
    return found


def report(root: Path) -> Any:
    return json.loads((root / "data" / "serve.json").read_text(encoding="utf-8"))


def said(job: Job) -> str:
    return job.journal.path.read_text(encoding="utf-8")


def test_a_version_carries_its_card(
    root: Path, reviews: StageRunner, candidates: Mapping[str, Path]
) -> None:
    stage.run(job_of(root, reviews, candidates["good"]))
    assert report(root)["decision"] == "promoted" and set(report(root)["gates"]) == {
        "baseline",
        "champion",
        "slices",
        "latency",
        "size",
        "calibration",
        "leak",
        "service",
    }
    tags = shelf(root).version(1).tags
    told = {
        key: json.loads(tags[key])
        for key in (
            "leaderboard_row",
            "environment",
            "signature",
            "input_example",
            "bundle_files",
            "params",
            "gates",
            "classes",
        )
    }
    assert {"python", "platform", "torch", "mlflow"} <= told["environment"].keys() and told[
        "params"
    ] == {"seed": 7, "registry.mode": "auto"}
    assert (
        "text" in told["signature"]["input"]["properties"]
        and "probabilities" in told["signature"]["output"]["properties"]
    )
    base.evaluator(reviews.task).Query.model_validate(told["input_example"])
    assert (
        "arrays.safetensors" in told["bundle_files"] and told["classes"] == ["好评", "差评"]
    ) or set(told["classes"]) == {"好评", "差评"}
    assert (tags["git_commit"], tags["dvc_lock"], tags["pipeline_params_hash"]) == (
        "c" * 40,
        "d" * 64,
        "p" * 64,
    )
    page = tracking_store.client(root).get_model_version("default", "1").description
    assert (
        "| leak | passed | 0 | 0 |" in page.replace("&nbsp;", "")
        and "with changes that were not committed" in page
        and "| **network**" in page
        and len(page) < 5000
    )


def test_the_champion_is_asked_the_same_cases_and_a_worse_one_is_refused(
    root: Path, reviews: StageRunner, candidates: Mapping[str, Path]
) -> None:
    stage.run(job_of(root, reviews, candidates["good"]))
    job = job_of(root, reviews, candidates["poor"])
    stage.run(job)
    gates = {gate["name"]: gate for gate in history(root, "default")[-1].gates}
    page = (root / "data" / "report.html").read_text(encoding="utf-8")
    assert (
        "<b>It was not released: " in page
        and "champion refused" in page
        and "gristmill review show 2" in page
        and "to come" not in page
    )
    assert (
        report(root)["decision"] == "refused"
        and gates["champion"]["against"] == 1
        and "measured again" not in gates["champion"]["detail"]
    )
    # run again it says the same, and records nothing
    stage.run(job)
    assert len(history(root, "default")) == 2 and shelf(root).aliases["champion"] == 1


def test_a_champion_of_another_test_split_is_measured_again_on_this_one(
    root: Path, reviews: StageRunner, candidates: Mapping[str, Path]
) -> None:
    # given a champion that was measured on another split
    stage.run(job_of(root, reviews, candidates["poor"]))
    tracking_store.client(root).set_model_version_tag("default", "1", "test_hash", "0" * 64)
    # when another winner comes
    job = job_of(root, reviews, candidates["good"])
    stage.run(job)
    # then they were compared on the present one, and that is said and kept
    made, mine = history(root, "default")[-1], shelf(root).version(2).tags["test_hash"]
    note = "the test split has changed since version 1 was made, so it was measured again"
    assert note in said(job) and note in next(
        gate["detail"] for gate in made.gates if gate["name"] == "champion"
    )
    assert (made.decision, made.before) == ("promoted", 1), made
    assert len(cases_of(root, shelf(root).version(1), mine).ids) == int(
        shelf(root).version(2).tags["test_cases"]
    )


def rotten(folder: Path) -> None:
    (folder / "arrays.safetensors").write_bytes(b"rot")


def exchanged(folder: Path) -> None:
    """The bundle agrees with itself, and not with what was registered."""
    content = (folder / CARD).read_text(encoding="utf-8")
    (folder / CARD).write_text(content.replace('"seed": 7', '"seed": 8'), encoding="utf-8")


@pytest.mark.parametrize("change", [rotten, exchanged])
def test_a_champion_that_cannot_be_asked_is_not_replaced_unseen(
    root: Path,
    reviews: StageRunner,
    candidates: Mapping[str, Path],
    change: Callable[[Path], None],
) -> None:
    stage.run(job_of(root, reviews, candidates["poor"]))
    change(Path(shelf(root).version(1).source))
    job = job_of(root, reviews, candidates["good"])
    stage.run(job)
    assert report(root)["gates"]["champion"] == "refused" and shelf(root).aliases["champion"] == 1
    assert "the champion, version 1, cannot be asked" in said(job)


@pytest.mark.parametrize("count", [240, 480])
def test_feedback_whose_labels_are_turned_round_replaces_no_champion(
    count: int, root: Path, reviews: StageRunner, candidates: Mapping[str, Path], tmp_path: Path
) -> None:
    # given a champion, and feedback, as many rows as it has learned from or more, that calls good what is bad
    stage.run(job_of(root, reviews, candidates["good"]))
    turned = {"差评": "好评", "好评": "差评"}
    poison = [
        {"id": f"{base.FEEDBACK}{number}", "text": row["text"], "label": turned[row["label"]]}
        for number, row in enumerate(sentences(count, seed=9))
    ]
    split = freeze(reviews.root / "clean", reviews.task, reviews.sections["clean"], tmp_path)  # type: ignore[arg-type]
    runner = StageRunner.make(
        tmp_path / "runner", [*sentences(240), *poison], clean={"frozen_split": str(split)}
    ).clean()
    # when a retrain learns from both
    stage.run(
        job_of(
            root,
            runner,
            baseline(runner, tmp_path / "poisoned", read_table(runner.root / "clean", "train")),
        )
    )
    # then a gate refuses it, whatever was drawn from the feedback to be tested on
    assert report(root)["gates"]["champion"] == "refused" and shelf(root).aliases["champion"] == 1
    assert any(
        case.startswith(base.FEEDBACK)
        for case in cases_of(
            root, shelf(root).version(1), shelf(root).version(2).tags["test_hash"]
        ).ids
    )


def test_in_review_a_winner_waits_and_an_answer_given_in_mlflow_is_picked_up(
    root: Path, reviews: StageRunner, candidates: Mapping[str, Path]
) -> None:
    job = job_of(root, reviews, candidates["good"], RegistryParams(mode="review", gates=PATIENT))
    stage.run(job)
    assert (
        report(root)["decision"] == "waiting"
        and "champion" not in shelf(root).aliases
        and "gristmill review show 1" in said(job)
    )
    for key, value in {"review.by": "王", "review.note": "好", "review": "approve"}.items():
        tracking_store.client(root).set_model_version_tag("default", "1", key, value)
    stage.run(replace(job, tags={**job.tags, "git_commit": "e" * 40}))
    assert [(each.decision, each.who) for each in history(root, "default")] == [
        ("waiting", "gristmill serve stage"),
        ("promoted", "王"),
    ]
    assert report(root)[
        "decision"
    ] == "unchanged" and "from MLflow: version 1 promoted by 王" in said(job)


def test_what_abstaining_comes_to_is_printed_and_a_card_without_it_refused(
    root: Path, reviews: StageRunner, candidates: Mapping[str, Path], tmp_path: Path
) -> None:
    job = replace(job_of(root, reviews, candidates["good"]), params=ServeParams(abstain=0.25))
    with pytest.raises(InputError, match=r"serve.abstain: 0.25: tells nothing of how sure"):
        stage.run(job)
    bundle = Path(shutil.copytree(candidates["good"], tmp_path / "told"))
    add_to_profile(
        bundle, {KEY: abstention_table([0.9] * 100 + [0.5] * 100, [True] * 100 + [False] * 100)}
    )
    job = replace(job_of(root, reviews, bundle), params=ServeParams(abstain=0.25))
    stage.run(job)
    assert "serve.abstain: 0.25: answers below 90.0% are marked as not sure; on test " in said(job)
    promised = replace(job_of(root, reviews, bundle), params=ServeParams(abstain=0.001))
    stage.run(promised)
    assert "no threshold can promise it" in said(promised)


def test_a_refusal_is_told_with_numbers_of_four_digits() -> None:
    gate = Gate(
        "baseline",
        passed=False,
        value=-0.00282061317677762,
        limit=-0.01,
        detail="gain on test",
        interval=(-0.0161512, 0.0096612),
        borderline=True,
    )
    assert stage._refusal(gate) == (
        "borderline: baseline: gain on test (-0.002821, -0.01615 to 0.009661 against -0.01)"
    )
    gate = Gate("latency", passed=False, value=None, limit=None, detail="was not measured")
    assert stage._refusal(gate) == "refused: latency: was not measured (none against none)"
