"""What a scheduler says of a drift of which there is nothing to learn: the steps that are missing, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

from ruamel.yaml import YAML

from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore
from components.orchestration.drift.drift_advice import advice
from tests.commands.project import SOURCE


def test_it_names_what_is_missing_then_what_waits(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(SOURCE / name, tmp_path / name)
    said = advice(tmp_path, "default")
    assert all(
        word in said
        for word in (
            "monitor.keep_text: true",
            "ingest.feedback: data/feedback/default in params.yaml",
            "POST /v1/feedback",
        )
    ), said
    yaml, path = YAML(), tmp_path / "params.yaml"
    tree = yaml.load(path)
    tree["monitor"]["keep_text"], tree["ingest"]["feedback"] = True, "data/feedback/default"
    yaml.dump(tree, path)
    FeedbackStore(tmp_path / "data/.state/default/monitor/feedback", 10).add(
        FeedbackEntry("a" * 32, 0, {"label": "pos"}, 1.0, "1", "neg", 0.9, "{}")
    )
    assert (
        advice(tmp_path, "default")
        == "look at what waits for review (1; gristmill feedback list) and accept what is right; or bring new rows to the source; the retrain then begins by itself"
    )
