"""Description of a version in the registry: tags for programs, a page for the reviewer."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from components.core import escaping
from components.core.bundles import library_versions, read_bundle, shown_size
from components.core.job import Job
from components.core.params import read_yaml
from components.core.tables import read_table
from components.registry.release.gates import Gate
from components.registry.versions.reader import code_state
from components.registry.versions.test_cases import Cases, name_of
from components.tasks import base

# Columns of the table of answers that are no statistics.
_CASE_COLUMNS = ("id", "query", "truth", "answer", "slices")
_LIBRARIES = (
    "torch",
    "numpy",
    "tokenizers",
    "scikit-learn",
    "onnxruntime",
    "ray",
    "mlflow",
    "dvc",
    "pyarrow",
    "gristmill",
)
# Characters of the queries in a tag, which MLflow limits to 100,000.
_EXAMPLE_CHARACTERS = 20_000
# Characters of a description, in a PostgreSQL store.
_PAGE_CHARACTERS = 5000
_MARKS = {
    "passed": "passed",
    "refused": "**refused**",
    "borderline": "**borderline**",
    "not applicable": "–",
}
# MLflow's page has no space between the cells of a table.
_GAP = "&nbsp;&nbsp;"


def tags(job: Job, winner: Mapping[str, Any], cases: Cases) -> dict[str, str]:
    """Return the tags of a version: its origin, its metrics, its input and output.

    Args:
        job: serve.
        winner: its row of the leaderboard.
        cases: its answers to the test split.
    """
    card, _ = read_bundle(job.inputs["winner"])
    evaluator = base.evaluator(job.task)
    metric = evaluator.report_metric
    interval = winner["test_interval"][metric.name]
    queries = evaluator.example(read_table(job.inputs["clean"], "test"))
    examples = _fitting([query.model_dump(mode="json") for query in queries])
    as_json: dict[str, Any] = {
        "leaderboard_row": winner,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            **library_versions(_LIBRARIES),
        },
        "signature": {
            "input": evaluator.Query.model_json_schema(),
            "output": evaluator.Answer.model_json_schema(),
        },
        "input_example": examples[0] if examples else None,
        # A service may not have the data from which its page could take examples.
        "examples": examples,
        "bundle_files": _hashes(job),
        **card.targets,
        "params": _flat(read_yaml(job.root / job.tags["params_file"])),
    }
    return {
        "candidate": winner["name"],
        "title": winner["title"],
        "data_hash": card.data_hash,
        "params_hash": card.params_hash,
        "pipeline_params_hash": job.tags["params_hash"],
        "git_commit": job.tags["git_commit"],
        "git_dirty": job.tags["git_dirty"],
        "dvc_lock": job.tags["dvc_lock"],
        "test_hash": cases.test,
        "test_cases": str(len(cases.ids)),
        "bundle_bytes": str(winner["size_bytes"]),
        metric.name: _figure(metric, winner["test"][metric.name]),
        f"{metric.name}_interval": base.interval_text(metric, interval).replace(",", ""),
        **{key: json.dumps(value, ensure_ascii=False) for key, value in as_json.items()},
    }


def page(
    job: Job,
    winner: Mapping[str, Any],
    leaderboard: Mapping[str, Any],
    gates: Sequence[Gate],
) -> str:
    """Return the description of a version as Markdown.

    It has the title, the gates, the leaderboard if there is room for it, and the origin.

    Args:
        job: serve.
        winner: its row of the leaderboard.
        leaderboard: the leaderboard.
        gates: of the version.
    """
    card, _ = read_bundle(job.inputs["winner"])
    sources = [
        ("data", card.data_hash[:12]),
        ("code", code_state(job.tags, 12)),
        ("params", job.tags["params_hash"][:12]),
        ("DVC lock", job.tags["dvc_lock"][:12]),
    ]
    title = escaping.markdown(str(winner["title"]))
    name = escaping.markdown(str(winner["name"]))
    heading = [
        f"**{title}**: {name}, winner of {len(leaderboard['candidates'])} candidates on validation."
    ]
    table = ["| gate | verdict | value | limit | |", "|---|---|---|---|---|"]
    table += [_gate(gate) for gate in gates]
    origins = [f"{source} {escaping.markdown(value)}" for source, value in sources]
    ending = [
        [", ".join(origins) + "."],
        [
            "Approve or reject: `gristmill review`, or here: tags `review.by`, `review.note`, "
            "then `review` = `approve` or `reject`."
        ],
    ]
    leaderboard_lines = _leaderboard(leaderboard, base.evaluator(job.task).metrics[0])
    whole = _paragraphs([heading, table, leaderboard_lines, *ending])
    if len(whole) <= _PAGE_CHARACTERS:
        return whole
    short = _paragraphs([heading, table, *ending])
    return short[:_PAGE_CHARACTERS]


def _figure(metric: base.Metric, value: float) -> str:
    """Return a value of a metric as a number that programs can read too."""
    return base.metric_text(metric, value).replace(",", "")


def _paragraphs(parts: Sequence[Sequence[str]]) -> str:
    """Return parts of some lines, with an empty line between them."""
    return "\n\n".join("\n".join(part) for part in parts)


def answered(job: Job) -> Cases:
    """Return the winner's answers to the test split, as evaluate wrote them."""
    table = read_table(job.inputs["answers"], "test")
    columns = {name: table[name].to_pylist() for name in table.column_names}
    stats = {name: values for name, values in columns.items() if name not in _CASE_COLUMNS}
    slices = [json.loads(text) for text in columns["slices"]]
    return _cases(columns["id"], columns["truth"], stats, slices)


