"""serve: register the winner, judge its gates, ask it over HTTP as a client would, and release it if all is well."""

from __future__ import annotations

import json
import math
import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import CARD, read_bundle
from components.core.errors import GristmillError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.sandbox import Confined
from components.core.tables import read_table
from components.inference.abstention import outcome, threshold_of
from components.inference.predictor import first_answers, load
from components.registry.params import RegistryParams
from components.registry.release.gates import ChampionResults, Gate, as_rows, from_rows, judge_gates
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
from components.serving.http.api_keys import Key, Keyring
from components.serving.http.client import ask
from components.serving.http.messages import ModelInfo
from components.serving.params import ServeParams
from components.serving.replicas.deploy import deploy, remove
from components.serving.rollout.agreement import tolerance
from components.stages.serve import version_description
from components.stages.serve.run_report import with_gates
from components.tasks import base
from components.training import evaluation


@dataclass(frozen=True)
class SmokeTest:
    """What asking over HTTP showed."""

    asked: int
    different: int  # answers that are further apart than rounding explains
    largest: float  # gap
    tolerance: float
    milliseconds: float  # median of a request


def run(job: Job) -> None:
    """Write reports/serve.json and reports/report.html; the registry holds the rest."""
    params: ServeParams = job.params
    rules: RegistryParams = job.sections["registry"]  # type: ignore[assignment]
    pipeline, bundle = job.tags["pipeline"], job.inputs["winner"]
    board = json.loads(job.inputs["leaderboard"].read_text(encoding="utf-8"))
    winner = next(row for row in board["candidates"] if row["winner"])
    for made in apply_mlflow_requests(job.root, pipeline, rules.gates):
        job.journal.log(f"from MLflow: version {made.version} {made.decision} by {made.who}")
    cases = version_description.answered(job)
    version = register(
        job.root,
        pipeline,
        bundle,
        job.tags["run_id"] or None,
        version_description.tags(job, winner, cases),
    )
    keep_cases(job.root, version, cases)
    job.journal.log(
        f"registered as version {version.number} of {pipeline!r} (challenger)"
        if "challenger" in version.aliases
        else f"is version {version.number} of {pipeline!r} already"
    )
    if params.abstain is not None:
        job.journal.log(_abstention(job.inputs["winner"], params.abstain, cases))
    smoke = _ask_over_http(job, params, version)
    service = Gate(
        "service",
        smoke.different == 0,
        smoke.largest,
        smoke.tolerance,
        f"{smoke.asked} answers over HTTP against evaluate's, largest difference",
    )
    gates = [*_judge(job, rules, winner, board, cases), service]
    told = {"gates": json.dumps(as_rows(gates), ensure_ascii=False)}
    version = register(
        job.root,
        pipeline,
        bundle,
        job.tags["run_id"] or None,
        told,
        version_description.page(job, winner, board, gates),
    )
    experiment = bool(job.tags.get("experiment"))
    made = release(
        job.root,
        pipeline,
        version.number,
        gates,
        mode=rules.mode,
        who="gristmill serve stage",
        why=f"gates of {version.number}",
        experiment=experiment,
        limits=rules.gates,
    )
    _tell(job, made)
    figures = {f"test_{name}": value for name, value in winner["test"].items() if value is not None}
    job.journal.result(
        {"winner": winner["name"], "version": version.number, "decision": made.decision}, figures
    )
    report = {
        "model": pipeline,
        "version": version.number,
        "decision": made.decision,
        "champion_before": made.before or 0,
        "asked": smoke.asked,
        "different": smoke.different,
        "largest_difference": smoke.largest,
        "http_p50_ms": smoke.milliseconds,
        "gates": {gate.name: gate.verdict for gate in from_rows(made.gates)},
    }
    write_atomic(job.outputs["report"], to_json(report))
    page = job.inputs["evaluation"].read_text(encoding="utf-8")
    write_atomic(job.outputs["html"], with_gates(page, pipeline, made))


def _abstention(bundle: Path, share: float, cases: Cases) -> str:
    """Return what `serve.abstain` comes to, as a line. Raises `InputError` of a model that cannot abstain."""
    least = threshold_of(read_bundle(bundle)[0].profile, share, f"serve.abstain: {share:g}")
    if math.isinf(least):
        return f"serve.abstain: {share:g}: no threshold can promise it, every answer will be marked as not sure; state a larger share, or bring more validation rows"
    tested = outcome(cases.confidence, cases.right, least)
    wrong = "none" if tested["wrong"] is None else f"{tested['wrong']:.1%}"
    return f"serve.abstain: {share:g}: answers below {least:.1%} are marked as not sure; on test {tested['answered']:.1%} are answered, of these {wrong} wrongly"


