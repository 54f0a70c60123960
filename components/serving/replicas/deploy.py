"""Deployment of a bundle on Ray Serve, and its removal. Ray must be initialized."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import EnvironmentFault, InputError
from components.monitoring.monitor_folder import Monitoring
from components.serving.http.client import healthy
from components.serving.http.keyring import Keyring
from components.serving.http.messages import ModelInfo, ModelRef
from components.serving.params import Scale, ServeParams
from components.serving.replicas.address import (
    cannot_listen,
    check_key,
    claim,
    inner,
    public,
    reachable,
    url_of,
)
from components.serving.rollout.plan import ServedVersion

if TYPE_CHECKING:
    from ray.serve import Application

_START_TIMEOUT_S = 180.0
# how long a dead replica may go unnoticed
_HEALTH_S = 2.0
_STOP_TIMEOUT_S = 30.0
# how often a free port is chosen anew when another process takes it first
_BIND_ATTEMPTS = 3
# from ray/serve/_private/http_util.py
_PORT_TAKEN = "Failed to bind to address"
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}
_ERROR = re.compile(r"^\s*(?:[\w.]+\.)?(\w*(?:Error|Exception|Fault|Interrupt): .+)$", re.MULTILINE)
# the cluster on which this process started Serve
_started_on: str | None = None


def deploy(
    bundle: Path,
    *,
    app_name: str,
    route_prefix: str,
    host: str,
    port: int | None,
    params: ServeParams,
    model: ModelInfo,
    plan_folder: Path | None = None,
    keys: Keyring | None = None,
    monitoring: Monitoring | None = None,
) -> str:
    """Serve a bundle under a name; if the name is taken, swap without dropping a request.

    Args:
        bundle: folder of the model.
        app_name: name of the Serve application.
        route_prefix: "/" or "/name".
        host: where to listen if Serve is not running yet.
        port: where to listen; 0 or None chooses a free one, or takes that of a Serve that runs.
        params: section `serve`.
        model: name and version that answers carry.
        plan_folder: a folder with the plan that the replicas follow
            (`components.serving.rollout.plan_files`).
        keys: the valid API keys; None: the key in the environment, or no key if there is none.
        monitoring: where answers are logged; None: nowhere.

    Returns:
        The base URL, without a slash at its end.

    Raises:
        EnvironmentFault: port taken, a public host without an API key, not enough resources on the
            cluster, no answer in time.
        InputError: the bundle cannot be loaded.
    """
    from ray import serve
    from ray.serve.api import RunTarget, run_many

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    keys = Keyring.from_environment() if keys is None else keys
    host, address = _start(host, port, params, keys.required)
    url = address + route_prefix.rstrip("/")
    is_swap = app_name in serve.status().applications
    first = ServedVersion(bundle=bundle.resolve(), model=model)
    app = application(first, plan_folder, listening_on(params, host), keys, monitoring)
    target = RunTarget(app, app_name, route_prefix, _QUIET)
    run_many([target], wait_for_applications_running=False)
    try:
        _wait(app_name, url, model.ref)
    except BaseException:
        # in a swap, the previous version goes on answering
        if not is_swap:
            remove(app_name)
        raise
    return url


def remove(app_name: str) -> None:
    """Remove an application.

    Serve is stopped too if this process started it and nothing else is served.

    Args:
        app_name: name of the Serve application.
    """
    global _started_on
    from ray import serve

    if app_name in serve.status().applications:
        serve.delete(app_name)
    if _started_on == _cluster() and not serve.status().applications:
        _shut_down()
        _started_on = None


def _shut_down() -> None:
    """Stop Serve, and return when the port is free again.

    The proxy dies a moment after the controller.

    Raises:
        EnvironmentFault: Serve did not stop in time.
    """
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client()
    address = (reachable(public(client.http_config.host)), client.http_config.port)
    _stop_controller()
    _wait_for_stop(lambda: not _listens(address))


def _stop_controller() -> None:
    """Stop the controller of Serve, and return when it is gone.

    `serve.shutdown()` waits for a call that dies with the controller, and Ray reports that on every
    console as a failed task.

    Raises:
        EnvironmentFault: the controller did not stop in time.
    """
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
    from ray.serve.context import _disconnect, _get_global_client

    client: Any = _get_global_client()
    client.shutdown_cached_handles()
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    ray.get(controller.graceful_shutdown.remote(wait=False), timeout=_STOP_TIMEOUT_S)
    _disconnect()
    _wait_for_stop(lambda: not _has_controller())


def _wait_for_stop(is_done: Callable[[], bool]) -> None:
    """Wait until a part of Serve has stopped.

    Raises:
        EnvironmentFault: it did not stop in time.
    """
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while not is_done():
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"Ray Serve did not stop within {_STOP_TIMEOUT_S:.0f} s",
                where="serve",
                remedy="gristmill down",
            )
        time.sleep(0.1)


def _has_controller() -> bool:
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        # a reset: it is closing, and not yet closed
        return True
    return True


def application(
    first: ServedVersion,
    plan_folder: Path | None,
    params: ServeParams,
    keys: Keyring,
    monitoring: Monitoring | None = None,
) -> Application:
    """Return a deployment of replicas.

    Args:
        first: the version that they begin with.
        plan_folder: a folder with the plan that they follow.
        params: section `serve`.
        keys: the valid API keys.
        monitoring: where answers are logged; None: nowhere.
    """
    from ray import serve

    from components.serving.replicas.replica import Replica

    # enough to fill the next batches, little enough to answer in time
    ongoing = 4 * params.max_batch_size
    deployment = serve.deployment(
        Replica,
        name="model",
        ray_actor_options={"num_cpus": params.num_cpus},
        max_ongoing_requests=ongoing,
        max_queued_requests=ongoing,
        # a swap starts the new replicas before it stops the old ones
        max_surge_percent=100,
        rolling_update_percentage=1.0,
        health_check_period_s=_HEALTH_S,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=params.request_timeout_s,
        max_constructor_retry_count=1,
        **_number(params.replicas),
    )
    return deployment.bind(first, plan_folder, params, keys, monitoring)


def listening_on(params: ServeParams, host: str) -> ServeParams:
    """Return params that also allow the address where the service listens as Host header."""
    return params.model_copy(update={"allowed_hosts": [*params.allowed_hosts, host]})


def _number(replicas: int | Scale) -> dict[str, Any]:
    if isinstance(replicas, int):
        return {"num_replicas": replicas}
    return {
        "autoscaling_config": {
            "min_replicas": replicas.min,
            "max_replicas": replicas.max,
            "target_ongoing_requests": replicas.target_ongoing,
        }
    }


def _start(
    host: str,
    port: int | None,
    params: ServeParams,
    keyed: bool,
) -> tuple[str, str]:
    """Start Serve, or join the one that runs.

    Returns:
        The host where it listens, and the URL of its proxy.
    """
    global _started_on

    # nothing public tells the proxy's host and port
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        return _join(client.http_config, port, keyed)
    check_key(host, keyed)
    for attempts_left in reversed(range(_BIND_ATTEMPTS)):
        free_port = claim(host, port or 0)
        if _start_proxy(inner(host), free_port, params):
            break
        if port or not attempts_left:
            raise cannot_listen(host, free_port, "another process took the port first")
    _started_on = _cluster()
    return host, url_of(host, free_port)


def _start_proxy(host: str, port: int, params: ServeParams) -> bool:
    """Start Serve and its HTTP proxy.

    Returns:
        False: another process took the port since it was free. Serve is stopped again.
    """
    from ray import serve
    from ray.exceptions import RayTaskError

    options = {
        "host": host,
        "port": port,
        # the app gives up first, with a better answer
        "request_timeout_s": params.request_timeout_s + 10,
    }
    try:
        serve.start(proxy_location="HeadOnly", http_options=options, logging_config=_QUIET)
    except RayTaskError as error:
        _stop_controller()
        if _PORT_TAKEN in str(error):
            return False
        raise
    return True


def _join(running: Any, port: int | None, keyed: bool) -> tuple[str, str]:
    """Join the Serve that runs.

    Args:
        running: its HTTP options.
        port: where to listen, if it matters.
        keyed: whether an API key is wanted.

    Returns:
        The host where it listens, and the URL of its proxy.
    """
    if port and port != running.port:
        what = (
            f"Ray Serve already runs on port {running.port} of this cluster, "
            f"so it cannot listen on {port}"
        )
        raise EnvironmentFault(
            what,
            where="--port",
            remedy=f"take --port {running.port}, or end what serves there first",
        )
    check_key(public(running.host), keyed)
    host = public(running.host)
    return host, url_of(host, running.port)


def _wait(app_name: str, url: str, ref: ModelRef) -> None:
    """Wait until the application runs and this version answers."""
    from ray import serve

    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        state = serve.status().applications.get(app_name)
        status = state.status.value if state else "DELETED"
        if status == "DEPLOY_FAILED":
            raise InputError(
                f"the model cannot be served: {_cause(state)}",
                where=app_name,
                remedy="gristmill status names the models that can be served",
            )
        if status == "RUNNING" and healthy(url) == ref.model_dump():
            return
        time.sleep(0.1)
    reason = status
    if messages := _messages(state):
        reason = f"{status}: {'; '.join(messages)}"
    raise EnvironmentFault(
        f"did not come up within {_START_TIMEOUT_S:.0f} s ({reason})",
        where=app_name,
        remedy="free CPUs on the cluster, or lower serve.num_cpus or serve.replicas",
    )


def _messages(state: Any) -> list[str]:
    """Return the messages of the deployments of an application."""
    if not state:
        return []
    return [part.message for part in state.deployments.values() if part.message]


def _cause(state: Any) -> str:
    """Return the error that a replica's traceback ends with."""
    messages = _messages(state)
    message = messages[0] if messages else state.message
    errors = _ERROR.findall(message)
    return str(errors[-1]) if errors else message.strip()


def _cluster() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)
