"""What goes over the wire: the shape of a request and of an answer, made from a task's Query and Answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model

from components.core.bundles import Card
from components.core.params import Strict

MAX_BODY_BYTES = 1 << 20
_MANY, _ONE = "several items", "one item"
_MAX_MISTAKES = 20


class Predictor(Protocol):
    """What serving needs of a loaded model (`components.engine.predict` has it)."""

    @property
    def card(self) -> Card:
        """The facts of the bundle."""

    def predict(self, queries: Sequence[Any]) -> Sequence[Any]:
        """One answer per query. Raises `Reject` for bad content."""


class ModelRef(Strict):
    """Which model answered."""

    name: str
    version: str
    data_hash: str


class ModelInfo(ModelRef):
    """Which model is served, and queries to try it with."""

    examples: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def ref(self) -> ModelRef:
        """Without the examples."""
        return ModelRef(name=self.name, version=self.version, data_hash=self.data_hash)


class Health(Strict):
    """The answer of GET /healthz."""

    status: str
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


class ModelDescription(ModelInfo):
    """The answer of GET /v1/model."""

    title: str
    task: str
    classes: list[str]
    query: dict[str, Any] = Field(description="JSON schema of one item")
    limits: Limits


def request_type(query: type[BaseModel], max_items: int) -> Any:
    """The type of a request body: `{"inputs": [item, ...]}`, or one item itself."""
    items: Any = Annotated[list[query], Field(min_length=1, max_length=max_items)]  # type: ignore[valid-type]
    many = create_model("Inputs", __config__=ConfigDict(extra="forbid"), inputs=(items, ...))
    return Annotated[Annotated[many, Tag(_MANY)] | Annotated[query, Tag(_ONE)], Discriminator(_form)]


def _form(body: Any) -> str:
    return _MANY if (isinstance(body, dict) and "inputs" in body) or hasattr(body, "inputs") else _ONE


def answer_type(answer: type[BaseModel]) -> type[BaseModel]:
    """The type of a response body."""
    return create_model("Predictions", __config__=ConfigDict(protected_namespaces=()), predictions=(list[answer], ...), model=(ModelRef, ...))  # type: ignore[valid-type]


def mistakes(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Validation errors without a trace of what was sent: place and message only, and no keys of the sender's making.

    Args:
        errors: as pydantic and FastAPI report them.
    """
    told = []
    for error in errors[:_MAX_MISTAKES]:
        loc = [part for part in error["loc"] if part not in (_MANY, _ONE)]
        told.append({"loc": loc[:-1] if error["type"] == "extra_forbidden" else loc, "msg": error["msg"]})
    return told