def info(root_name: str, number: int, bundle: Path, examples: list[dict[str, Any]]) -> ModelInfo:
    """What answers name."""
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
    board: Mapping[str, Any],
    cases: Cases,
) -> list[Gate]:
    baseline = next((row for row in board["candidates"] if row["baseline"]), None)
    rival = _rival(job, cases)
    return judge_gates(
        winner,
        baseline,
        rival,
        rules.gates,
        cases=cases,
        leaked_rows=board["leaked_rows"],
        metric=board["deciding_metric"],
        goal=board["goal"],
    )


def _rival(job: Job, mine: Cases) -> ChampionResults | None:
    """The champion, asked the same test cases; it may have been made from other data, and measured on other ones."""
    leading = champion(job.root, job.tags["pipeline"])
    if leading is None:
        return None
    digest, before = leading.tags.get("bundle_sha256", ""), leading.tags.get("test_hash", "")
    if digest == sha256(job.inputs["winner"] / CARD):
        return ChampionResults(leading.number, digest, Cases((), ()))
    evaluator = base.evaluator(job.task)
    asked = list(evaluator.cases(read_table(job.inputs["clean"], "test")))
    try:
        bundle = fetch_registered(
            job.root, leading.pipeline, leading.number, job.state / "champion"
        )
        # In a child first: what comes from the registry may hang or crash.
        with Confined(first_answers) as child:
            query = asked[0].query.model_dump_json()
            child.call(bundle.folder, str(bundle.folder), bundle.digest, None, [query])
        predictor = load(bundle.folder, registered=bundle.digest)
        theirs = version_description.compared(asked, evaluation.answer(predictor, asked), evaluator)
    except (
        GristmillError,
        ValueError,
    ) as error:  # a champion that cannot be asked refuses the release: nobody is replaced unseen
        job.journal.log(f"the champion, version {leading.number}, cannot be asked: {error}")
        return ChampionResults(leading.number, digest, Cases((), ()), "it cannot be asked")
    keep_cases(job.root, leading, theirs)
    note = (
        ""
        if before in ("", mine.test)
        else f"the test split has changed since version {leading.number} was made, so it was measured again"
    )
    if note:
        job.journal.log(note)
    return ChampionResults(leading.number, digest, theirs, note)


def _ask_over_http(job: Job, params: ServeParams, version: Version) -> SmokeTest:
    """Deploy under a name of its own, ask test cases one by one, compare with what evaluate answered, take it down again."""
    table = read_table(job.inputs["answers"], "test", ["query", "answer"]).to_pylist()
    chosen = random.Random(job.seed).sample(table, min(params.questions, len(table)))  # noqa: S311 (which questions are asked is no secret)
    name, secret = f"check-{job.tags['pipeline']}-{version.number}", secrets.token_urlsafe(32)
    url = deploy(
        job.inputs["winner"],
        app_name=name,
        route_prefix=f"/{name}",
        host="127.0.0.1",
        port=None,
        params=params.model_copy(update={"replicas": 1}),
        model=info(job.tags["pipeline"], version.number, job.inputs["winner"], []),
        keys=Keyring([Key.of("check", secret)]),
    )
    try:
        evaluator, allowed = (
            base.evaluator(job.task),
            tolerance(read_bundle(job.inputs["winner"])[0]),
        )
        different, largest, times = 0, 0.0, []
        for number, row in enumerate(chosen, 1):
            started = time.perf_counter()
            given = ask(url, [json.loads(row["query"])], key=secret)["predictions"][0]
            times.append((time.perf_counter() - started) * 1000)
            gap = evaluator.output_distance(
                evaluator.Answer.model_validate(given),
                evaluator.Answer.model_validate_json(row["answer"]),
            )
            different += not gap <= allowed
            largest = max(largest, gap)
            job.journal.progress(number, len(chosen), "questions over HTTP")
        return SmokeTest(len(chosen), different, largest, allowed, sorted(times)[len(times) // 2])
    finally:
        remove(name)


def _tell(job: Job, made: Release) -> None:
    gates = from_rows(made.gates)
    job.journal.log(
        "gates: "
        + ", ".join(
            f"{gate.name} {'n/a' if gate.passed is None else gate.verdict}" for gate in gates
        )
    )
    for gate in gates:
        if gate.passed is False:
            interval = (
                f", {gate.interval[0]:.4g} to {gate.interval[1]:.4g}" if gate.interval else ""
            )
            job.journal.log(
                f"{gate.verdict}: {gate.name}: {gate.detail} ({gate.value}{interval} against {gate.limit})"
            )
    stays = f"; version {made.before} stays champion" if made.before else ""
    person = f"version {made.version} waits for a person{stays}: {made.why}. gristmill review show{argument(job.tags['pipeline'])} {made.version}"
    meaning = {
        "promoted": f"version {made.version} is champion",
        "unchanged": f"version {made.version} is champion already",
        "refused": f"version {made.version} is not released{stays}",
        "waiting": person,
        "rejected": f"version {made.version} is not released{stays}: {made.why}",
        "experiment": f"version {made.version} is registered; experiments are never released",
    }
    job.journal.log(meaning[made.decision])
