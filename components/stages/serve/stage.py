"""Stage serve: register the winner, judge its gates and release it if all of them pass.

One gate asks the winner over HTTP, as a client would.
"""

from __future__ import annotations

import json
import math
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import CARD, read_bundle
from components.core.errors import GristmillError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.sandbox import SandboxedCall
from components.core.tables import read_manifest, read_table
from components.inference.abstention import threshold_of
from components.inference.predictor import first_answers, load
from components.metrics.selective_prediction import outcome
from components.registry.params import RegistryParams
from components.registry.release.gates import (
    ChampionResults,
    Gate,
    as_rows,
    from_rows,
    gate_rules,
    judge_gates,
)
from components.registry.release.mlflow_requests import apply_mlflow_requests
from components.registry.release.promotion import Release, release
from components.registry.versions.model_versions import (
    champion,
    fetch_registered,
    keep_cases,
    register,
)
from components.registry.versions.reader import Version, argument
from components.registry.versions.test_cases import Cases
from components.serving.http.client import ask
from components.serving.http.keyring import Key, Keyring
from components.serving.http.messages import ModelInfo
from components.serving.params import ServeParams
from components.serving.replicas.deploy import deploy, remove
from components.serving.rollout.agreement import tolerance
from components.stages.serve import version_description
from components.stages.serve.run_report import with_gates
from components.tasks import base
from components.training import evaluation

# Candidate that answers without looking at its input.
TRIVIAL = "trivial"


@dataclass(frozen=True)
class SmokeTest:
    """Result of asking the winner over HTTP.

    Args:
        asked: number of questions.
        different: answers that differ by more than rounding explains.
        largest: difference of an answer.
        tolerance: largest difference that rounding explains.
        milliseconds: median of a request.
    """

    asked: int
    different: int
    largest: float
    tolerance: float
    milliseconds: float


def run(job: Job) -> None:
    """Write reports/serve.json and reports/report.html, and register the version."""
    params: ServeParams = job.params
    rules: RegistryParams = job.sections["registry"]  # type: ignore[assignment]
    pipeline = job.tags["pipeline"]
    bundle = job.inputs["winner"]
    leaderboard = json.loads(job.inputs["leaderboard"].read_text(encoding="utf-8"))
    winner = next(row for row in leaderboard["candidates"] if row["winner"])
    for request in apply_mlflow_requests(job.root, pipeline, gate_rules(job.task, rules.gates)):
        job.journal.log(
            f"from MLflow: version {request.version} {request.decision} by {request.who}"
        )
    cases = version_description.answered(job)
    run_id = job.tags["run_id"] or None
    tags = version_description.tags(job, winner, cases)
    version = register(job.root, pipeline, bundle, run_id, tags)
    keep_cases(job.root, version, cases)
    _log_registered(job, version)
    if params.abstain is not None:
        job.journal.log(_abstention(bundle, params.abstain, cases))
    smoke = _ask_over_http(job, params, version)
    service = Gate(
        "service",
        smoke.different == 0,
        smoke.largest,
        smoke.tolerance,
        f"{smoke.asked} answers over HTTP against evaluate's, largest difference",
    )
    gates = [*_judge(job, rules, winner, leaderboard, cases), service]
    gate_tags = {"gates": json.dumps(as_rows(gates), ensure_ascii=False)}
    description = version_description.page(job, winner, leaderboard, gates)
    version = register(job.root, pipeline, bundle, run_id, gate_tags, description)
    decision = release(
        job.root,
        pipeline,
        version.number,
        gates,
        mode=rules.mode,
        who="gristmill serve stage",
        why=f"gates of {version.number}",
        experiment=bool(job.tags.get("experiment")),
        rules=gate_rules(job.task, rules.gates),
    )
    _log_decision(job, decision)
    result = {
        "winner": winner["name"],
        "version": version.number,
        "decision": decision.decision,
    }
    metrics = {f"test_{name}": value for name, value in winner["test"].items() if value is not None}
    job.journal.result(result, metrics)
    report = {
        "model": pipeline,
        "version": version.number,
        "decision": decision.decision,
        "champion_before": decision.before or 0,
        "asked": smoke.asked,
        "different": smoke.different,
        "largest_difference": smoke.largest,
        "http_p50_ms": smoke.milliseconds,
        "gates": {gate.name: gate.verdict for gate in from_rows(decision.gates)},
    }
    write_atomic(job.outputs["report"], to_json(report))
    page = job.inputs["evaluation"].read_text(encoding="utf-8")
    write_atomic(job.outputs["html"], with_gates(page, pipeline, decision))


