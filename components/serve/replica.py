"""One replica in Ray Serve: loads a bundle and answers for it until it is replaced."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from ray import serve

from components.engine.predict import load
from components.serve.app import build_app
from components.serve.params import ServeParams
from components.serve.wire import ModelInfo
from components.tasks.base import judge


@serve.ingress()
class Replica:
    """A loaded bundle behind the HTTP app.

    Args:
        bundle: folder, readable from the replica's node.
        model: what its answers name.
        params: limits and batching.
        key: the API key, if one is wanted.
    """

    def __init__(self, bundle: Path, model: ModelInfo, params: ServeParams, key: str | None) -> None:
        self._predictor, self._model, self._params, self._key = load(bundle), model, params, key
        query = judge(self._predictor.card.task).Query
        for example in model.examples[:1]:
            self._predictor.warm(query.model_validate(example))

    def __serve_build_asgi_app__(self) -> FastAPI:
        replica = serve.get_replica_context().replica_id.unique_id
        return build_app(self._predictor, self._model, self._params, key=self._key, replica=replica)
