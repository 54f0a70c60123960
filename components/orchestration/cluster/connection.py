"""Connection of this process, as a Ray driver, to an embedded Ray or to a cluster of others.

It sets the environment of the driver, and sends this project's code to a cluster of others.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault
from components.core.garbage import ARROW_MEMORY
from components.orchestration.cluster.supervisor import QUIET

_ANSWER_S = 10.0
_ALONE = "or unset RAY_ADDRESS to use this machine alone"


@contextmanager
def connected(
    address: str, settings: Mapping[str, str], remedy: str, **options: Any
) -> Iterator[None]:
    """Connect this process to Ray with these settings in its environment while the block runs.

    Args:
        address: of the head.
        settings: environment variables; their earlier values are restored afterwards.
        remedy: what to do where Ray refuses the connection.
        options: of `ray.init`.

    Raises:
        EnvironmentFault: Ray refuses; carries the remedy.
    """
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        _reread_environment()
        import ray

        handler = signal.getsignal(signal.SIGTERM)
        _init_ray(address, remedy, options)
        _handle_sigterm(handler)
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        for name in settings:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
        _reread_environment()


def _init_ray(address: str, remedy: str, options: Mapping[str, Any]) -> None:
    import ray

    try:
        ray.init(address=address, logging_level="WARNING", log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EnvironmentFault(
            f"Ray does not take the connection: {reason}",
            where=address,
            remedy=remedy,
        ) from error


def _handle_sigterm(handler: Any) -> None:
    """Take SIGTERM back from Ray.

    Its handler in C++ prints a stack trace, and aborts a process that needs more than three
    seconds to end.

    Args:
        handler: the one before Ray's; the default gives way to the handler that Ray has in Python.
    """
    if threading.current_thread() is threading.main_thread():
        handler = handler if callable(handler) else signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, handler)


def _reread_environment() -> None:
    """Make Ray read its environment variables again.

    Ray reads them when it is imported, and keeps the first token that it has read.
    """
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, not ray_constants.IS_WINDOWS_OR_OSX
    )
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def joined(address: str, root: Path) -> Iterator[None]:
    """Connect this process to a cluster of others while the block runs.

    Its nodes get the code of this project.

    Args:
        address: of the head, HOST:PORT.
        root: of the project.

    Raises:
        EnvironmentFault: it does not answer, or refuses.
    """
    _check_answer(address)
    settings = dict(QUIET)
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        # A driver's default is off, even where there is a token.
        settings["RAY_AUTH_MODE"] = os.environ.get("RAY_AUTH_MODE", "token")
    code = {
        "py_modules": [str(root / "components")],
        "excludes": ["dvc_plots", "__pycache__"],
        "env_vars": {**QUIET, **ARROW_MEMORY},
    }
    remedy = (
        "run on one of its nodes, with its versions of Python and Ray, "
        f"and its RAY_AUTH_TOKEN if it has one; {_ALONE}"
    )
    with connected(address, settings, remedy, runtime_env=code):
        yield


def _check_answer(address: str) -> None:
    """Raise unless a gRPC server answers. Ray itself would try for minutes.

    Raises:
        EnvironmentFault: no server answers, or the address is one of Ray Client.
    """
    import grpc  # type: ignore[import-untyped]

    where = f"RAY_ADDRESS={address}"
    uses_tls = os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true")
    # Only Ray has the addresses of "auto", and the certificates of TLS.
    if address == "auto" or uses_tls:
        return
    if "://" in address:
        raise EnvironmentFault(
            "is for Ray Client, but stages run on a node of the cluster",
            where=where,
            remedy=f"give HOST:PORT of its head, on one of its nodes; {_ALONE}",
        )
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_S)
        except grpc.FutureTimeoutError:
            raise EnvironmentFault(
                f"does not answer within {_ANSWER_S:.0f} s",
                where=where,
                remedy=f"start that cluster, or give HOST:PORT of its head; {_ALONE}",
            ) from None
