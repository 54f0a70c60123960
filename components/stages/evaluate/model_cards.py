"""The model card and the data card: Markdown in English and Chinese, beside the report.

Their fields are those of Mitchell et al. 2019 (arXiv:1810.03993), Gebru et al. 2021
(arXiv:1803.09010) and Annex XII of the EU AI Act (Regulation 2024/1689). What no file and no
param tells is "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import Card, read_bundle
from components.core.files import write_atomic
from components.core.job import Job
from components.core.markdown_templates import markdown_environment
from components.core.page_templates import is_finite
from components.core.tables import read_manifest
from components.fields.languages import LANGUAGE
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.params import CardParams
from components.stages.evaluate.report import ReportData, removal_steps
from components.stages.evaluate.report_data import slices_of_weak_results
from components.tasks import base

# Word for what is not known, by the ending of the file.
_UNKNOWN = {"": "unknown", ".zh": "未知"}
_CARDS = ("model_card", "data_card")
_SPLITS = ("train", "validation", "test", "unlabelled")
# Files of the source that the data card lists.
_MOST_FILES = 20


@dataclass(frozen=True)
class CardContent:
    """Content of both cards beside that of the report.

    Args:
        report: data of the report.
        statements: of people.
        model: card of the winner's bundle.
        files: rows {"name", "rows", "sha256"} of the source.
        splits: split -> rows.
        languages: rows {"column", "language", "rows"} of texts before duplicates are dropped.
        columns: rows {"name", "role", "kind", "required"}.
        outputs: names of the fields of an answer.
        split_by: "time", or the rule of the task.
        leaked: rows that are in more than one split.
        longest: most encoded values of a row.
    """

    report: ReportData
    statements: CardParams
    model: Card
    files: Sequence[Mapping[str, Any]]
    splits: Mapping[str, int]
    languages: Sequence[Mapping[str, Any]]
    columns: Sequence[Mapping[str, Any]]
    outputs: Sequence[str]
    split_by: str
    leaked: int
    longest: float | None


def gather_cards(job: Job, report: ReportData, winner: Path, leaked: int) -> CardContent:
    """Return the content of the cards.

    Args:
        job: of the stage.
        report: data of the report.
        winner: bundle of the winner.
        leaked: rows that are in more than one split.
    """
    raw = read_manifest(job.inputs["raw"])
    clean = read_manifest(job.inputs["clean"])
    tokens = read_manifest(job.inputs["tokens"])
    schema = base.schema_of(job.task, clean)
    clean_params: Any = job.sections["clean"]
    split_by = "time" if clean_params.split_by == "time" else schema.split.kind
    columns = []
    for role in schema.roles:
        columns.append(
            {
                "name": role.name,
                "role": role.role,
                "kind": type(role.field).__name__,
                "required": role.required,
            }
        )
    return CardContent(
        report=report,
        statements=job.params.card,
        model=read_bundle(winner)[0],
        files=raw.get("files", []),
        splits={name: clean["parts"][name] for name in _SPLITS if clean["parts"].get(name)},
        languages=_languages(clean["account"]),
        columns=columns,
        outputs=list(base.evaluator(job.task).Answer.model_fields),
        split_by=split_by,
        leaked=leaked,
        longest=tokens["lengths"].get("max"),
    )


def _languages(account: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of each language that clean identified, the most frequent first.

    Args:
        account: entries of clean; those of languages are "<column>_language_<code>".
    """
    languages = []
    for entry in account:
        column, separator, language = entry["what"].partition(f"_{LANGUAGE}")
        if separator:
            languages.append({"column": column, "language": language, "rows": entry["rows"]})
    return sorted(languages, key=lambda row: (row["column"], -row["rows"]))


def write_cards(folder: Path, content: CardContent) -> None:
    """Write both cards in both languages; equal content gives equal bytes.

    Args:
        folder: created if it is missing.
        content: of the cards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    templates = markdown_environment(Path(__file__).parent)
    report = content.report
    winner = next(row for row in report.leaderboard if row["winner"])
    baseline = next((row for row in report.leaderboard if row["baseline"]), winner)
    reported = MetricScale(report.report_metric)
    statements = content.statements
    said = {
        "intended_use": statements.intended_use,
        "acceptable_use": statements.acceptable_use,
        "provider": statements.provider,
        "model_license": statements.model_license,
        "data_source": statements.data_source,
        "data_license": statements.data_license,
        "energy": statements.energy,
    }
    for name in _CARDS:
        for ending, unknown in _UNKNOWN.items():
            text = templates.get_template(f"{name}{ending}.md.j2").render(
                content=content,
                report=report,
                model=content.model,
                said=said,
                winner=winner,
                baseline=baseline,
                metrics=[_metric_row(metric, winner, baseline) for metric in report.metrics],
                reported=reported,
                weak=slices_of_weak_results(report.slices, reported, reported.of(winner)),
                steps=removal_steps(report.counts or {}),
                files=content.files[:_MOST_FILES],
                confidence=f"{report.confidence:.0%}",
                unknown=unknown,
            )
            write_atomic(folder / f"{name}{ending}.md", text.strip() + "\n")


def _metric_row(
    metric: base.Metric, winner: Mapping[str, Any], baseline: Mapping[str, Any]
) -> dict[str, str]:
    """Return the values of a metric as texts.

    Args:
        metric: the metric.
        winner: its row of the leaderboard.
        baseline: its row of the leaderboard.
    """
    scale = MetricScale(metric)
    interval = winner["test_interval"].get(metric.name)
    shown = ""
    if interval:
        shown = " – ".join(_value(metric, end) for end in interval)
    return {
        "title": metric.title,
        "validation": _value(metric, scale.of(winner, "validation")),
        "test": _value(metric, scale.of(winner)),
        "interval": shown,
        "baseline": _value(metric, scale.of(baseline)),
    }


def _value(metric: base.Metric, value: Any) -> str:
    """Return the value of a metric as text; empty where it is not defined."""
    if is_finite(value):
        return base.metric_text(metric, value)
    return ""
