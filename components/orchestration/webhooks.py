"""Messages to webhooks. Whoever is away misses them; nothing fails for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from components.core import escaping
from components.core.terminal import print_line
from components.registry.release.retrain_log import RetrainRecord

_PATIENCE_S = 10.0


def post(url: str, message: Mapping[str, Any]) -> str:
    """Send JSON. Returns why it was not taken, without the address, whose path and query may hold a secret; "" if it was."""
    import httpx

    try:
        answer = httpx.post(url, json=message, timeout=_PATIENCE_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    return "" if answer.is_success else f"status {answer.status_code}"


def tell(url: str | None, pipeline: str, made: RetrainRecord) -> bool:
    """Post a retrain's record as JSON, with the key `text` for services that show one line. Returns whether it was taken."""
    if not url:
        return False
    text = (
        f"gristmill: retrain of {pipeline}: {made.outcome}"
        + (f", version {made.version}" if made.version else "")
        + (f" ({made.detail})" if made.detail else "")
    )
    message = {"text": escaping.chat(text), "pipeline": pipeline, **asdict(made)}
    trouble = post(url, message)
    if trouble:
        print_line(
            f"the webhook at {urlsplit(url).hostname} did not take the message ({trouble}); the record is in gristmill history",
            err=True,
        )
    return not trouble
