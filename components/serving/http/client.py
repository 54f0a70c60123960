"""A client of the service, which asks over HTTP as any other client would."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from components.core.errors import EnvironmentFault, InputError

_TRIES = 4
_FIRST_PAUSE_S = 0.4
_BUSY = (429, 503)


def ask(
    base_url: str,
    items: Sequence[Mapping[str, Any]],
    key: str | None = None,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Ask for predictions, in one request.

    Args:
        base_url: as `deploy` returns it.
        items: queries as plain values.
        key: the API key, if the service wants one.
        timeout_s: for each try, in seconds; a service that is busy or not there yet is tried again.

    Returns:
        {"predictions": [...], "model": {"name", "version", "data_hash"}}.

    Raises:
        EnvironmentFault: no answer, or none but errors.
        InputError: the service refused the items.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    trouble = ""
    # trust_env: a proxy for the outside world must not get what is meant for loopback.
    with httpx.Client(trust_env=False, timeout=timeout_s, headers=headers) as client:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                response = client.post(
                    f"{base_url}/v1/predict", json={"inputs": [dict(item) for item in items]}
                )
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}"
                continue
            if response.status_code not in _BUSY:
                return _read(response, base_url)
            trouble = f"status {response.status_code}"
    raise EnvironmentFault(
        f"does not answer ({trouble})", where=base_url, remedy="start it: gristmill serve"
    )


def healthy(base_url: str) -> dict[str, Any] | None:
    """Return the model that a service says it answers with, or None if it is not up."""
    import httpx

    # without `verify` each call reads all certificates, which takes 28 ms
    verify = base_url.startswith("https")
    try:
        response = httpx.get(f"{base_url}/healthz", trust_env=False, timeout=5, verify=verify)
        if response.status_code != 200:
            return None
        return dict(response.json()["model"])
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return None


def _read(response: Any, base_url: str) -> dict[str, Any]:
    if response.status_code == 200:
        return dict(response.json())
    if response.status_code == 401:
        raise EnvironmentFault(
            "wants an API key", where=base_url, remedy="set GRISTMILL_API_KEY to the service's key"
        )
    if 400 <= response.status_code < 500:
        raise InputError(
            f"refused the items with status {response.status_code}: {response.text[:500]}",
            where=base_url,
            remedy="mend the item that the answer names",
        )
    raise EnvironmentFault(
        f"failed with status {response.status_code}",
        where=base_url,
        remedy="look into the logs of Ray Serve: gristmill status names the folder",
    )