def _log_registered(job: Job, version: Version) -> None:
    """Log whether the version is new."""
    pipeline = job.tags["pipeline"]
    message = f"is version {version.number} of {pipeline!r} already"
    if "challenger" in version.aliases:
        message = f"registered as version {version.number} of {pipeline!r} (challenger)"
    job.journal.log(message)


def _abstention(bundle: Path, share: float, cases: Cases) -> str:
    """Return a message about the effect of `serve.abstain`.

    Args:
        bundle: the winner.
        share: of the answers that may be wrong, 0-1.
        cases: answers to the test split.

    Raises:
        InputError: the model cannot abstain.
    """
    least = threshold_of(read_bundle(bundle)[0].profile, share, f"serve.abstain: {share:g}")
    if math.isinf(least):
        return (
            f"serve.abstain: {share:g}: no threshold can promise it, every answer will be marked "
            "as not sure; state a larger share, or bring more validation rows"
        )
    tested = outcome(cases.stats["confidence"], cases.stats["right"], least)
    wrong = "none"
    if tested["wrong"] is not None:
        wrong = f"{tested['wrong']:.1%}"
    return (
        f"serve.abstain: {share:g}: answers below {least:.1%} are marked as not sure; "
        f"on test {tested['answered']:.1%} are answered, of these {wrong} wrongly"
    )


def info(
    root_name: str,
    number: int,
    bundle: Path,
    examples: list[dict[str, Any]],
) -> ModelInfo:
    """Return the model that answers name.

    Args:
        root_name: of the pipeline.
        number: of the version.
        bundle: its folder.
        examples: queries.
    """
    return ModelInfo(
        name=root_name,
        version=str(number),
        data_hash=read_bundle(bundle)[0].data_hash,
        bundle=sha256(bundle / CARD)[:12],
        examples=examples,
    )


def _judge(
    job: Job,
    rules: RegistryParams,
    winner: Mapping[str, Any],
    leaderboard: Mapping[str, Any],
    cases: Cases,
) -> list[Gate]:
    """Return the gates of the winner: limits, the baseline and the champion."""
    rows = leaderboard["candidates"]
    baseline = next((row for row in rows if row["baseline"]), None)
    trivial = next((row for row in rows if row["name"] == TRIVIAL), None)
    return judge_gates(
        winner,
        baseline,
        _champion_results(job, cases),
        gate_rules(job.task, rules.gates),
        cases=cases,
        leaked_rows=leaderboard["leaked_rows"],
        metric=leaderboard["deciding_metric"],
        goal=leaderboard["goal"],
        is_share=base.evaluator(job.task).metrics[0].is_share,
        trivial=trivial,
    )


def _champion_results(job: Job, winner_cases: Cases) -> ChampionResults | None:
    """Return the champion's answers to the test cases of the winner.

    The champion may have been made from other data and measured on other test cases. If it cannot
    be asked, its gate refuses the release: no version is replaced without a comparison.
    """
    version = champion(job.root, job.tags["pipeline"])
    if version is None:
        return None
    digest = version.tags.get("bundle_sha256", "")
    if digest == sha256(job.inputs["winner"] / CARD):
        return ChampionResults(version.number, digest, Cases((), {}))
    evaluator = base.evaluator(job.task)
    clean = job.inputs["clean"]
    inputs = base.chosen_inputs(read_manifest(clean))
    cases = list(evaluator.cases(read_table(clean, "test"), inputs))
    try:
        champion_cases = _ask_champion(job, version, cases)
    except (GristmillError, ValueError) as error:
        job.journal.log(f"the champion, version {version.number}, cannot be asked: {error}")
        return ChampionResults(version.number, digest, Cases((), {}), "it cannot be asked")
    keep_cases(job.root, version, champion_cases)
    note = ""
    if version.tags.get("test_hash", "") not in ("", winner_cases.test):
        note = (
            f"the test split has changed since version {version.number} was made, "
            "so it was measured again"
        )
        job.journal.log(note)
    return ChampionResults(version.number, digest, champion_cases, note)


