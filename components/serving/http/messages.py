"""Types of requests and answers, made from a task's Query and Answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Annotated, Any, Literal, Protocol

from annotated_types import MaxLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    create_model,
)
from pydantic_core import PydanticCustomError

from components.core.bundles import Card
from components.core.params import Strict

State = Literal["ok", "warming", "draining"]
_MANY = "several items"
_ONE = "one item"
_MAX_MISTAKES = 20


class PredictorProtocol(Protocol):
    """A loaded model, as far as serving needs it (`components.inference.predictor` has it)."""

    @property
    def card(self) -> Card:
        """Return the card of the bundle."""

    def prepare(self, queries: Sequence[Any]) -> Sequence[Any]:
        """Return one row per query, with its cost.

        Raises:
            Reject: bad content.
        """

    def score(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return one answer per row."""


class ModelRef(Strict):
    """Which model answered."""

    name: str
    version: str
    data_hash: str
    bundle: str = Field(
        "",
        description=(
            "The first 12 digits of the SHA-256 of the bundle's card, "
            "which holds those of its files"
        ),
    )


class ModelInfo(ModelRef):
    """Which model is served, and queries to try it with."""

    examples: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def ref(self) -> ModelRef:
        """Return the reference without the examples."""
        return ModelRef.model_validate(self.model_dump(exclude={"examples"}))


class Health(Strict):
    """The answer of GET /healthz and /readyz."""

    status: State
    model: ModelRef


class Mistake(Strict):
    """What is wrong, and where in the request."""

    loc: list[str | int]
    msg: str


class Problem(Strict):
    """The answer to a request that is refused."""

    detail: str | list[Mistake]


class Limits(Strict):
    """What one request may hold."""

    items: int
    body_bytes: int
    characters: int


class _Identity(ModelInfo):
    """What the description of a model begins with."""

    title: str
    task: str


class _Usage(Strict):
    """What the description of a model ends with."""

    query: dict[str, Any] = Field(description="JSON schema of one item")
    fields: list[str] = Field(
        description="Properties of an item that the training data fill; the page asks for these"
    )
    limits: Limits
    explains: bool = Field(description="Whether /v1/explain tells what mattered")


class Part(Strict):
    """A piece of what was asked, and how much it speaks for the answer."""

    text: str
    weight: float


def limited(
    query: type[BaseModel], characters: int, name: str = "Query", of_all: int | None = None
) -> type[BaseModel]:
    """Return a task's query whose strings are no longer than the service accepts.

    Args:
        query: of the task.
        characters: of each string at most.
        name: of the new model.
        of_all: characters of all strings together at most, of a query that is a mapping; None: as
            many as of a string.
    """
    if issubclass(query, RootModel):
        check = AfterValidator(partial(_check_total, most=characters if of_all is None else of_all))
        root: Any = Annotated[query.model_fields["root"].rebuild_annotation(), check]
        return create_model(name, __base__=query, __doc__=query.__doc__, root=(root, ...))
    changed: dict[str, Any] = {}
    for field_name, field in query.model_fields.items():
        if field.annotation is str:
            limited_field = copy(field)
            longest = [item.max_length for item in field.metadata if isinstance(item, MaxLen)]
            others = [item for item in field.metadata if not isinstance(item, MaxLen)]
            # before validators, else pydantic speaks of items and not of characters
            limited_field.metadata = [MaxLen(min([characters, *longest])), *others]
            changed[field_name] = (str, limited_field)
    return create_model(name, __base__=query, __doc__=query.__doc__, **changed)


def _check_total(values: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    """Return values whose strings have not too many characters together.

    Raises:
        PydanticCustomError: they have more.
    """
    if sum(len(value) for value in values.values() if isinstance(value, str)) > most:
        message = "Values should have at most {most} characters together"
        raise PydanticCustomError("too_many_characters", message, {"most": most})
    return values


def request_type(query: type[BaseModel], max_items: int) -> Any:
    """Return the type of a request body: `{"inputs": [item, ...]}`, or one item itself.

    Args:
        query: the type of an item.
        max_items: of one request.
    """
    limits = Field(min_length=1, max_length=max_items)
    items: Any = Annotated[list[query], limits]  # type: ignore[valid-type]
    many = create_model("Inputs", __config__=ConfigDict(extra="forbid"), inputs=(items, ...))
    return Annotated[
        Annotated[many, Tag(_MANY)] | Annotated[query, Tag(_ONE)], Discriminator(_form)
    ]


def _form(body: Any) -> str:
    is_many = isinstance(body, dict) and "inputs" in body
    if is_many or hasattr(body, "inputs"):
        return _MANY
    return _ONE


def answer_type(answer: type[BaseModel]) -> type[BaseModel]:
    """Return the type of a response body."""
    return create_model(
        "Predictions",
        predictions=(list[answer], ...),  # type: ignore[valid-type]
        model=(ModelRef, ...),
        id=(str, Field(description="Names this request; also in X-Request-Id")),
    )


def explanation_type(answer: type[BaseModel], weight: str) -> type[BaseModel]:
    """Return the type of the answer of /v1/explain.

    Args:
        answer: the type of an answer.
        weight: what the weight of a part is, for clients.
    """
    described = (float, Field(description=weight))
    part = create_model("Part", __base__=Part, __doc__=Part.__doc__, weight=described)
    return create_model(
        "Explanation",
        prediction=(answer, ...),
        parts=(list[part], ...),
        model=(ModelRef, ...),
        id=(str, ...),
    )


def description_type(info: type[BaseModel]) -> type[BaseModel]:
    """Return the type of the answer of GET /v1/model, which has the targets of the card.

    Args:
        info: the type of the targets, `TargetRules.Info`.
    """
    # The fields of the last base come first.
    bases = (_Usage, info, _Identity)
    return create_model("ModelDescription", __base__=bases, __doc__="The answer of GET /v1/model.")


def mistakes(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Return validation errors without a trace of what was sent.

    They hold only the position and the message, and no keys that the client chose.

    Args:
        errors: of the body, as pydantic reports them.
    """
    rows = []
    for error in errors[:_MAX_MISTAKES]:
        loc = ["body", *(part for part in error["loc"] if part not in (_MANY, _ONE))]
        if error["type"] == "extra_forbidden":
            loc = loc[:-1]
        rows.append({"loc": loc, "msg": error["msg"]})
    return rows
