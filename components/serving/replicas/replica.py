"""One replica in Ray Serve: loads a bundle and answers for it, and for those that follow it, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from ray import serve

from components.inference.predictor import load
from components.serving.http.api_keys import Keyring
from components.serving.http.app import build_app
from components.serving.http.monitoring_routes import Monitored, Monitoring
from components.serving.params import ServeParams
from components.serving.rollout.plan import ServedVersion
from components.serving.rollout.plan_files import PlanFiles
from components.serving.rollout.version_router import VersionRouter


@serve.ingress()
class Replica:
    """Loaded bundles behind the HTTP app.

    Args:
        first: what to begin with, if no board says otherwise.
        board: a folder with the plan to follow; it and the bundles are readable from the replica's node.
        params: limits and batching.
        keys: who may ask, as hashes.
        monitoring: where answers are logged, if anywhere.
    """

    def __init__(
        self,
        first: ServedVersion,
        board: Path | None,
        params: ServeParams,
        keys: Keyring,
        monitoring: Monitoring | None = None,
    ) -> None:
        _close_to_others()
        self._params, self._keys = params, keys
        self._name = serve.get_replica_context().replica_id.unique_id
        self._monitored = Monitored(monitoring, self._name) if monitoring else None
        shared = PlanFiles(board) if board else None
        told = shared.plan() if shared else None
        self._swap = VersionRouter(told[0].stable if told else first, self._app, shared, self._name)

    def __serve_build_asgi_app__(self) -> VersionRouter:
        return self._swap

    def _app(self, edition: ServedVersion) -> FastAPI:
        return build_app(
            load(edition.bundle, self._params.abstain),
            edition.model,
            self._params,
            keys=self._keys,
            replica=self._name,
            monitored=self._monitored,
        )


def _close_to_others() -> None:
    """Ray opens a port for calls between deployments by gRPC on all interfaces. Nobody uses it here, so it is opened on loopback."""
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import constants, replica

    if not constants.RAY_SERVE_USE_GRPC_BY_DEFAULT:
        replica.add_port_to_grpc_server = lambda server, address: add_port_to_grpc_server(
            server, address.replace("[::]", "127.0.0.1")
        )
