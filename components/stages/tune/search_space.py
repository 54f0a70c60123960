"""Space of a search: paths below `train`, and the values that each can have.

It is checked against the model of train's params before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from components.core.params import Strict, nearest
from components.training.params import FitParams

# A field below is called `int`, as users write it.
_Whole = int
_Positive = Annotated[float, Field(gt=0)]
_KINDS = ("choice", "uniform", "loguniform", "int")


class Dimension(Strict):
    """Values of one path: exactly one of `choice`, `uniform`, `loguniform` and `int`.

    `int` includes both ends. `when` says on which values of other paths below `train` the path is
    drawn at all.
    """

    choice: list[Any] | None = Field(None, min_length=1, description="Values to choose from.")
    uniform: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        None, description="Ends of a range of numbers, all equally likely."
    )
    loguniform: Annotated[tuple[_Positive, _Positive], Field(strict=False)] | None = Field(
        None, description="Ends of a range of numbers, each order of magnitude equally likely."
    )
    int: Annotated[tuple[_Whole, _Whole], Field(strict=False)] | None = Field(
        None, description="Ends of a range of whole numbers, both included."
    )
    when: dict[str, list[Any]] = Field(
        {}, description="Values of other paths, without which this path is not drawn."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        kinds = [name for name in _KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            names = " and ".join(kinds) or "none"
            raise ValueError(f"needs exactly one of {', '.join(_KINDS)}; it has {names}")
        if self.choice is None:
            low, high = self.ends()
            if low >= high:
                raise ValueError(f"the range [{low}, {high}] is empty")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in inner(self).items() if value}

    def ends(self) -> list[Any]:
        """Return the values that must validate: all of a choice, the ends of a range."""
        return self.choice or list(self.uniform or self.loguniform or self.int or ())

    def values(self) -> list[Any] | None:
        """Return all values in order; None if they cannot be counted."""
        if self.int:
            return list(range(self.int[0], self.int[1] + 1))
        return self.choice

    def may_be(self, value: Any) -> bool:
        """Return whether a value can be drawn."""
        if self.choice:
            return value in self.choice
        low, high = self.ends()
        return isinstance(value, float | _Whole) and low <= value <= high

    def read(self, text: str) -> Any:
        """Return the value with a text, as `str` writes it.

        Raises:
            ValueError: it cannot be drawn.
        """
        if self.choice:
            texts = [str(value) for value in self.choice]
            return self.choice[texts.index(text)]
        value = _Whole(text) if self.int else float(text)
        if not self.may_be(value):
            raise ValueError(f"{text!r} is outside the range")
        return value

    def sample(self, rng: np.random.Generator) -> Any:
        """Return a random value.

        All values are as likely; of `loguniform`, all orders of magnitude.
        """
        if self.choice:
            return self.choice[_Whole(rng.integers(len(self.choice)))]
        low, high = self.ends()
        if self.int:
            return rng.integers(low, high + 1).item()
        if self.uniform:
            return float(rng.uniform(low, high))
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))


Space = Mapping[str, Dimension]
# path -> value
Values = dict[str, Any]


def conditions(path: str, dimension: Dimension) -> dict[str, list[Any]]:
    """Return the conditions under which a dimension is drawn.

    They are those of its `when`. Params of a net are drawn for that architecture only.

    Args:
        path: of the dimension.
        dimension: the values of the path.

    Returns:
        Path below `train` -> values of it.
    """
    if not path.startswith("nets."):
        return dict(dimension.when)
    architecture = path.split(".")[1]
    return {**dimension.when, "architecture": [architecture]}


# Params of `train` that hold for every task. The others are the loss's of one.
_OF_EVERY_TASK = {*FitParams.model_fields, "architecture"}
# Params of a fit on which neither shapes nor batches depend.
_MUTABLE = {
    "learning_rate",
    "schedule_factor",
    "momentum",
    "weight_decay",
    "l1",
    "clip_norm",
    "ema",
}


def mutable(space: Space) -> list[str]:
    """Return the paths that may change during training, sorted.

    They are rates, penalties, dropouts and numbers of the loss on which no other path's `when`
    depends.
    """
    conditional: set[str] = set()
    for dimension in space.values():
        conditional.update(dimension.when)
    paths = []
    for path in sorted(space):
        is_dropout = path.startswith("nets.") and path.endswith("dropout")
        is_mutable = path in _MUTABLE or is_dropout or _is_of_loss(path, space[path])
        if is_mutable and path not in conditional:
            paths.append(path)
    return paths


def _is_of_loss(path: str, dimension: Dimension) -> bool:
    """Return whether a path is a number that only the loss of a task depends on."""
    if "." in path or path in _OF_EVERY_TASK:
        return False
    values = dimension.values()
    return values is None or all(isinstance(value, int | float) for value in values)


def ordered(space: Space) -> list[str]:
    """Return the paths; a path follows those that its conditions name.

    Raises:
        ValueError: conditions go in a circle.
    """
    done: list[str] = []

    def visit(path: str, parents: tuple[str, ...]) -> None:
        """Append a path after all paths that its conditions name.

        Args:
            path: of a dimension.
            parents: paths whose conditions led here.

        Raises:
            ValueError: the conditions go in a circle.
        """
        chain = (*parents, path)
        if path in parents:
            raise ValueError(f"the conditions of {' -> '.join(chain)} go in a circle")
        if path in done or path not in space:
            return
        for other in sorted(conditions(path, space[path])):
            visit(other, chain)
        done.append(path)

    for path in sorted(space):
        visit(path, ())
    return done


def applies(
    path: str,
    space: Space,
    values: Mapping[str, Any],
    train: BaseModel,
) -> bool:
    """Return whether a path is drawn.

    Args:
        path: the path.
        space: all paths.
        values: that have been drawn, those that the path's conditions name among them.
        train: params of train, for paths that are not in the space.
    """
    tree = train.model_dump()
    for other, choices in conditions(path, space[path]).items():
        value = values[other] if other in values else lookup(tree, other)
        if value not in choices:
            return False
    return True


def assemble(space: Space, train: BaseModel, pick: Callable[[str, Dimension], Any]) -> Values:
    """Return values for the paths that apply, picked one after the other.

    Args:
        space: all paths.
        train: params of train.
        pick: returns the value of a path.
    """
    values: Values = {}
    for path in ordered(space):
        if applies(path, space, values, train):
            values[path] = pick(path, space[path])
    return values


def lookup(tree: Any, path: str) -> Any:
    """Return the value at a path; None if there is none."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def with_values(train: BaseModel, values: Mapping[str, Any]) -> BaseModel:
    """Return `train` with some values put at their paths, validated anew.

    Raises:
        ValidationError: a value is not allowed there.
    """
    tree = train.model_dump()
    for path, value in values.items():
        node = tree
        *parents, last = path.split(".")
        for part in parents:
            node = node[part]
        node[last] = value
    return type(train).model_validate(tree)


