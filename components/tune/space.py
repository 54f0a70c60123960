"""The space of a search: paths below `train`, and what each may be. Checked against train's own model before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError, model_validator

from components.core.params import Strict, nearest


class Choice(Strict):
    """One of a list."""

    choice: list[Any] = Field(min_length=1)

    def ends(self) -> list[Any]:
        """Values that must validate."""
        return self.choice

    def sample(self, rng: np.random.Generator) -> Any:
        """One, each as likely."""
        return self.choice[int(rng.integers(len(self.choice)))]


class _Range(Strict):
    def ends(self) -> list[Any]:
        """Values that must validate."""
        return list(next(iter(self.model_dump().values())))

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        low, high = self.ends()
        if low >= high:
            raise ValueError(f"the range [{low}, {high}] is empty")
        return self


class Uniform(_Range):
    """Between two numbers."""

    uniform: tuple[float, float] = Field(strict=False)

    def sample(self, rng: np.random.Generator) -> Any:
        """Each as likely."""
        return float(rng.uniform(*self.uniform))


class LogUniform(_Range):
    """Between two positive numbers, each order of magnitude as likely."""

    loguniform: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(strict=False)

    def sample(self, rng: np.random.Generator) -> Any:
        """Uniform in the logarithm."""
        low, high = self.loguniform
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))


_Whole = int  # the field below is called `int`, as users write it


class Int(_Range):
    """A whole number between two, both included."""

    int: tuple[_Whole, _Whole] = Field(strict=False)

    def sample(self, rng: np.random.Generator) -> Any:
        """Each as likely."""
        return rng.integers(self.int[0], self.int[1] + 1).item()


def _kind(value: Any) -> str:
    """The key that says what a dimension is, so that only that kind's mistakes are told."""
    keys = type(value).model_fields if isinstance(value, Strict) else value
    return str(next(iter(keys), "")) if isinstance(keys, Mapping) else str(value)


Dimension = Annotated[Annotated[Choice, Tag("choice")] | Annotated[Uniform, Tag("uniform")] | Annotated[LogUniform, Tag("loguniform")] | Annotated[Int, Tag("int")], Discriminator(_kind)]
Space = Mapping[str, Dimension]


def settled(train: BaseModel, values: Mapping[str, Any]) -> BaseModel:
    """`train` with some values put at their paths, validated anew.

    Raises:
        ValidationError: a value is not allowed there.
    """
    tree = train.model_dump()
    for path, value in values.items():
        here = tree
        *way, last = path.split(".")
        for part in way:
            here = here[part]
        here[last] = value
    return type(train).model_validate(tree)


def check_space(space: Space, train: BaseModel) -> list[str]:
    """What is wrong with a space: unknown paths, values that `train` does not allow."""
    tree = train.model_dump()
    mistakes = []
    for path, dimension in space.items():
        here: Any = tree
        for part in path.split("."):
            if not isinstance(here, dict) or part not in here:
                known = ", ".join(sorted(here)) if isinstance(here, dict) else "nothing"
                mistakes.append(f"tune.space.{path}: train has no {part!r} there{nearest(part, here) if isinstance(here, dict) else ''}; known: {known}")
                break
            here = here[part]
        else:
            for value in dimension.ends():
                try:
                    settled(train, {path: value})
                except ValidationError as error:
                    mistakes.append(f"tune.space.{path}: {value!r}: {error.errors()[0]['msg']}")
    return mistakes


def draw(space: Space, train: BaseModel, seed: int, trial: int, attempts: int = 100) -> dict[str, Any]:
    """The values of a trial: random search (Bergstra and Bengio 2012). A function of seed and number alone, so a search can be extended or resumed.

    Knobs of nets that the drawn architecture does not use are left out, and combinations that `train` refuses are drawn again.

    Raises:
        ValueError: no allowed combination was found.
    """
    rng = np.random.default_rng([seed, trial])
    for _ in range(attempts):
        values = {path: dimension.sample(rng) for path, dimension in sorted(space.items())}
        architecture = values.get("architecture", getattr(train, "architecture", ""))
        values = {path: value for path, value in values.items() if not path.startswith("nets.") or path.split(".")[1] == architecture}
        try:
            settled(train, values)
        except ValidationError:
            continue
        return values
    raise ValueError(f"no allowed combination in {attempts} draws from tune.space")
