"""Rules for the target of classification: the name of a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from components.core.params import Strict
from components.tasks.base import Options, TargetInfo
from components.tasks.shared.schema.classification.class_balance import ClassClean, CleanLabels
from components.tasks.shared.schema.classification.label_maps import LabelParams, SourceLabels

_Name = Annotated[str, Field(min_length=1, max_length=10_000)]


class ClassNames(Strict):
    """The classes of a model, in the order of its logits."""

    classes: Annotated[list[_Name], Field(min_length=1, max_length=1_000_000)]


class ClassTargets(SourceLabels, CleanLabels):
    """Rules for the names of classes."""

    Info: type[BaseModel] = ClassNames
    options: Options = {"ingest": LabelParams, "clean": ClassClean}

    def info(self, manifest: Mapping[str, Any]) -> TargetInfo:
        """Return the classes in a manifest of clean or of tokens."""
        return {"classes": manifest["classes"]}