def _ask_champion(job: Job, version: Version, cases: Sequence[base.Case[Any]]) -> Cases:
    """Return the answers of a registered version to the test cases.

    Raises:
        GristmillError: the version cannot be fetched, loaded or asked.
    """
    folder = job.state / "champion"
    bundle = fetch_registered(job.root, version.pipeline, version.number, folder)
    # In a child first: what comes from the registry may hang or crash.
    with SandboxedCall(first_answers) as child:
        query = cases[0].query.model_dump_json()
        child.call(
            bundle.folder,
            str(bundle.folder),
            bundle.digest,
            None,
            [query],
        )
    predictor = load(bundle.folder, registered=bundle.digest)
    answers = evaluation.answer(predictor, cases)
    return version_description.compared(cases, answers, base.evaluator(job.task))


def _ask_over_http(job: Job, params: ServeParams, version: Version) -> SmokeTest:
    """Deploy the winner under a name of its own, ask it test cases, and remove it.

    Answers are compared with those of evaluate.
    """
    bundle = job.inputs["winner"]
    table = read_table(job.inputs["answers"], "test", ["query", "answer"]).to_pylist()
    # Which questions are asked is no secret.
    rng = random.Random(job.seed)  # noqa: S311
    questions = rng.sample(table, min(params.questions, len(table)))
    name = f"check-{job.tags['pipeline']}-{version.number}"
    secret = secrets.token_urlsafe(32)
    url = deploy(
        bundle,
        app_name=name,
        route_prefix=f"/{name}",
        host="127.0.0.1",
        port=None,
        params=params.model_copy(update={"replicas": 1}),
        model=info(job.tags["pipeline"], version.number, bundle, []),
        keys=Keyring([Key.of("check", secret)]),
    )
    try:
        return _ask_questions(job, url, secret, questions)
    finally:
        remove(name)


def _ask_questions(
    job: Job,
    url: str,
    secret: str,
    questions: list[dict[str, str]],
) -> SmokeTest:
    """Ask a service test cases one by one, and compare its answers.

    Args:
        job: serve.
        url: of the service.
        secret: its API key.
        questions: "query" and "answer" as JSON.
    """
    evaluator = base.evaluator(job.task)
    card = read_bundle(job.inputs["winner"])[0]
    allowed = tolerance(card)
    different = 0
    largest = 0.0
    times = []
    for number, row in enumerate(questions, 1):
        started = time.perf_counter()
        response = ask(url, [json.loads(row["query"])], key=secret)
        times.append((time.perf_counter() - started) * 1000)
        distance = evaluator.output_distance(
            evaluator.Answer.model_validate(response["predictions"][0]),
            evaluator.Answer.model_validate_json(row["answer"]),
            card.targets,
        )
        # A distance that is no number counts as different too.
        different += not distance <= allowed
        largest = max(largest, distance)
        job.journal.progress(number, len(questions), "questions over HTTP")
    median = sorted(times)[len(times) // 2]
    return SmokeTest(len(questions), different, largest, allowed, median)


def _log_decision(job: Job, decision: Release) -> None:
    """Log the gates and the decision about the version."""
    gates = from_rows(decision.gates)
    verdicts = []
    for gate in gates:
        verdict = "n/a" if gate.passed is None else gate.verdict
        verdicts.append(f"{gate.name} {verdict}")
    job.journal.log("gates: " + ", ".join(verdicts))
    for gate in gates:
        if gate.passed is False:
            job.journal.log(_refusal(gate))
    version = decision.version
    stays = ""
    if decision.before:
        stays = f"; version {decision.before} stays champion"
    command = f"gristmill review show{argument(job.tags['pipeline'])} {version}"
    messages = {
        "promoted": f"version {version} is champion",
        "unchanged": f"version {version} is champion already",
        "refused": f"version {version} is not released{stays}",
        "waiting": f"version {version} waits for a person{stays}: {decision.why}. {command}",
        "rejected": f"version {version} is not released{stays}: {decision.why}",
        "experiment": f"version {version} is registered; experiments are never released",
    }
    job.journal.log(messages[decision.decision])


def _refusal(gate: Gate) -> str:
    """Return the message of a gate that refuses the release."""
    measured = _number(gate.value)
    if gate.interval:
        low, high = gate.interval
        measured += f", {_number(low)} to {_number(high)}"
    limit = _number(gate.limit)
    return f"{gate.verdict}: {gate.name}: {gate.detail} ({measured} against {limit})"


def _number(value: float | None) -> str:
    """Return a number with four digits."""
    return "none" if value is None else f"{value:.4g}"
