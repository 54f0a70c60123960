"""Use pipelines and their champions from Python.

    from components import api

    api.run("reviews")
    model = api.champion("reviews")
    model.predict(["a text", "another one"])
    api.export("reviews", "model", format="onnx")

Each function imports what it needs when it is called: torch, MLflow and Ray come late or never.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import GristmillError, InputError
from components.orchestration import project

if TYPE_CHECKING:
    from pydantic import BaseModel

    from components.core.cards import Card
    from components.inference.predictor import Predictor
    from components.orchestration.export.export_folder import Exported

__all__ = ["ChampionModel", "champion", "export", "run"]

# A text, the path of a picture, the bytes of one, or the values of a row by column.
Value = str | Path | bytes | Mapping[str, Any]


@dataclass(frozen=True)
class ChampionModel:
    """A released model in this process.

    Attributes:
        pipeline: its name.
        version: number in the registry.
        card: what the model is: task, architecture, data hash, seed, statistics.
    """

    pipeline: str
    version: int
    card: Card = field(repr=False)
    _predictor: Predictor = field(repr=False)

    def predict(self, values: Sequence[Value]) -> list[BaseModel]:
        """Return an answer for each value. Its fields are those of the HTTP API.

        Args:
            values: texts, dicts of columns, or pictures as bytes or paths.

        Raises:
            InputError: a value cannot be answered. Its position is in the message.
        """
        if isinstance(values, str | bytes | Mapping):
            raise InputError(
                f"takes a list of values, not a {type(values).__name__}",
                where="predict",
                remedy="put the value into a list: model.predict([value])",
            )
        from components.fields.base import Reject

        queries = [self._query(value, position) for position, value in enumerate(values)]
        try:
            return list(self._predictor.predict(queries))
        except Reject as reject:
            reason = ": ".join(part for part in (reject.reason, reject.detail) if part)
            raise _unusable("a value", reason) from None

    def _query(self, value: Value, position: int) -> BaseModel:
        """Return the query of a plain value.

        Raises:
            InputError: it is of another kind than the model's input.
        """
        from pydantic import ValidationError

        evaluator = self._predictor.evaluator
        name = f"value {position}"
        fields: Any = value
        if isinstance(value, bytes):
            fields = {self._bytes_field(name): base64.b64encode(value).decode()}
        try:
            query: BaseModel
            if isinstance(value, str | Path):
                query = evaluator.read(str(value))
                return query
            if isinstance(fields, Mapping):
                query = evaluator.Query.model_validate(dict(fields))
                return query
        except ValidationError as error:
            raise _unusable(name, error.errors()[0]["msg"]) from None
        except OSError as error:
            raise _unusable(name, str(error.strerror)) from None
        raise _unusable(name, f"it is a {type(value).__name__}")

    def _bytes_field(self, name: str) -> str:
        """Return the field of a query that holds bytes.

        Raises:
            InputError: the model takes no bytes.
        """
        schema = self._predictor.evaluator.Query.model_json_schema()
        for key, entry in schema.get("properties", {}).items():
            if entry.get("contentEncoding") == "base64":
                return str(key)
        raise _unusable(name, "it is bytes, which the model does not take")


def _unusable(name: str, reason: str) -> InputError:
    return InputError(
        f"{name} cannot be answered: {reason}",
        where="predict",
        remedy="give a text, a dict of columns, or a picture as bytes or path",
    )


def champion(name: str = "default", root: Path | None = None) -> ChampionModel:
    """Return the released model of a pipeline, verified and loaded in this process.

    Answers below the threshold of `serve.abstain` are marked as not sure, as the service does.

    Args:
        name: of the pipeline.
        root: of the project; None: the one around the current folder.

    Raises:
        InputError: there is no champion.
        BundleError: its files differ from those that were registered, or cannot be read.
        EnvironmentFault: the registry does not answer.
    """
    from components.inference.predictor import load
    from components.orchestration.service.service import released
    from components.registry.versions.model_versions import fetch_registered

    folder = root or project.root()
    params, leading = released(folder, name)
    abstain: float | None = params.sections["serve"].abstain  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        bundle = fetch_registered(folder, params.name, leading.number, Path(scratch))
        predictor = load(bundle.folder, abstain, bundle.digest)
    return ChampionModel(name, leading.number, predictor.card, predictor)


def run(name: str = "default", *, fresh: bool = False, root: Path | None = None) -> None:
    """Run a pipeline from ingest to serve, as `gristmill run` does.

    Args:
        name: of the pipeline.
        fresh: whether all stages run again.
        root: of the project; None: the one around the current folder.

    Raises:
        GristmillError: the run failed. Its output says why.
    """
    from components.orchestration.runner.run import run_pipeline

    code = run_pipeline(root or project.root(), name, fresh)
    if code:
        raise GristmillError(
            f"the run of pipeline {name!r} ended with exit code {code}",
            where="run",
            remedy="its output above says why",
        )


def export(
    name: str, to: Path | str, *, format: str = "onnx", root: Path | None = None
) -> Exported:
    """Write the champion of a pipeline to a folder, as `gristmill export` does.

    Args:
        name: of the pipeline.
        to: a folder that does not exist, or is empty.
        format: onnx, torchscript, torch-export, openvino or safetensors.
        root: of the project; None: the one around the current folder.

    Returns:
        What was written, and how far its answers are from the champion's.

    Raises:
        GristmillError: see `export_champion`.
    """
    from components.orchestration.export.export_folder import export_champion

    return export_champion(root or project.root(), name, Path(to), format)
