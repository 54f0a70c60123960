"""The nine stages, with the files that they read and write below the pipeline's data folder.

dvc.yaml repeats them, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One node of the DAG.

    Args:
        sections: of params that the stage reads.
        inputs: name in the job -> path below the data folder.
        outputs: name in the job -> path below the data folder.
        registers: whether the stage needs the id of its MLflow run.
        remembers: whether the stage has a cache of its results for single rows or files.
        fits: whether its resumable state also depends on the code of nets, tasks and training.
    """

    sections: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    registers: bool = False
    remembers: bool = False
    fits: bool = False


# Path below the pipeline's data folder.
REPORT = "reports/report.html"

STAGES: Mapping[str, Stage] = {
    "ingest": Stage(
        sections=("ingest",),
        outputs={"raw": "raw", "report": "reports/ingest.json"},
        remembers=True,
    ),
    "clean": Stage(
        sections=("clean",),
        inputs={"raw": "raw"},
        outputs={"clean": "clean", "audit": "audit", "report": "reports/clean.json"},
        remembers=True,
    ),
    "augment": Stage(
        sections=("clean", "augment"),
        inputs={"clean": "clean"},
        outputs={"augmented": "augmented", "report": "reports/augment.json"},
    ),
    "tokenize": Stage(
        sections=("clean", "tokenize"),
        inputs={"clean": "clean", "augmented": "augmented"},
        outputs={"tokens": "tokens", "report": "reports/tokenize.json"},
    ),
    "train": Stage(
        sections=("clean", "augment", "train"),
        inputs={"clean": "clean", "tokens": "tokens"},
        outputs={
            "trained": "models/trained",
            "curve": "reports/train.csv",
            "report": "reports/train.json",
        },
        fits=True,
    ),
    "tune": Stage(
        sections=("augment", "train", "tune"),
        inputs={"tokens": "tokens"},
        outputs={
            "tuned": "models/tuned",
            "trials": "reports/trials.csv",
            "search": "reports/search.json",
            "report": "reports/tune.json",
        },
        fits=True,
    ),
    "compress": Stage(
        sections=("augment", "train", "compress"),
        inputs={"tokens": "tokens", "trained": "models/trained", "tuned": "models/tuned"},
        outputs={"compressed": "models/compressed", "report": "reports/compress.json"},
        fits=True,
    ),
    "evaluate": Stage(
        sections=("clean", "augment", "tokenize", "train", "evaluate"),
        inputs={
            "raw": "raw",
            "clean": "clean",
            "audit": "audit",
            "augmented": "augmented",
            "tokens": "tokens",
            "trained": "models/trained",
            "tuned": "models/tuned",
            "compressed": "models/compressed",
            "curve": "reports/train.csv",
            "search": "reports/search.json",
            "train_report": "reports/train.json",
            "tune_report": "reports/tune.json",
            "compress_report": "reports/compress.json",
        },
        outputs={
            "winner": "models/winner",
            "answers": "reports/answers",
            "leaderboard": "reports/leaderboard.json",
            "metrics": "reports/metrics.json",
            "confusion": "reports/confusion.csv",
            "html": "reports/evaluation.html",
            "cards": "reports/cards",
        },
        fits=True,
    ),
    "serve": Stage(
        sections=("serve", "registry"),
        inputs={
            "clean": "clean",
            "winner": "models/winner",
            "answers": "reports/answers",
            "leaderboard": "reports/leaderboard.json",
            "evaluation": "reports/evaluation.html",
        },
        outputs={"html": REPORT, "report": "reports/serve.json"},
        registers=True,
    ),
}
