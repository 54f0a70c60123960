"""The nine stages: what each reads and writes below the pipeline's data folder. dvc.yaml says the same by hand; a test compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One node of the DAG."""

    sections: tuple[str, ...]  # of params that it reads
    inputs: Mapping[str, str] = field(
        default_factory=dict
    )  # name in the job -> path below the data folder
    outputs: Mapping[str, str] = field(default_factory=dict)
    registers: bool = False  # needs the id of its MLflow run
    remembers: bool = False  # what it made of a row or a file in earlier runs
    fits: bool = False  # its resumable state also depends on the code of nets, tasks and engine


REPORT = "reports/report.html"  # below the pipeline's data folder

STAGES: Mapping[str, Stage] = {
    "ingest": Stage(
        ("ingest",), {}, {"raw": "raw", "report": "reports/ingest.json"}, remembers=True
    ),
    "clean": Stage(
        ("clean",),
        {"raw": "raw"},
        {"clean": "clean", "audit": "audit", "report": "reports/clean.json"},
        remembers=True,
    ),
    "augment": Stage(
        ("clean", "augment"),
        {"clean": "clean"},
        {"augmented": "augmented", "report": "reports/augment.json"},
    ),
    "tokenize": Stage(
        ("clean", "tokenize"),
        {"clean": "clean", "augmented": "augmented"},
        {"tokens": "tokens", "report": "reports/tokenize.json"},
    ),
    "train": Stage(
        ("clean", "augment", "train"),
        {"clean": "clean", "tokens": "tokens"},
        {"trained": "models/trained", "curve": "reports/train.csv", "report": "reports/train.json"},
        fits=True,
    ),
    "tune": Stage(
        ("augment", "train", "tune"),
        {"tokens": "tokens"},
        {
            "tuned": "models/tuned",
            "trials": "reports/trials.csv",
            "search": "reports/search.json",
            "report": "reports/tune.json",
        },
        fits=True,
    ),
    "compress": Stage(
        ("augment", "train", "compress"),
        {"tokens": "tokens", "trained": "models/trained", "tuned": "models/tuned"},
        {"compressed": "models/compressed", "report": "reports/compress.json"},
        fits=True,
    ),
    "evaluate": Stage(
        ("clean", "train", "evaluate"),
        {
            "raw": "raw",
            "clean": "clean",
            "audit": "audit",
            "tokens": "tokens",
            "trained": "models/trained",
            "tuned": "models/tuned",
            "compressed": "models/compressed",
            "curve": "reports/train.csv",
            "search": "reports/search.json",
        },
        {
            "winner": "models/winner",
            "answers": "reports/answers",
            "leaderboard": "reports/leaderboard.json",
            "metrics": "reports/metrics.json",
            "confusion": "reports/confusion.csv",
            "html": "reports/evaluation.html",
        },
    ),
    "serve": Stage(
        ("serve", "registry"),
        {
            "clean": "clean",
            "winner": "models/winner",
            "answers": "reports/answers",
            "leaderboard": "reports/leaderboard.json",
            "evaluation": "reports/evaluation.html",
        },
        {"html": REPORT, "report": "reports/serve.json"},
        registers=True,
    ),
}