def compared(
    cases: Sequence[base.Case[Any]],
    answers: Sequence[Any],
    evaluator: base.TaskEvaluator,
) -> Cases:
    """Return another model's answers to the same split.

    Args:
        cases: of the test split.
        answers: of the model.
        evaluator: of the task.
    """
    stats = evaluator.case_stats(answers, [case.truth for case in cases])
    truths = [str(case.truth) for case in cases]
    return _cases(
        [case.id for case in cases],
        truths,
        stats,
        [case.slices for case in cases],
    )


def _cases(
    ids: Sequence[str],
    truths: Sequence[str],
    stats: base.CaseStats,
    slices_of_cases: Sequence[Mapping[str, str]],
) -> Cases:
    """Return answers as the registry stores them.

    Args:
        ids: (n,) of the cases.
        truths: (n,) of the cases.
        stats: (n,) of each statistic. One that an answer lacks is left out.
        slices_of_cases: (n,) kind of slice -> value.
    """
    slices: dict[str, list[int]] = {}
    for position, values in enumerate(slices_of_cases):
        for kind, value in values.items():
            slices.setdefault(f"{kind}: {value}", []).append(position)
    complete = {name: values for name, values in stats.items() if None not in values}
    return Cases(list(ids), complete, slices, name_of(ids, truths))


def _hashes(job: Job) -> dict[str, str]:
    """Return the hashes of the files of the winner's bundle."""
    card = json.loads((job.inputs["winner"] / "bundle.json").read_text(encoding="utf-8"))
    return dict(card["files"])


def _fitting(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the examples that fit in a tag."""
    fitting = []
    left = _EXAMPLE_CHARACTERS
    for example in examples:
        left -= len(json.dumps(example, ensure_ascii=False))
        if left >= 0:
            fitting.append(example)
    return fitting


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested params under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _gate(gate: Gate) -> str:
    """Return the row of a gate as Markdown."""
    value = ""
    if gate.value is not None:
        value = f"{gate.value:.4g}"
        if gate.interval:
            low, high = gate.interval
            value += f" ({low:.4g} to {high:.4g})"
    limit = ""
    if gate.limit is not None:
        limit = f"{gate.limit:.4g}"
    return _row(
        escaping.markdown(gate.name),
        _MARKS[gate.verdict],
        value,
        limit,
        escaping.markdown(gate.detail, 300),
    )


def _row(*cells: str) -> str:
    """Return a row of a table; its cells are Markdown."""
    return "".join(f"| {cell}{_GAP} " for cell in cells) + "|"


def _leaderboard(leaderboard: Mapping[str, Any], metric: base.Metric) -> list[str]:
    """Return the leaderboard as Markdown.

    Args:
        leaderboard: of evaluate.
        metric: the deciding one.
    """
    shown = escaping.markdown(metric.name)
    lines = [
        f"| candidate | validation {shown} | test {shown} | interval | size | p95 ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in leaderboard["candidates"]:
        name = escaping.markdown(row["name"])
        if row["winner"]:
            name = f"**{name}**"
        cells = (
            base.metric_text(metric, row["validation"][metric.name]),
            base.metric_text(metric, row["test"][metric.name]),
            base.interval_text(metric, row["test_interval"][metric.name]),
            shown_size(row["size_bytes"]),
            f"{row['latency_ms']['p95']:.2f}",
        )
        lines.append(_row(name, *cells))
    return lines
