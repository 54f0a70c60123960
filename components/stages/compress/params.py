"""Params of `compress`: the settings of its steps, and the recipes that put steps in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from components.core.params import Strict, explain, nearest
from components.models.ensemble.config import MOST_MEMBERS
from components.tasks.base import Architecture


class Prune(Strict):
    """Pruning of units and layers or of single weights, then a short fit."""

    method: Literal["structured", "unstructured", "2:4"] = Field(
        "structured",
        description="What is cut (structured: units and layers; the others set weights to 0).",
    )
    share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share that is cut of units (channels, heads, hidden units) or weights.",
    )
    layers: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of an encoder's layers that is dropped, the least useful ones first.",
    )
    score: Literal["magnitude", "taylor", "fisher", "movement"] = Field(
        "magnitude",
        description="What a unit is worth: its weights, the loss without it, or their growth.",
    )
    multiple: int = Field(
        16,
        ge=1,
        le=1024,
        description="Numbers of units that stay are multiples of it, which is faster (1: any).",
    )
    rounds: int = Field(1, ge=1, description="Cuts in which the share is reached, each with a fit.")
    epochs: int = Field(2, ge=1, description="Passes over the train rows after the cut.")
    learning_rate: float = Field(
        5e-4, gt=0, le=10, description="Peak learning rate of the fit after the cut."
    )

    @model_validator(mode="after")
    def _check_cut(self) -> Prune:
        if self.share == self.layers == 0:
            raise ValueError("share and layers are both 0, which cuts nothing; set one of them")
        if self.method != "structured" and (self.layers or self.score != "magnitude"):
            raise ValueError(
                f"method: {self.method} cuts weights by magnitude; set layers to 0 and score to "
                "magnitude, or method to structured"
            )
        if self.method == "2:4" and (self.share != 0.5 or self.rounds != 1):
            raise ValueError("method: 2:4 cuts half of the weights at once; leave share and rounds")
        return self

    @property
    def remark(self) -> str:
        """Return what the report says of a network that was cut; "" where there is nothing."""
        if self.method == "structured":
            return ""
        return "weights that are 0 take as many bytes and as much time as others"


class Finetune(Strict):
    """A fit of a network that was made smaller, with the answers of the one before."""

    epochs: int = Field(2, ge=1, description="Passes over the train rows.")
    learning_rate: float = Field(5e-4, gt=0, le=10, description="Peak learning rate.")
    temperature: float = Field(
        2.0, gt=0, description="Divisor of the logits; larger values soften the teacher's answers."
    )
    weight: float = Field(
        0.5, ge=0, le=1, description="Weight of the first network's answers (0: targets alone)."
    )


class Quantize(Strict):
    """Smaller numbers in place of fp32: of weights and activations, or of weights alone."""

    method: Literal["static", "weights", "fp16"] = Field(
        "static",
        description="Numbers that become small (static: weights, inputs; weights; fp16: weights).",
    )
    bits: Literal[8, 4] = Field(8, description="Bits of a weight (4: for method weights).")
    calibration_rows: int = Field(
        256, ge=8, description="Train rows that calibrate the int8 ranges."
    )
    calibration: Literal["minmax", "percentile", "entropy"] = Field(
        "minmax", description="How ranges follow from the values that occur."
    )
    max_drop: float | None = Field(
        None,
        ge=0,
        description="Share of the metric lost above which sensitive operators stay fp32 "
        "(null: none).",
    )
    qat: Finetune | None = Field(
        None, description="Fit with the rounding of int8 before static, as finetune (null: none)."
    )

    @property
    def origin(self) -> str:
        """Return the name of the step in the card of a bundle."""
        origins = {"static": "int8", "weights": f"int{self.bits}-weights", "fp16": "fp16"}
        return origins[self.method]

    @model_validator(mode="after")
    def _check_bits(self) -> Quantize:
        if self.method != "weights" and self.bits != 8:
            raise ValueError(f"bits: {self.bits} needs method: weights; static has 8 bits")
        if self.method != "static" and self.qat is not None:
            raise ValueError(f"qat: needs method: static; set it to null for {self.method}")
        if self.method == "fp16" and self.max_drop is not None:
            raise ValueError("max_drop: needs integers; set it to null for method: fp16")
        return self


class Distill(Strict):
    """A smaller network that imitates the better of the two fitted ones, or their ensemble."""

    architecture: str = Field(description="Architecture of the student, one of the task's.")
    nets: dict[str, dict[str, Any]] = Field(
        description="Params of the student by architecture, as in train.nets."
    )
    epochs: int = Field(6, ge=1, description="Passes of the student over the train rows.")
    batch_size: int | None = Field(
        None, ge=1, description="Rows per optimizer step (null: train.batch_size)."
    )
    workers: int | None = Field(
        None, ge=1, description="DDP ranks of the student's fit (null: train.workers)."
    )
    learning_rate: float = Field(
        2e-3, gt=0, le=10, description="Peak learning rate of the student."
    )
    temperature: float = Field(
        2.0, gt=0, description="Divisor of the logits; larger values soften the teacher's answers."
    )
    weight: float = Field(
        0.7, ge=0, le=1, description="Weight of the teacher's answers; the targets have the rest."
    )
    hidden: float = Field(
        0.0,
        ge=0,
        description="Weight of the relations between the teacher's token states, for encoders.",
    )
    embeddings: Literal["random", "teacher"] = Field(
        "random",
        description="First token embeddings (teacher: its embeddings and states, narrowed).",
    )
    unlabelled: bool = Field(
        True, description="Learn the teacher's answers to the rows without a target too."
    )
    compare: bool = Field(
        True, description="Fit the student without its teacher too; drop it if that is better."
    )


class Ensemble(Strict):
    """Networks that answer together: those of train and tune, and further fits."""

    fits: int = Field(
        3,
        ge=1,
        le=MOST_MEMBERS - 2,
        description="Fits of the better network with other seeds, beside those of train and tune.",
    )
    picks: int = Field(
        10,
        ge=2,
        le=100,
        description="Most picks of members, one network perhaps more than once, on validation.",
    )


class Target(Strict):
    """What a compressed network must reach, as a recipe."""

    speedup: float | None = Field(None, gt=1, description="Speed of its parent that is asked for.")
    max_size_mb: float | None = Field(None, gt=0, description="Most megabytes of the bundle.")
    max_drop: float = Field(0.01, ge=0, description="Largest share of the metric that is lost.")
    batch: int = Field(1, ge=1, description="Rows at a time when the speed is measured.")


STEPS: Mapping[str, type[Strict] | None] = {
    "ensemble": Ensemble,
    "prune": Prune,
    "finetune": Finetune,
    "quantize": Quantize,
    "distill": Distill,
    "export": None,
}
# Their result is a graph, which cannot be fitted.
LAST = ("quantize", "export")
# They fit one network, and an ensemble is several.
_FITS_WHOLE = ("prune", "finetune")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_TAKEN = ("trained", "tuned", "network", "classical")


class CompressParams(Strict):
    """The settings of the steps, and the recipes, each of which gives one candidate."""

    recipes: dict[str, list[Any] | dict[str, Any]] = Field(
        {"pruned": ["prune"], "int8": ["quantize"], "distilled": ["distill"]},
        description="Name of a candidate: its steps in order, or a target that it must reach.",
    )
    ensemble: Ensemble | None = Field(
        Ensemble(), description="Networks that answer together (null: skipped)."
    )
    prune: Prune | None = Field(Prune(), description="Pruning, then a short fit (null: skipped).")
    finetune: Finetune | None = Field(
        Finetune(), description="Fit of the network that the steps before made (null: skipped)."
    )
    quantize: Quantize | None = Field(
        Quantize(), description="Quantization for ONNX Runtime (null: skipped)."
    )
    distill: Distill | None = Field(
        description="Network that imitates the better fitted one or the ensemble (null: skipped)."
    )


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Args:
        name: a key of `STEPS`.
        params: its settings. None: it has none.
    """

    name: str
    params: Any

    def key(self) -> list[Any]:
        """Return what decides the result of the step, as JSON."""
        return [self.name, self.params.model_dump() if self.params else None]


