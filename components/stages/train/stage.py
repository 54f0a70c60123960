"""train: fit the architecture (pretrained on text alone first, if that is asked for) on all workers, and the baselines that it must beat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from components.core.bundles import Card
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_manifest, read_table
from components.stages.train.params import TrainParams
from components.tasks import base
from components.training.bundle_writer import save_numpy, save_torch
from components.training.distributed import fit_distributed
from components.training.fit_config import FitConfig, check
from components.training.params import FitParams


def run(job: Job) -> None:
    """Write `models/trained/{network,classical,trivial}` and the curve."""
    params: TrainParams = job.params
    spec = first_spec(job)
    check(spec)
    for name in base.baselines(job.task).baselines:
        _fit_baseline(job, name)
    told: dict[str, float] = {}
    if params.pretrain.epochs:
        spec, told = _pretrain(job, spec)
    fitted = fit_distributed(spec, job.journal)
    save_torch(
        job.outputs["trained"] / "network",
        spec,
        fitted.weights.read_bytes(),
        job.tags["params_hash"],
        ["train"],
    )
    write_atomic(job.outputs["curve"], to_csv(fitted.curve))
    report = (
        {name: value for name, value in fitted.best.items() if name != "step"}
        | {
            "parameters": fitted.parameters,
            "workers": fitted.world,
            "epochs_run": len(fitted.curve),
        }
        | told
    )
    write_atomic(job.outputs["report"], to_json(report))
    watch = f"validation_{base.learning(job.task).monitored_metric}"
    best = f"{watch.replace('_', ' ')} {fitted.best[watch]:.4f} at epoch {fitted.best['epoch']:.0f} of {len(fitted.curve)}"
    job.journal.log(
        f"{params.architecture}: {best}, {fitted.parameters:,} parameters, workers {fitted.workers}"
    )


def first_spec(job: Job) -> FitConfig:
    """The fit that params.yaml describes."""
    params: Any = job.params
    knobs = FitParams(**{name: getattr(params, name) for name in FitParams.model_fields})
    config = getattr(params.nets, params.architecture).model_dump()
    online: Any = job.sections["augment"]
    return FitConfig(
        job.task,
        job.inputs["tokens"],
        params.architecture,
        config,
        knobs,
        online.online.model_dump(),
        job.seed,
        job.state / "fit",
    )


def _pretrain(job: Job, spec: FitConfig) -> tuple[FitConfig, dict[str, float]]:
    """Learn from text alone, all that there is; the fit then starts from these weights, with a fresh head."""
    knobs, rows = job.params.pretrain, read_manifest(spec.tokens)["parts"]
    fit = FitParams(
        **(
            spec.params.model_dump()
            | {
                "epochs": knobs.epochs,
                "patience": knobs.epochs,
                "learning_rate": knobs.learning_rate,
            }
        )
    )
    first = replace(spec, params=fit, masked=knobs.mask_share, state=job.state / "pretrain")
    fitted = fit_distributed(first, job.journal)
    unlabelled = (
        f"{rows['unlabelled']:,} unlabelled rows"
        if rows.get("unlabelled")
        else "no unlabelled rows: the source has none, or clean.unlabelled is not keep"
    )
    best = {name: fitted.best[f"validation_{name}"] for name in ("loss", "guessed")}
    job.journal.log(
        f"pretrained on {rows['train']:,} train rows and {unlabelled}: {best['guessed']:.1%} of the hidden tokens of validation guessed, loss {best['loss']:.3f}"
    )
    return replace(spec, initial=fitted.weights), {
        f"pretrain_validation_{name}": value for name, value in best.items()
    }


def to_csv(rows: list[dict[str, float]]) -> str:
    """Rows of like keys as CSV."""
    names = list(rows[0])
    return (
        "\n".join(
            [",".join(names), *(",".join(f"{row[name]:.10g}" for name in names) for row in rows)]
        )
        + "\n"
    )


def _fit_baseline(job: Job, name: str) -> None:
    """Baselines learn from clean train rows only: what augment adds helps networks, and would only blur counts. Validation chooses their strengths."""
    baseline = base.baselines(job.task).baselines[name]
    manifest = read_manifest(job.inputs["tokens"])
    rows, validation = (read_table(job.inputs["clean"], split) for split in ("train", "validation"))
    clean = job.sections["clean"]
    arrays, files = baseline.fit(rows, manifest["classes"], job.params, clean, job.seed, validation)
    card = Card(
        job.task,
        "numpy",
        name,
        {},
        manifest["classes"],
        job.seed,
        manifest["data_hash"],
        job.tags["params_hash"],
        ["fit"],
        manifest["profile"],
    )
    save_numpy(Path(job.outputs["trained"]) / name, card, arrays, files)
    job.journal.log(f"baseline {name}: fitted on {rows.num_rows:,} rows")
