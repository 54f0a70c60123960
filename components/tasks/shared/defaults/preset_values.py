"""Settings that the presets of all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.tasks.base import Setting

Presets = Mapping[str, Callable[[Mapping[str, Any]], Sequence[Setting]]]
# Trials of a search that a person leaves alone.
_TRIALS = 20


def without_search(params: Mapping[str, Any], epochs: int) -> list[Setting]:
    """Return the settings of one short fit, without a search and without compression.

    Args:
        params: the tree.
        epochs: passes over the train rows, at most.
    """
    return [
        Setting("train.epochs", min(params["train"]["epochs"], epochs), "a short fit"),
        Setting("train.pretrain.epochs", 0, "no pretraining"),
        Setting("tune.trials", 0, "no search"),
        Setting("compress.recipes", {}, "no compression"),
    ]


def with_ensemble(params: Mapping[str, Any]) -> Setting:
    """Return the recipes with an ensemble of networks, and with the network that it teaches.

    The student is the network of train, so that it is as fast as a network that was fitted alone.

    Args:
        params: the tree.
    """
    train = params["train"]
    architecture = train["architecture"]
    student = {
        "architecture": architecture,
        "nets": {architecture: train["nets"][architecture]},
        "epochs": train["epochs"],
        "learning_rate": train["learning_rate"],
    }
    recipes = {
        **params["compress"]["recipes"],
        "ensemble": ["ensemble"],
        "ensemble_student": ["ensemble", {"distill": student}],
    }
    return Setting("compress.recipes", recipes, "an ensemble of networks, and a student of it")


def with_search(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of a wide search.

    Args:
        params: the tree.
    """
    trials = max(params["tune"]["trials"], _TRIALS)
    return [Setting("tune.trials", trials, "a wide search")]
