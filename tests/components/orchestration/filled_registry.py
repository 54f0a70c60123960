"""A registry with a champion, a version that waits and one that a gate refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from components.core.bundles import Card, write_bundle
from components.registry.release.gates import Gate, GateParams, as_rows, gate_rules
from components.registry.release.promotion import approve, release
from components.registry.versions.model_versions import keep_cases, register
from components.registry.versions.test_cases import Cases, name_of
from tests.structure.import_graph import ROOT

LABELS = ["好评", "非常差的评价"]


def put(root: Path, seed: int, right: str, gates: list[Gate], **tags: str) -> None:
    """A version with a card as the stage writes it."""
    bundle = root.parent / f"bundle-{seed}"
    card = Card(
        task="any",
        runtime="numpy",
        architecture="linear",
        config={},
        targets={"classes": LABELS},
        seed=seed,
        data_hash="ab" * 32,
        params_hash="p" * 64,
        origin=["train"],
        versions={"numpy": "2"},
    )
    write_bundle(bundle, card, {"weights.safetensors": bytes(8)})
    ids = [str(place) for place in range(len(right))]
    half = len(ids) // 2
    cases = Cases(
        ids,
        {"right": [sign == "+" for sign in right]},
        {
            f"class: {LABELS[0]}": list(range(half)),
            f"class: {LABELS[1]}": list(range(half, len(ids))),
        },
        name_of(ids, ids),
    )
    share = sum(cases.stats["right"]) / len(ids)
    row = {
        "test": {"accuracy": share},
        "test_interval": {"accuracy": [share - 0.05, share + 0.05]},
        "latency_ms": {"p50": 1.0, "p95": 2.0},
        "size_bytes": 8,
        "throughput_per_s": 900.0,
    }
    told = {
        "leaderboard_row": row,
        "environment": {"python": "3.11", "torch": f"2.{seed}"},
        "params": {"seed": seed, "train.epochs": 6},
        "classes": LABELS,
        "gates": as_rows(gates),
    }
    more = {
        "title": f"linear ({seed})",
        "accuracy": f"{share:.4f}",
        "accuracy_interval": f"{share - 0.05:.4f} to {share + 0.05:.4f}",
        "test_cases": str(len(ids)),
        "test_hash": cases.test,
    }
    facts = (
        {
            "data_hash": "ab" * 32,
            "git_commit": f"{seed}" * 40,
            "pipeline_params_hash": f"{seed}" * 64,
        }
        | more
        | tags
    )
    made = register(
        root,
        "default",
        bundle,
        None,
        facts | {key: json.dumps(value, ensure_ascii=False) for key, value in told.items()},
    )
    keep_cases(root, made, cases)


def fill(root: Path, store: Path | None = None) -> None:
    """Make a project with such a registry in a folder that does not exist.

    Args:
        root: the folder.
        store: folder with an empty store, which is copied. Without it, MLflow makes one.
    """
    if store is not None:
        shutil.copytree(store, root)
    (root / "components" / "cli").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    doubt = Gate(
        "baseline",
        False,
        0.004,
        -0.01,
        "gain of macro_f1 on test over the classical baseline, paired bootstrap",
        (-0.02, 0.03),
        borderline=True,
    )
    leak = Gate("leak", False, 2.0, 0.0, "rows that stand in more than one split")
    put(
        root,
        1,
        "+" * 80 + "-" * 20,
        [Gate("size", True, 0.1, 200.0, "bundle, megabytes"), Gate("champion", None)],
    )
    approve(
        root,
        "default",
        1,
        gate_rules("text_classification", GateParams()),
        who="韩梅梅",
        why="the first",
    )
    for seed, right, gate in ((2, "+" * 95 + "-" * 5, doubt), (3, "-" * 50 + "+" * 50, leak)):
        put(root, seed, right, [gate, Gate("champion", True, against=1)])
        release(
            root,
            "default",
            seed,
            [gate],
            mode="auto",
            who="gristmill serve stage",
            why=f"gates of {seed}",
        )