def allowed(train: BaseModel, values: Mapping[str, Any]) -> bool:
    """Return whether `train` accepts some values together."""
    try:
        with_values(train, values)
    except ValidationError:
        return False
    return True


def check_space(space: Space, train: BaseModel) -> list[str]:
    """Return the mistakes in a space, as messages.

    They are unknown paths, values that `train` does not allow, and conditions that cannot hold.
    """
    mistakes: list[str] = []
    for path, dimension in space.items():
        mistakes.extend(_misplaced(path, dimension.ends(), f"tune.space.{path}", train))
        mistakes.extend(_unmet(path, space, train))
    try:
        ordered(space)
    except ValueError as error:
        mistakes.append(f"tune.space: {error}")
    return mistakes


def _misplaced(
    path: str,
    values: list[Any],
    shown: str,
    train: BaseModel,
) -> Iterator[str]:
    """Yield the mistakes of a path: that it does not exist, or values that it cannot have."""
    node: Any = train.model_dump()
    for part in path.split("."):
        if not isinstance(node, dict):
            yield f"{shown}: train has no {part!r} there; known: nothing"
            return
        if part not in node:
            names = ", ".join(sorted(node))
            yield f"{shown}: train has no {part!r} there{nearest(part, node)}; known: {names}"
            return
        node = node[part]
    for value in values:
        try:
            with_values(train, {path: value})
        except ValidationError as error:
            yield f"{shown}: {value!r}: {error.errors()[0]['msg']}"


def _unmet(path: str, space: Space, train: BaseModel) -> Iterator[str]:
    """Yield the mistakes in a `when`: paths and values that do not exist, or never occur."""
    tree = train.model_dump()
    for other, values in space[path].when.items():
        shown = f"tune.space.{path}.when.{other}"
        mistakes = list(_misplaced(other, values, shown, train))
        if mistakes:
            yield from mistakes
        elif other in space:
            for value in values:
                if not space[other].may_be(value):
                    yield f"{shown}: {value!r} is not in tune.space.{other}"
        elif lookup(tree, other) not in values:
            yield (
                f"{shown}: never holds: train.{other} is {lookup(tree, other)!r}, "
                "and tune.space does not vary it"
            )
