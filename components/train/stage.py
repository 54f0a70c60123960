"""train: fit the architecture on all workers, and the baselines that it must beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.bundles import Card
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_manifest, read_table
from components.engine.distributed import fit_distributed
from components.engine.params import FitParams
from components.engine.save import save_numpy, save_torch
from components.engine.spec import FitSpec
from components.tasks import base
from components.train.params import TrainParams


def run(job: Job) -> None:
    """Write `models/trained/{network,classical,trivial}` and the curve."""
    params: TrainParams = job.params
    for name in base.baselines(job.task).baselines:
        _fit_baseline(job, name)
    spec = first_spec(job)
    fitted = fit_distributed(spec, job.journal)
    save_torch(job.outputs["trained"] / "network", spec, fitted.weights.read_bytes(), job.tags["params_hash"], ["train"])
    write_atomic(job.outputs["curve"], to_csv(fitted.curve))
    report = {name: value for name, value in fitted.best.items() if name != "step"} | {"parameters": fitted.parameters, "workers": fitted.world, "epochs_run": len(fitted.curve)}
    write_atomic(job.outputs["report"], to_json(report))
    watch = f"validation_{base.learning(job.task).watch}"
    told = f"{watch.replace('_', ' ')} {fitted.best[watch]:.4f} at epoch {fitted.best['epoch']:.0f} of {len(fitted.curve)}"
    job.journal.say(f"{params.architecture}: {told}, {fitted.parameters:,} parameters, workers {fitted.workers}")


def first_spec(job: Job) -> FitSpec:
    """The fit that params.yaml describes."""
    params: Any = job.params
    knobs = FitParams(**{name: getattr(params, name) for name in FitParams.model_fields})
    config = getattr(params.nets, params.architecture).model_dump()
    online: Any = job.sections["augment"]
    return FitSpec(job.task, job.inputs["tokens"], params.architecture, config, knobs, online.online.model_dump(), job.seed, job.state / "fit")


def to_csv(rows: list[dict[str, float]]) -> str:
    """Rows of like keys as CSV."""
    names = list(rows[0])
    return "\n".join([",".join(names), *(",".join(f"{row[name]:.10g}" for name in names) for row in rows)]) + "\n"


def _fit_baseline(job: Job, name: str) -> None:
    """Baselines see clean train rows only: what augment adds helps networks, and would only blur counts."""
    baseline = base.baselines(job.task).baselines[name]
    manifest = read_manifest(job.inputs["tokens"])
    rows = read_table(job.inputs["clean"], "train")
    arrays, files = baseline.fit(rows, manifest["classes"], job.params, job.sections["clean"], job.seed)
    card = Card(job.task, "numpy", name, {}, manifest["classes"], job.seed, manifest["data_hash"], job.tags["params_hash"], ["fit"], manifest["profile"])
    save_numpy(Path(job.outputs["trained"]) / name, card, arrays, files)
    job.journal.say(f"baseline {name}: fitted on {rows.num_rows:,} rows")
