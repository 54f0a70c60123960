"""Messages to webhooks. A message that does not arrive is lost, and nothing fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from components.core import escaping
from components.core.terminal import print_line
from components.registry.release.retrain_record import RetrainRecord

_TIMEOUT_S = 10.0


def post(url: str, message: Mapping[str, Any]) -> str:
    """Send a message as JSON.

    Args:
        url: of the webhook. Its path and query may hold a secret.
        message: a mapping that JSON can hold.

    Returns:
        Why it was not accepted, without the URL; "" if it was accepted.
    """
    import httpx

    try:
        answer = httpx.post(url, json=message, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    if answer.is_success:
        return ""
    return f"status {answer.status_code}"


def notify(url: str | None, pipeline: str, retrain: RetrainRecord) -> bool:
    """Post the record of a retrain as JSON, with the key `text` for services that show one line.

    Args:
        url: of the webhook; None: nothing is sent.
        pipeline: its name.
        retrain: the record.

    Returns:
        Whether the message was accepted.
    """
    if not url:
        return False
    text = f"gristmill: retrain of {pipeline}: {retrain.outcome}"
    if retrain.version:
        text += f", version {retrain.version}"
    if retrain.detail:
        text += f" ({retrain.detail})"
    message = {"text": escaping.chat(text), "pipeline": pipeline, **asdict(retrain)}
    reason = post(url, message)
    if reason:
        print_line(
            f"the webhook at {urlsplit(url).hostname} did not take the message ({reason}); "
            "the record is in gristmill history",
            err=True,
        )
    return not reason
