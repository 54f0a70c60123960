"""What stands between clean and serve in the short pipeline of the closed-loop test: the classical baseline, fitted and judged as train and evaluate do."""

from __future__ import annotations

from pathlib import Path

from components.core.bundles import CARD, Card, add_to_profile
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.tables import MANIFEST, read_manifest, read_table, write_table
from components.monitoring.profile import predictions_of, profile_of
from components.orchestration.pipeline_params import Params, load
from components.orchestration.retraining.pipeline_inputs import read_inputs
from components.orchestration.retraining.retrain_log import now
from components.orchestration.runner.stage_task import execute
from components.orchestration.stage_files import STAGES
from components.registry.release.promotion import release
from components.registry.release.retrain_record import RetrainRecord, record
from components.registry.versions.model_versions import register
from components.stages.evaluate.answer_costs import measure_costs
from components.stages.evaluate.candidates import BASELINE, measure_candidate
from components.stages.evaluate.stage import _answers
from components.tasks import base
from components.training.bundle_writer import save_numpy

DVC = """
stages:
  ingest:
    cmd: python -m components.cli stage ingest params.yaml
    deps: [mine/reviews.csv]
    params: [ingest]
    outs: [data/raw]
  clean:
    cmd: python -m components.cli stage clean params.yaml
    deps: [data/raw]
    params: [seed, clean]
    outs: [data/clean, data/audit]
  fit:
    cmd: python -m tests.components.orchestration.loop_baseline
    deps: [data/clean]
    outs: [data/models/winner, data/reports/answers, data/reports/evaluation.html]
    metrics:
    - data/reports/leaderboard.json: {cache: false}
  serve:
    cmd: python -m components.cli stage serve params.yaml
    deps:
    - data/clean
    - data/models/winner
    - data/reports/answers
    - data/reports/evaluation.html
    - data/reports/leaderboard.json
    outs: [data/reports/report.html]
    metrics:
    - data/reports/serve.json: {cache: false}
"""


def fit(params: Params, clean: Path, winner: Path) -> None:
    """The bundle, with what its training rows look like."""
    rows, classes, schema = (
        read_table(clean, "train"),
        read_manifest(clean)["classes"],
        base.schema(params.task),
    )
    told = params.sections["clean"]
    arrays, files = (
        base.baselines(params.task)
        .baselines[BASELINE]
        .fit(rows, {"classes": classes}, params.sections["train"], told, params.seed)
    )
    shaping = {
        name: value
        for name, value in told.model_dump(mode="json").items()
        if name in schema.options["clean"].model_fields
    }
    profile = profile_of(
        {role.name: rows[role.name].to_pylist() for role in schema.roles if role.role == "input"},
        schema.fields(told),
        shaping,
    )
    save_numpy(
        winner,
        Card(
            params.task,
            "numpy",
            BASELINE,
            {},
            {"classes": classes},
            params.seed,
            sha256(clean / MANIFEST),
            params.digest_up_to("train"),
            ["train"],
            profile,
        ),
        arrays,
        files,
    )


def main(root: Path) -> None:
    """Write the winner, its answers and the leaderboard."""
    params = load(root / "params.yaml")
    data, evaluator = root / params.pipeline.data, base.evaluator(params.task)
    clean, winner = data / "clean", data / "models" / "winner"
    fit(params, clean, winner)
    validation, test = (
        list(evaluator.cases(read_table(clean, split))) for split in ("validation", "test")
    )
    found = measure_candidate(
        BASELINE,
        winner,
        "models/winner",
        validation,
        test,
        params.sections["evaluate"],  # type: ignore[arg-type]
        params.seed,
    )
    truths = [case.truth for case in validation]
    add_to_profile(
        winner, {"predictions": predictions_of(evaluator, found.validation_answers, truths)}
    )
    queries = [case.query for case in validation]
    costs = measure_costs({BASELINE: found.predictor}, queries, params.sections["evaluate"])  # type: ignore[arg-type]
    row = found.row | costs[BASELINE] | {"winner": True, "bundle_sha256": sha256(winner / CARD)}
    write_table(
        data / "reports" / "answers", {"test": _answers(evaluator, found.test_answers, test)}
    )
    board = {
        "deciding_metric": evaluator.metrics[0].name,
        "goal": evaluator.metrics[0].goal,
        "leaked_rows": None,
        "candidates": [row],
    }
    write_atomic(data / "reports" / "leaderboard.json", to_json(board))
    write_atomic(data / "reports" / "evaluation.html", "<!-- gates --><!-- end of gates -->")


def first_champion(root: Path) -> str:
    """What a retrain of this pipeline would have left, made in this process in a tenth of the time: data, champion, record. Returns a line for the log."""
    params = load(root / "params.yaml")
    data, winner = root / params.pipeline.data, root / params.pipeline.data / "models" / "winner"
    for name in ("ingest", "clean"):
        stage, section = STAGES[name], params.sections[name]
        inputs, outputs = (
            {each: data / path for each, path in paths.items()}
            for paths in (stage.inputs, stage.outputs)
        )
        execute(
            Job(
                name,
                params.task,
                params.seed,
                root,
                section,
                {name: section},
                inputs,
                outputs,
                data / ".state" / "first",
            )
        )
    main(root)
    made = register(
        root, params.name, winner, None, {"data_hash": sha256(data / "clean" / MANIFEST)}
    )
    release(root, params.name, made.number, [], mode="auto", who="the scene", why="the first model")
    draft = RetrainRecord(
        "first",
        "the first model",
        "promoted",
        "",
        now(),
        now(),
        {},
        "",
        "",
        "",
        "",
        0,
        version=made.number,
        after=made.number,
    )
    record(root, params.name, read_inputs(root, params, draft)[0])
    return f"version {made.number} is champion"


if __name__ == "__main__":
    main(Path.cwd())
