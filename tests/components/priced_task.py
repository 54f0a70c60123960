"""A regression task of the shipped parts: the price of a flat by its size, and linear baselines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, create_model

from components.core.bundles import Card
from components.core.job import Job
from components.core.tables import read_manifest, read_table, write_table
from components.fields.base import Field
from components.fields.number import Number
from components.stages.clean import stage as clean
from components.stages.clean.params import CleanParams
from components.tasks import base
from components.tasks.base import (
    Arrays,
    Case,
    FixedInputs,
    Options,
    ReportPanel,
    ReportSection,
    Role,
    Scorer,
    SplitRule,
    TargetInfo,
    WorstAnswer,
    WorstAnswers,
)
from components.tasks.shared.evaluator.regression.evaluator import RegressionEvaluator
from components.tasks.shared.loss.regression.loss import RegressionLearning
from components.tasks.shared.schema.regression.number_targets import NumberTargets
from components.tasks.shared.schema.regression.target_number import TargetNumber
from components.tasks.shared.schema.regression.target_params import NumberClean
from components.training.bundle_writer import save_numpy
from tests.components.number_task import NumberFeedback

PRICED = "priced"
CLEAN = create_model("CleanSection", __base__=(NumberClean, CleanParams))


class Flat(BaseModel):
    """The size of a flat, m²."""

    model_config = ConfigDict(extra="forbid", strict=True)
    size: float


class PricedSchema(FixedInputs):
    """Facet schema.py."""

    options: Options = {"clean": NumberClean}
    roles = (Role("size", Number(required=True), "input"), Role("target", TargetNumber(), "target"))
    targets = NumberTargets()
    split = SplitRule("stratified", near_duplicates=False)

    def fields(self, options: BaseModel) -> Mapping[str, Field]:
        """Return the fields."""
        return {role.name: role.field for role in self.roles}


class PriceReport:
    """The part of the report that evaluate cannot do without."""

    columns: Sequence[str] = ("rmse", "mae", "r2", "pinball", "coverage")

    def plot_rows(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> Sequence[tuple[str, str]]:
        """Return truth and answer."""
        pairs = zip(answers, cases, strict=True)
        return [(repr(case.truth), repr(answer.value)) for answer, case in pairs]

    def winner_panels(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], targets: TargetInfo
    ) -> Sequence[ReportPanel]:
        """Return none."""
        return []

    def confidence_section(
        self, table: Mapping[str, Any], answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> ReportSection | None:
        """Return none."""
        assert not table
        return None

    def data_panels(self, manifest: Mapping[str, Any]) -> Sequence[ReportPanel]:
        """Return none."""
        return []

    def data_details(self, targets: TargetInfo) -> Sequence[tuple[str, str]]:
        """Return none."""
        return []

    def worst_answers(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], count: int
    ) -> WorstAnswers:
        """Return the first answers."""
        pairs = list(zip(answers, cases, strict=True))[:count]
        worst = [
            WorstAnswer(case, f"{case.truth:.0f}: {answer.value:.0f}") for answer, case in pairs
        ]
        return WorstAnswers("Some answers", "", worst)


class PricedEvaluator(RegressionEvaluator):
    """Facet evaluator.py."""

    Query: type[BaseModel] = Flat
    report: base.TaskReport = PriceReport()
    feedback: base.TaskFeedback = NumberFeedback()

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Return the size."""
        return Flat(size=row["size"])

    def slices_of(
        self, rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Sequence[Mapping[str, str]]:
        """Return whether each flat is large."""
        return [{"size": "large" if row["size"] > 60 else "small"} for row in rows]

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Return the sizes."""
        return {"size": [query.size for query in queries]}

    def show(self, case: Case[Any]) -> str:
        """Return the size."""
        return f"{case.query.size:.0f} m²"


class Polynomial:
    """Baseline: least squares on powers of the size.

    Args:
        degree: the highest power.
    """

    def __init__(self, degree: int) -> None:
        self.degree = degree

    def _features(self, sizes: Sequence[float]) -> np.ndarray:
        return np.vander(np.asarray(sizes, dtype=float) / 100, self.degree + 1)

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,
        chosen: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, Any] = base.NO_INPUTS,
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Return the weights of standardized prices."""
        features = self._features(rows["size"].to_pylist())
        standardized = (rows["target"].to_numpy() - targets["center"][0]) / targets["scale"][0]
        weights = np.linalg.lstsq(features, standardized, rcond=None)[0]
        return {"weights": weights[:, None].astype(np.float32)}, {}

    def featurizer(
        self, files: Mapping[str, bytes]
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function from sizes to powers."""
        return lambda inputs: {"features": self._features(inputs["size"]).astype(np.float32)}

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return the scorer."""
        return lambda graph, batch: {"logits": batch["features"] @ arrays["weights"]}


class PricedBaselines:
    """Facet baselines.py."""

    options: Options = {}
    baselines: Mapping[str, Any] = {
        "trivial": Polynomial(0),
        "classical": Polynomial(1),
        "curved": Polynomial(3),
    }


@pytest.fixture(scope="module")
def priced_task() -> Iterator[PricedEvaluator]:
    """Add the task to those of the project."""
    evaluator = PricedEvaluator()
    facets: Mapping[str, Any] = {
        "schema": PricedSchema(),
        "evaluator": evaluator,
        "loss": RegressionLearning(),
        "baselines": PricedBaselines(),
    }
    known = base.tasks()
    with pytest.MonkeyPatch.context() as patch:
        for name, facet in facets.items():
            module = ModuleType(name)
            setattr(module, name.upper(), facet)
            patch.setitem(sys.modules, f"components.tasks.{PRICED}.{name}", module)
        patch.setattr(base, "tasks", lambda: [*known, PRICED])
        yield evaluator


def flats(count: int, unit: float = 1.0) -> list[dict[str, Any]]:
    """Sizes, and prices that are curved; their noise grows with the size."""
    rng = np.random.default_rng(3)
    sizes = rng.uniform(20, 120, count)
    prices = 0.3 * sizes**2 + 3000 + rng.normal(0, 2 * sizes)
    pairs = zip(sizes.tolist(), (unit * prices).tolist(), strict=True)
    return [{"size": size, "target": price} for size, price in pairs]


def clean_rows(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put raw rows through clean."""
    types = {"id": pa.string(), "origin": pa.string(), "size": pa.float64()}
    types |= {"target": pa.float64(), "split": pa.string(), "group": pa.string()}
    full = []
    for number, row in enumerate(rows):
        line = {"id": f"r{number:05d}", "origin": f"a.csv:{number}", "split": None, "group": None}
        full.append(line | dict(row))
    table = pa.Table.from_pylist(full, schema=pa.schema(list(types.items())))
    write_table(root / "raw", {"rows": table})
    outputs = {"clean": root / "clean", "audit": root / "audit", "report": root / "clean.json"}
    inputs = {"raw": root / "raw"}
    clean.run(Job("clean", PRICED, 7, root, CLEAN(), {}, inputs, outputs, root / ".state"))


def save_baseline(root: Path, name: str, folder: Path) -> None:
    """Fit a baseline to the clean rows, and write its bundle."""
    targets = NumberTargets().info(read_manifest(root / "clean"))
    baseline = PricedBaselines.baselines[name]
    arrays, files = baseline.fit(read_table(root / "clean", "train"), targets, CLEAN(), CLEAN(), 7)
    card = Card(PRICED, "numpy", name, {}, targets, 7, "ab" * 32, "cd" * 32, ["train"])
    save_numpy(folder, card, arrays, files)
