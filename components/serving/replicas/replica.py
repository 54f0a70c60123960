"""One replica in Ray Serve.

It loads a bundle and answers for it, and for the versions that follow, until it is stopped.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from ray import serve

from components.inference.predictor import load
from components.monitoring.monitor_folder import Monitoring
from components.serving.http.app import build_app
from components.serving.http.keyring import Keyring
from components.serving.http.monitoring_routes import ReplicaMonitor
from components.serving.params import ServeParams
from components.serving.rollout.plan import ServedVersion
from components.serving.rollout.plan_files import PlanFiles
from components.serving.rollout.version_router import VersionRouter


@serve.ingress()
class Replica:
    """Loaded bundles behind the HTTP app.

    Args:
        first: the version to begin with, if there is no plan.
        plan_folder: a folder with the plan to follow. It and the bundles are readable from the
            replica's node.
        params: limits and batching.
        keys: the valid API keys, as hashes.
        monitoring: where answers are logged, if anywhere.
    """

    def __init__(
        self,
        first: ServedVersion,
        plan_folder: Path | None,
        params: ServeParams,
        keys: Keyring,
        monitoring: Monitoring | None = None,
    ) -> None:
        _bind_grpc_to_loopback()
        self._params = params
        self._keys = keys
        self._name = serve.get_replica_context().replica_id.unique_id
        self._monitored = ReplicaMonitor(monitoring, self._name) if monitoring else None
        plan_files = PlanFiles(plan_folder) if plan_folder else None
        latest = plan_files.plan() if plan_files else None
        if latest:
            plan, _ = latest
            first = plan.stable
        self._router = VersionRouter(first, self._build_app, plan_files, self._name)

    def __serve_build_asgi_app__(self) -> VersionRouter:
        return self._router

    def _build_app(self, version: ServedVersion) -> FastAPI:
        return build_app(
            load(version.bundle, self._params.abstain),
            version.model,
            self._params,
            keys=self._keys,
            replica=self._name,
            monitored=self._monitored,
        )


def _bind_grpc_to_loopback() -> None:
    """Bind the gRPC port of Ray Serve to loopback.

    Ray opens a port for calls between deployments by gRPC on all interfaces. Nothing uses it here.
    """
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import constants, replica

    if not constants.RAY_SERVE_USE_GRPC_BY_DEFAULT:
        replica.add_port_to_grpc_server = lambda server, address: add_port_to_grpc_server(
            server, address.replace("[::]", "127.0.0.1")
        )
