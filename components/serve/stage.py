"""serve: register the winner, judge its gates, ask it over HTTP as a client would, and release it if all is well."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import CARD, read_bundle
from components.core.errors import GristmillError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_table
from components.engine import measure
from components.engine.predict import load
from components.registry.gates import Gate, Rival, as_rows, judge_gates
from components.registry.release import Release, release
from components.registry.versions import Version, champion, fetch, register
from components.serve.ask import ask
from components.serve.deploy import deploy, remove
from components.serve.params import ServeParams
from components.serve.wire import ModelInfo
from components.tasks import base

_TOLERANCE = 1e-4  # of a probability: the same graph on other threads and batch sizes rounds differently


@dataclass(frozen=True)
class Smoke:
    """What asking over HTTP showed."""

    asked: int
    different: int  # answers whose label differs, or whose probability differs by more than the tolerance
    largest: float  # difference of a probability
    milliseconds: float  # median of a request


def run(job: Job) -> None:
    """Write reports/serve.json; the registry holds the rest."""
    params: ServeParams = job.params
    pipeline, bundle = job.tags["pipeline"], job.inputs["winner"]
    board = json.loads(job.inputs["leaderboard"].read_text(encoding="utf-8"))
    winner = next(row for row in board["candidates"] if row["winner"])
    version = register(job.root, pipeline, bundle, job.tags["run_id"] or None, _card(job, winner), _description(job, winner, board))
    job.journal.say(f"registered as version {version.number} of {pipeline!r} (challenger)" if "challenger" in version.aliases else f"is version {version.number} of {pipeline!r} already")
    smoke = _ask_over_http(job, version)
    gates = [*_judge(job, winner, board), Gate("service", smoke.different == 0, smoke.largest, _TOLERANCE, f"{smoke.asked} answers over HTTP against evaluate's, largest difference of a probability")]
    version = register(job.root, pipeline, bundle, job.tags["run_id"] or None, {"gates": json.dumps(as_rows(gates), ensure_ascii=False)})
    made = release(job.root, pipeline, version.number, gates, mode=params.mode, who="gristmill serve stage", why=f"gates of {version.number}", experiment=bool(job.tags.get("experiment")))
    _tell(job, made, gates)
    report = {
        "model": pipeline,
        "version": version.number,
        "decision": made.decision,
        "champion_before": made.before or 0,
        "asked": smoke.asked,
        "different": smoke.different,
        "largest_difference": smoke.largest,
        "http_p50_ms": smoke.milliseconds,
        "gates": {gate.name: "not applicable" if gate.passed is None else "passed" if gate.passed else "refused" for gate in gates},
    }
    write_atomic(job.outputs["report"], to_json(report))


def info(root_name: str, number: int, bundle: Path, examples: list[dict[str, Any]]) -> ModelInfo:
    """What answers name."""
    return ModelInfo(name=root_name, version=str(number), data_hash=read_bundle(bundle)[0].data_hash, bundle=sha256(bundle / CARD)[:12], examples=examples)


def _card(job: Job, winner: Mapping[str, Any]) -> dict[str, str]:
    """Tags of the version: where it came from and how good it is."""
    card, _ = read_bundle(job.inputs["winner"])
    low, high = winner["test_interval"]["accuracy"]
    return {
        "candidate": winner["name"],
        "title": winner["title"],
        "data_hash": card.data_hash,
        "params_hash": card.params_hash,
        "git_commit": job.tags["git_commit"],
        "git_dirty": job.tags["git_dirty"],
        "dvc_lock": job.tags["dvc_lock"],
        "accuracy": f"{winner['test']['accuracy']:.4f}",
        "accuracy_interval": f"{low:.4f} to {high:.4f}",
        "leaderboard_row": json.dumps(winner, ensure_ascii=False),
        # Queries for the page to offer, kept with the version: a service need not have the data.
        "examples": json.dumps([query.model_dump(mode="json") for query in base.judge(job.task).example(read_table(job.inputs["clean"], "test"))], ensure_ascii=False),
    }


def _description(job: Job, winner: Mapping[str, Any], board: Mapping[str, Any]) -> str:
    """Markdown for the reviewer."""
    lines = [f"**{winner['title']}**, winner of {len(board['candidates'])} candidates on validation.", "", "| candidate | validation | test | interval | MB | p95 ms |", "|---|---|---|---|---|---|"]
    metric = board["deciding_metric"]
    for row in board["candidates"]:
        low, high = row["test_interval"][metric]
        lines.append(f"| {row['name']} | {row['validation'][metric]:.4f} | {row['test'][metric]:.4f} | {low:.4f} to {high:.4f} | {row['size_bytes'] / 1e6:.2f} | {row['latency_ms']['p95']:.2f} |")
    return "\n".join([*lines, "", f"Figures are {metric}; data {read_bundle(job.inputs['winner'])[0].data_hash[:12]}."])


def _judge(job: Job, winner: Mapping[str, Any], board: Mapping[str, Any]) -> list[Gate]:
    params: ServeParams = job.params
    answers = read_table(job.inputs["answers"], "test", ["id", "right"])
    correct = dict(zip(answers["id"].to_pylist(), answers["right"].to_pylist(), strict=True))
    baseline = next((row for row in board["candidates"] if row["baseline"]), None)
    return judge_gates(winner, baseline, _rival(job), params.gates, correct=correct, leaked_rows=board["leaked_rows"], metric=board["deciding_metric"], goal=board["goal"])


def _rival(job: Job) -> Rival | None:
    """The champion, asked the same test cases; it may have been made from other data."""
    leading = champion(job.root, job.tags["pipeline"])
    if leading is None:
        return None
    digest = leading.tags.get("bundle_sha256", "")
    if digest == sha256(job.inputs["winner"] / CARD):
        return Rival(leading.number, digest, {})
    judge = base.judge(job.task)
    cases = list(judge.cases(read_table(job.inputs["clean"], "test")))
    try:
        predictor = load(fetch(job.root, leading.pipeline, leading.number, job.state / "champion"))
        answers = measure.answer(predictor, cases)
        return Rival(leading.number, digest, {case.id: judge.right(answer, case.truth) for answer, case in zip(answers, cases, strict=True)})
    except (GristmillError, ValueError) as error:  # a champion that cannot be asked refuses the release: nobody is replaced unseen
        job.journal.say(f"the champion, version {leading.number}, cannot be asked: {error}")
        return Rival(leading.number, digest, {})


def _ask_over_http(job: Job, version: Version) -> Smoke:
    """Deploy under a name of its own, ask test cases one by one, compare with what evaluate answered, take it down again."""
    params: ServeParams = job.params
    table = read_table(job.inputs["answers"], "test", ["query", "answer"]).to_pylist()
    chosen = random.Random(job.seed).sample(table, min(params.questions, len(table)))  # noqa: S311 (which questions are asked is no secret)
    name = f"check-{job.tags['pipeline']}-{version.number}"
    url = deploy(
        job.inputs["winner"],
        app_name=name,
        route_prefix=f"/{name}",
        host="127.0.0.1",
        port=None,
        params=params.model_copy(update={"replicas": 1}),
        model=info(job.tags["pipeline"], version.number, job.inputs["winner"], []),
    )
    try:
        different, largest, times = 0, 0.0, []
        for number, row in enumerate(chosen, 1):
            started = time.perf_counter()
            given = ask(url, [json.loads(row["query"])])["predictions"][0]
            times.append((time.perf_counter() - started) * 1000)
            expected = json.loads(row["answer"])
            gap = max(abs(given["probabilities"][key] - value) for key, value in expected["probabilities"].items())
            different += given["label"] != expected["label"] or gap > _TOLERANCE
            largest = max(largest, gap)
            job.journal.progress(number, len(chosen), "questions over HTTP")
        return Smoke(len(chosen), different, largest, sorted(times)[len(times) // 2])
    finally:
        remove(name)


def _tell(job: Job, made: Release, gates: list[Gate]) -> None:
    shown = ", ".join(f"{gate.name} {'n/a' if gate.passed is None else 'passed' if gate.passed else 'REFUSED'}" for gate in gates)
    job.journal.say(f"gates: {shown}")
    for gate in gates:
        if gate.passed is False:
            job.journal.say(f"refused by {gate.name}: {gate.detail} ({gate.value} against {gate.limit})")
    meaning = {
        "promoted": f"version {made.version} is champion",
        "unchanged": f"version {made.version} is champion already",
        "refused": f"version {made.version} is not released; version {made.before} stays champion" if made.before else f"version {made.version} is not released",
        "waiting": f"version {made.version} passed and waits for a person (serve.mode: review)",
        "experiment": f"version {made.version} is registered; experiments are never released",
    }
    job.journal.say(meaning[made.decision])