def resolved_recipes(
    params: CompressParams,
) -> tuple[dict[str, list[Step] | Target], dict[str, str]]:
    """Return the recipes with the settings of their steps, and the skipped ones.

    Args:
        params: checked by `check_recipes`.

    Returns:
        recipes by name, and name -> the step that is null and so switches a recipe off.
    """
    recipes: dict[str, list[Step] | Target] = {}
    skipped = {}
    for name, value in params.recipes.items():
        if isinstance(value, dict):
            recipes[name] = Target.model_validate(value)
            continue
        off = [step for step, changes in map(_split, value) if _is_off(params, step, changes)]
        if off:
            skipped[name] = off[0]
            continue
        recipes[name] = [_step(params, entry) for entry in value]
    return recipes, skipped


def _split(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the name of a step and the settings that its recipe changes."""
    if isinstance(entry, str):
        return entry, {}
    ((name, changes),) = entry.items()
    return name, changes or {}


def _settings(params: CompressParams, name: str) -> Strict | None:
    """Return the settings of a step for all recipes; None: null, or the step has none."""
    settings: Mapping[str, Strict | None] = {
        "ensemble": params.ensemble,
        "prune": params.prune,
        "finetune": params.finetune,
        "quantize": params.quantize,
        "distill": params.distill,
    }
    return settings.get(name)


def _is_off(params: CompressParams, name: str, changes: Mapping[str, Any]) -> bool:
    """Return whether a step is null in params, and its recipe gives it no settings either."""
    return STEPS[name] is not None and _settings(params, name) is None and not changes


def _step(params: CompressParams, entry: Any) -> Step:
    name, changes = _split(entry)
    model = STEPS[name]
    return Step(name, _changed(params, name, changes, model) if model else None)


def _changed(
    params: CompressParams, name: str, changes: Mapping[str, Any], model: type[Strict]
) -> Strict:
    """Return the settings of a step with the changes of its recipe.

    Raises:
        ValidationError: a change is not valid.
    """
    settings = _settings(params, name)
    return model.model_validate((settings.model_dump() if settings else {}) | dict(changes))


def check_recipes(params: CompressParams, architectures: Mapping[str, Architecture]) -> list[str]:
    """Return the mistakes in the recipes and in the students.

    Args:
        params: of compress.
        architectures: of the task.
    """
    mistakes = check_student(params.distill, architectures, "compress.distill")
    for name, recipe in params.recipes.items():
        path = f"compress.recipes.{name}"
        if not _NAME.fullmatch(name):
            mistakes.append(f"{path}: a name has lower-case letters, digits, - and _, at most 40")
        if name in _TAKEN:
            mistakes.append(f"{path}: {', '.join(_TAKEN)} name other models; choose another name")
        if isinstance(recipe, dict):
            mistakes += _target_mistakes(recipe, path)
        else:
            mistakes += _step_mistakes(params, recipe, path, architectures)
    return mistakes


def _target_mistakes(recipe: Mapping[str, Any], path: str) -> list[str]:
    try:
        target = Target.model_validate(recipe)
    except ValidationError as error:
        return explain(Target, error, path)
    if target.speedup is None and target.max_size_mb is None:
        return [f"{path}: asks for nothing; give it speedup or max_size_mb"]
    return []


def _step_mistakes(
    params: CompressParams,
    recipe: Sequence[Any],
    path: str,
    architectures: Mapping[str, Architecture],
) -> list[str]:
    """Return the mistakes in the steps of a recipe: names, settings, order."""
    if not recipe:
        return [f"{path}: has no steps; remove it, or name one of {', '.join(STEPS)}"]
    mistakes = []
    for number, entry in enumerate(recipe):
        where = f"{path}[{number}]"
        is_step = isinstance(entry, str) or (isinstance(entry, dict) and len(entry) == 1)
        if not is_step:
            mistakes.append(
                f"{where}: {entry!r} is not a step; write its name, or {{prune: {{share: 0.3}}}}"
            )
            continue
        name, changes = _split(entry)
        if name not in STEPS:
            hint = nearest(name, STEPS)
            mistakes.append(f"{where}: {name!r} is not one of {', '.join(STEPS)}{hint}")
            continue
        if name in LAST and number + 1 < len(recipe):
            mistakes.append(f"{where}: {name} must be the last step: a graph cannot be fitted")
        if name == "ensemble" and number:
            mistakes.append(
                f"{where}: ensemble must be the first step: it takes the fitted networks"
            )
        if name in _FITS_WHOLE and number and _is_ensemble(recipe[number - 1]):
            mistakes.append(
                f"{where}: {name} cannot follow ensemble, which is no single network; "
                "write distill between them"
            )
        mistakes += _setting_mistakes(params, name, changes, where, architectures)
    return mistakes


def _is_ensemble(entry: Any) -> bool:
    """Return whether an entry of a recipe is the step `ensemble`."""
    return entry == "ensemble" or (isinstance(entry, dict) and set(entry) == {"ensemble"})


def _setting_mistakes(
    params: CompressParams,
    name: str,
    changes: Any,
    where: str,
    architectures: Mapping[str, Architecture],
) -> list[str]:
    """Return the mistakes in the settings that a recipe changes."""
    if not changes:
        return []
    model = STEPS[name]
    if model is None or not isinstance(changes, Mapping):
        return [f"{where}.{name}: takes no settings of this kind: {changes!r}"]
    try:
        changed = _changed(params, name, changes, model)
    except ValidationError as error:
        return explain(model, error, f"{where}.{name}")
    if isinstance(changed, Distill):
        return check_student(changed, architectures, f"{where}.distill")
    return []


def check_student(
    distill: Distill | None, architectures: Mapping[str, Architecture], section: str
) -> list[str]:
    """Return the mistakes in the student: unknown architectures, params that one does not take.

    Args:
        distill: the settings of the student.
        architectures: of the task.
        section: path of the settings in params.yaml.
    """
    if distill is None:
        return []
    names = ", ".join(architectures)
    mistakes = []
    if distill.architecture not in architectures:
        hint = nearest(distill.architecture, architectures)
        mistakes.append(
            f"{section}.architecture: {distill.architecture!r} is not one of {names}{hint}"
        )
    for name, config in distill.nets.items():
        path = f"{section}.nets.{name}"
        if name not in architectures:
            hint = nearest(name, architectures)
            mistakes.append(f"{path}: is not a known key{hint}; known here: {names}")
            continue
        try:
            architectures[name].Config.model_validate(config)
        except ValidationError as error:
            mistakes += explain(architectures[name].Config, error, path)
    return mistakes
