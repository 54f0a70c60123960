"""What a version says of itself in the registry: tags for programs, a page in markdown for the person who lets it out."""

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
_EXAMPLE_CHARACTERS = 20_000  # of queries kept with the version; MLflow takes 100,000 in a tag
_PAGE_CHARACTERS = 5000  # of a description, in a PostgreSQL store
_MARKS = {
    "passed": "passed",
    "refused": "**refused**",
    "borderline": "**borderline**",
    "not applicable": "–",
}
_GAP = "&nbsp;&nbsp;"  # MLflow's page sets the cells of a table side by side without any


def tags(job: Job, winner: Mapping[str, Any], cases: Cases) -> dict[str, str]:
    """Where the version came from, how good it is, what it takes and gives."""
    card, _ = read_bundle(job.inputs["winner"])
    evaluator = base.evaluator(job.task)
    low, high = winner["test_interval"]["accuracy"]
    examples = _short(
        [
            query.model_dump(mode="json")
            for query in evaluator.example(read_table(job.inputs["clean"], "test"))
        ]
    )
    told: dict[str, Any] = {
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
        "examples": examples,  # for the page to offer: a service need not have the data
        "bundle_files": _hashes(job),
        "classes": list(card.classes),
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
        "accuracy": f"{winner['test']['accuracy']:.4f}",
        "accuracy_interval": f"{low:.4f} to {high:.4f}",
        **{key: json.dumps(value, ensure_ascii=False) for key, value in told.items()},
    }


def page(
    job: Job, winner: Mapping[str, Any], board: Mapping[str, Any], gates: Sequence[Gate]
) -> str:
    """Markdown: what it is, its gates, the leaderboard, where it came from."""
    card, _ = read_bundle(job.inputs["winner"])
    where = [
        ("data", card.data_hash[:12]),
        ("code", code_state(job.tags, 12)),
        ("params", job.tags["params_hash"][:12]),
        ("DVC lock", job.tags["dvc_lock"][:12]),
    ]
    title = escaping.markdown(str(winner["title"]))
    name = escaping.markdown(str(winner["name"]))
    parts = [
        [f"**{title}**: {name}, winner of {len(board['candidates'])} candidates on validation."],
        ["| gate | verdict | value | limit | |", "|---|---|---|---|---|", *map(_gate, gates)],
        _leaderboard(board),
        [", ".join(f"{what} {escaping.markdown(value)}" for what, value in where) + "."],
        [
            "Approve or reject: `gristmill review`, or here: tags `review.by`, `review.note`, then `review` = `approve` or `reject`."
        ],
    ]
    whole, short = (
        "\n\n".join("\n".join(part) for part in some) for some in (parts, [*parts[:2], *parts[3:]])
    )
    return whole if len(whole) <= _PAGE_CHARACTERS else short[:_PAGE_CHARACTERS]


def answered(job: Job) -> Cases:
    """The winner's answers to the test split, as evaluate left them."""
    rows = read_table(job.inputs["answers"], "test").to_pylist()
    return _cases(
        [
            (row["id"], row["truth"], row["right"], row["confidence"], json.loads(row["slices"]))
            for row in rows
        ]
    )


def compared(
    cases: Sequence[base.Case[Any]], answers: Sequence[Any], evaluator: base.TaskEvaluator
) -> Cases:
    """Another model's answers to the same split."""
    pairs = zip(answers, cases, strict=True)
    return _cases(
        [
            (
                case.id,
                str(case.truth),
                evaluator.is_correct(answer, case.truth),
                evaluator.confidence(answer),
                case.slices,
            )
            for answer, case in pairs
        ]
    )


def _cases(rows: Sequence[tuple[str, str, bool, float | None, Mapping[str, str]]]) -> Cases:
    """Rows: id, truth, right, confidence, slices."""
    places: dict[str, list[int]] = {}
    for place, (*_, slices) in enumerate(rows):
        for kind, value in slices.items():
            places.setdefault(f"{kind}: {value}", []).append(place)
    ids, confidence = [row[0] for row in rows], [row[3] for row in rows if row[3] is not None]
    return Cases(
        ids,
        [row[2] for row in rows],
        confidence if len(confidence) == len(ids) else (),
        places,
        name_of(ids, [row[1] for row in rows]),
    )


def _hashes(job: Job) -> dict[str, str]:
    facts = json.loads((job.inputs["winner"] / "bundle.json").read_text(encoding="utf-8"))
    return dict(facts["files"])


def _short(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as a tag takes."""
    kept, left = [], _EXAMPLE_CHARACTERS
    for each in examples:
        left -= len(json.dumps(each, ensure_ascii=False))
        kept += [each] if left >= 0 else []
    return kept


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested params as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat


def _gate(gate: Gate) -> str:
    low, high = gate.interval or (None, None)
    value = (
        ""
        if gate.value is None
        else f"{gate.value:.4g}" + (f" ({low:.4g} to {high:.4g})" if low is not None else "")
    )
    return _row(
        escaping.markdown(gate.name),
        _MARKS[gate.verdict],
        value,
        "" if gate.limit is None else f"{gate.limit:.4g}",
        escaping.markdown(gate.detail, 300),
    )


def _row(*cells: str) -> str:
    """Return a row of a table; its cells are Markdown."""
    return "".join(f"| {cell}{_GAP} " for cell in cells) + "|"


def _leaderboard(board: Mapping[str, Any]) -> list[str]:
    metric = board["deciding_metric"]
    shown = escaping.markdown(metric)
    lines = [
        f"| candidate | validation {shown} | test {shown} | interval | size | p95 ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in board["candidates"]:
        low, high = row["test_interval"][metric]
        name = escaping.markdown(row["name"])
        name = f"**{name}**" if row["winner"] else name
        figures = (
            f"{row['validation'][metric]:.4f}",
            f"{row['test'][metric]:.4f}",
            f"{low:.4f} to {high:.4f}",
            shown_size(row["size_bytes"]),
            f"{row['latency_ms']['p95']:.2f}",
        )
        lines.append(_row(name, *figures))
    return lines
