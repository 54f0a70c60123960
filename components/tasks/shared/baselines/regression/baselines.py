"""NumberAnswer the mean of the train targets, which any model of numbers must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from components.tasks.base import NO_INPUTS, Arrays, Scorer, TargetInfo


class MeanBaseline:
    """The trivial baseline: the mean of the train targets, whatever the query."""

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,  # noqa: ARG002
        clean: BaseModel,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        validation: pa.Table | None = None,  # noqa: ARG002
        chosen: Mapping[str, bytes] | None = None,  # noqa: ARG002
        inputs: Mapping[str, Any] = NO_INPUTS,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Return the standardized mean.

        Args:
            rows: train rows of the clean table.
            targets: of clean, with center and scale of the target.
            options, clean, seed, validation, chosen, inputs: not used.

        Returns:
            {"logits": (1,)}; no files.
        """
        (center,) = targets["center"]
        (scale,) = targets["scale"]
        mean = float(rows["target"].to_numpy().astype(np.float64).mean())
        return {"logits": np.array([(mean - center) / scale], np.float32)}, {}

    def featurizer(
        self,
        files: Mapping[str, bytes],  # noqa: ARG002
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function that counts the queries, because only their number matters."""
        return lambda inputs: {"rows": np.zeros(len(next(iter(inputs.values()))))}

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return a scorer that gives the same standardized number to all queries.

        Args:
            arrays: {"logits": (1,)}.

        Raises:
            ValueError: there is not exactly one number.
        """
        mean = arrays["logits"].reshape(1, 1)

        def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
            """Return {"logits": (n, 1)}, equal in all rows."""
            return {"logits": np.tile(mean, (len(batch["rows"]), 1))}

        return score
