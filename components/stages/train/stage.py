"""Stage train: fit the architecture on all workers, and the baselines that it must beat.

The architecture is pretrained on rows without targets first, if params say so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from components.core.bundles import Card
from components.core.energy import EnergyMeter
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.tables import map_table, read_manifest, read_table
from components.stages.train.params import TrainParams
from components.tasks import base
from components.training.bundle_writer import save_numpy, save_torch
from components.training.fit_config import FitConfig, check
from components.training.params import FitParams
from components.training.ray_fit import fit_distributed


def run(job: Job) -> None:
    """Write `models/trained/{network,classical,trivial}`, the curve and the report."""
    with EnergyMeter(job.state / "energy.json") as energy:
        report = _fit(job)
        report["energy_j"] = energy.joules()
    write_atomic(job.outputs["report"], to_json(report))


def _fit(job: Job) -> dict[str, Any]:
    """Write the models and the curve, and return the content of the report."""
    params: TrainParams = job.params
    spec = first_spec(job)
    check(spec)
    for name in base.baselines(job.task).baselines:
        _fit_baseline(job, name)
    pretrain_metrics: dict[str, float] = {}
    if params.pretrain.epochs:
        spec, pretrain_metrics = _pretrain(job, spec)
    fitted = fit_distributed(spec, job.journal)
    network = job.outputs["trained"] / "network"
    weights = fitted.weights.read_bytes()
    save_torch(network, spec, weights, job.tags["params_hash"], ["train"])
    write_atomic(job.outputs["curve"], to_csv(fitted.curve))
    report = {
        **{name: value for name, value in fitted.best.items() if name != "step"},
        "parameters": fitted.parameters,
        "workers": fitted.world,
        "epochs_run": len(fitted.curve),
        **pretrain_metrics,
    }
    metric = f"validation_{base.learning(job.task).monitored_metric}"
    job.journal.log(
        f"{params.architecture}: {metric.replace('_', ' ')} {fitted.best[metric]:.4f} "
        f"at epoch {fitted.best['epoch']:.0f} of {len(fitted.curve)}, "
        f"{fitted.parameters:,} parameters, workers {fitted.workers}"
    )
    return report


def first_spec(job: Job) -> FitConfig:
    """Return the fit that params.yaml describes."""
    params: Any = job.params
    fit = FitParams(**{name: getattr(params, name) for name in FitParams.model_fields})
    config = getattr(params.nets, params.architecture).model_dump()
    augment: Any = job.sections["augment"]
    return FitConfig(
        job.task,
        job.inputs["tokens"],
        params.architecture,
        config,
        fit,
        augment.online.model_dump(),
        job.seed,
        job.state / "fit",
        loss_params=base.loss_params_of(job.task, params),
    )


def _pretrain(job: Job, spec: FitConfig) -> tuple[FitConfig, dict[str, float]]:
    """Pretrain on the texts of all rows.

    Args:
        job: train.
        spec: of the fit that follows.

    Returns:
        The fit, which starts from these weights with a new head; the metrics of pretraining.
    """
    params = job.params.pretrain
    rows = read_manifest(spec.tokens)["parts"]
    fit_params = spec.params.model_dump()
    fit_params["epochs"] = params.epochs
    fit_params["patience"] = params.epochs
    fit_params["learning_rate"] = params.learning_rate
    first = replace(
        spec,
        params=FitParams(**fit_params),
        mask_share=params.mask_share,
        state=job.state / "pretrain",
    )
    fitted = fit_distributed(first, job.journal)
    unlabeled = "no unlabelled rows: the source has none, or clean.unlabelled is not keep"
    if rows.get("unlabelled"):
        unlabeled = f"{rows['unlabelled']:,} unlabelled rows"
    loss = fitted.best["validation_loss"]
    guessed = fitted.best["validation_guessed"]
    job.journal.log(
        f"pretrained on {rows['train']:,} train rows and {unlabeled}: "
        f"{guessed:.1%} of the hidden tokens of validation guessed, loss {loss:.3f}"
    )
    metrics = {"pretrain_validation_loss": loss, "pretrain_validation_guessed": guessed}
    return replace(spec, initial=fitted.weights), metrics


def to_csv(rows: list[dict[str, float]]) -> str:
    """Return rows with the same keys as CSV."""
    names = list(rows[0])
    lines = [",".join(names)]
    for row in rows:
        lines.append(",".join(f"{row[name]:.10g}" for name in names))
    return "\n".join(lines) + "\n"


def _fit_baseline(job: Job, name: str) -> None:
    """Fit a baseline to the train rows of clean and write its bundle.

    Augmented rows help networks, but would only blur the counts of a baseline. Validation chooses
    its regularization.
    """
    baseline = base.baselines(job.task).baselines[name]
    manifest = read_manifest(job.inputs["tokens"])
    train = map_table(job.inputs["clean"], job.state / f"{name}.arrow", "train")
    if not read_manifest(job.inputs["clean"]).get(base.HAS_GROUPS):
        # Its groups are rows that are equal or similar, which folds may divide.
        train = train.drop_columns("group")
    validation = read_table(job.inputs["clean"], "validation")
    targets = base.schema(job.task).targets.info(manifest)
    clean = job.sections["clean"]
    arrays, files = baseline.fit(
        train,
        targets,
        job.params,
        clean,
        job.seed,
        validation,
        inputs=base.chosen_inputs(manifest),
    )
    card = Card(
        job.task,
        "numpy",
        name,
        {},
        targets,
        job.seed,
        manifest["data_hash"],
        job.tags["params_hash"],
        ["fit"],
        manifest["profile"],
    )
    save_numpy(Path(job.outputs["trained"]) / name, card, arrays, files)
    message = f"baseline {name}: fitted on {train.num_rows:,} rows"
    most = getattr(getattr(job.params, name, None), "rows", None)
    if most is not None and most < train.num_rows:
        message = (
            f"baseline {name}: fitted on {most:,} of {train.num_rows:,} rows: train.{name}.rows"
        )
    job.journal.log(message)
