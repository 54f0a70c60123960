"""Params of `evaluate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class ChooseParams(Strict):
    """The rule by which the winner is chosen on validation."""

    latency_p95_ms: float | None = Field(
        None,
        gt=0,
        description="Budget: most milliseconds for 95% of single answers (null: no limit).",
    )
    throughput_per_s: float | None = Field(
        None, gt=0, description="Budget: fewest answers per second in batches (null: no limit)."
    )
    size_mb: float | None = Field(
        None, gt=0, description="Budget: most megabytes of a bundle (null: no limit)."
    )
    memory_mb: float | None = Field(
        None,
        gt=0,
        description="Budget: most megabytes of a process that answers (null: no limit).",
    )
    max_drop: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="Largest share of the best value that a cheaper model may lose, within noise.",
    )
    batch_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Weight of batches in the cost of an answer; the rest is for single answers.",
    )


Statement = Annotated[str, Field(min_length=1, max_length=2000)] | None


class CardParams(Strict):
    """What the model card and the data card say and no program can know (null: unknown)."""

    intended_use: Statement = Field(None, description="What the model is for, and for whom.")
    acceptable_use: Statement = Field(
        None, description="Uses that are allowed, and uses that are not."
    )
    provider: Statement = Field(None, description="Who answers for the model, with an address.")
    model_license: Statement = Field(None, description="License of the model.")
    data_source: Statement = Field(
        None, description="Where the data come from, and how they were collected."
    )
    data_license: Statement = Field(None, description="License of the data.")
    energy: Statement = Field(
        None, description="Energy that training took, with its unit (null: as measured)."
    )


class BehaviorCase(Strict):
    """One case of a behavior test, with the fields of a query and of a truth as JSON has them."""

    query: dict[str, Any] = Field(description="Query, as a client sends it.")
    changed: dict[str, Any] | None = Field(None, description="The same query with a change.")
    truth: dict[str, Any] | None = Field(None, description="Truth, as a client sends it.")


# Fields of a case beside its query that each kind of test needs.
_NEEDED = {
    "minimum": {"truth"},
    "invariance": {"changed"},
    "direction": {"changed", "truth"},
}


class BehaviorTest(Strict):
    """A behavior that answers must have (CheckList: Ribeiro et al. 2020, arXiv:2005.04118).

    minimum: the answer is the truth. invariance: the change does not change the answer. direction:
    the change moves the answer nearer to the truth.
    """

    name: str = Field(min_length=1, max_length=200, description="What is tested.")
    kind: Literal["minimum", "invariance", "direction"] = Field(
        description="Kind of the test: see docs/en/explanation/statistics.md."
    )
    cases: list[BehaviorCase] = Field(
        min_length=1, max_length=1000, description="Cases of the test."
    )
    tolerance: float | None = Field(
        None,
        ge=0,
        description="Largest distance of an answer that passes (null: it must read the same).",
    )

    @model_validator(mode="after")
    def _has_fields_of_its_kind(self) -> BehaviorTest:
        """Refuse cases that lack a field, or have one that the kind does not read."""
        needed = _NEEDED[self.kind]
        for number, case in enumerate(self.cases):
            has = {name for name in ("changed", "truth") if getattr(case, name) is not None}
            if has != needed:
                fields = " and ".join(sorted(needed))
                raise ValueError(f"cases[{number}] of {self.kind} must have query, {fields}")
        return self


class ExplainParams(Strict):
    """Explanations of the winner's answers in the report."""

    method: Literal["auto", "exact", "integrated_gradients", "occlusion", "none"] = Field(
        "auto",
        description="How contributions are computed (auto: the best that the winner has).",
    )
    cases: int = Field(
        24,
        ge=2,
        le=10_000,
        description="Random test cases that are explained, beside a few of the worst answers.",
    )
    removed: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the parts of a query that the deletion test removes.",
    )


class EvaluateParams(Strict):
    """How candidates are measured."""

    resamples: int = Field(
        1000, ge=100, description="Bootstrap resamples for the confidence intervals."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    latency_queries: int = Field(
        200, ge=20, description="Queries asked one at a time to measure the latency."
    )
    throughput_batch: int = Field(
        32, ge=1, description="Queries per batch when the throughput is measured."
    )
    folds: int = Field(
        0,
        ge=0,
        le=50,
        description="Folds of train and validation on which the winner's recipe is fitted again "
        "(0: none).",
    )
    learning_curve: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=list,
        max_length=20,
        description="Shares of the train rows on which it is fitted again: [0.1, 0.3, 1.0].",
    )
    robustness_cases: int = Field(
        500,
        ge=0,
        le=100_000,
        description="Most test cases that the winner answers with a small change (0: none).",
    )
    choose: ChooseParams = Field(
        default_factory=ChooseParams, description="The rule by which the winner is chosen."
    )
    explain: ExplainParams = Field(
        default_factory=ExplainParams,
        description="How the report explains answers of the winner.",
    )
    card: CardParams = Field(
        default_factory=CardParams,
        description="Statements of people in the model card and the data card.",
    )
    behavior: list[BehaviorTest] = Field(
        default_factory=list,
        max_length=100,
        description="Behavior tests of the winner, which the report shows.",
    )

    @model_validator(mode="after")
    def _has_folds_and_shares_of_use(self) -> EvaluateParams:
        """Refuse a single fold, and shares that do not rise."""
        if self.folds == 1:
            raise ValueError("folds: 1 leaves no rows to learn from: set it to 0, or to 2 or more")
        shares = self.learning_curve
        if shares != sorted(set(shares)):
            raise ValueError(f"learning_curve: {shares} must rise from share to share")
        return self
