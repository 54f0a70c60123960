"""Messages to webhooks, of which none makes a command fail.

A message of `post` that does not arrive is lost. `components.orchestration.release_events` sends
its messages again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.core import escaping
from components.core.terminal import print_line
from components.registry.release.retrain_record import RetrainRecord

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 10.0
# Bytes of an answer that are read.
_LONGEST_ANSWER = 1 << 16
# Keys in the answers of DingTalk and WeCom, and of Feishu: 0 means that the message was accepted.
_CODES = ("errcode", "code")


def post(url: str, message: Mapping[str, Any]) -> str:
    """Send a message as JSON.

    Args:
        url: of the webhook. Its path and query may hold a secret.
        message: a mapping that JSON can hold.

    Returns:
        Why it was not accepted, without the URL; "" if it was accepted.
    """
    body = json.dumps(message).encode("ascii")
    return post_body(url, body, {}, _TIMEOUT_S)


def post_body(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> str:
    """Send a body of JSON. A redirect is not followed, and no answer is read beyond 64 KB.

    Args:
        url: of the webhook. Its path and query may hold a secret.
        body: of the request.
        headers: of the request, beside its type.
        timeout_s: seconds to connect, to send and to wait for each part of the answer.

    Returns:
        Why it was not accepted, without the URL and the words of the answer; "" if it was accepted.
    """
    import httpx

    headers = {"Content-Type": "application/json", **headers}
    try:
        with httpx.stream(
            "POST", url, content=body, headers=headers, timeout=timeout_s
        ) as response:
            if not response.is_success:
                return f"status {response.status_code}"
            return _refusal(_start_of(response))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__


def _start_of(response: httpx.Response) -> bytes:
    """Return the body of an answer, at most `_LONGEST_ANSWER` bytes of it."""
    start = b""
    for chunk in response.iter_bytes():
        start += chunk
        if len(start) >= _LONGEST_ANSWER:
            break
    return start[:_LONGEST_ANSWER]


def _refusal(answer: bytes) -> str:
    """Return the code with which a chat service refuses a message in an answer of status 200."""
    try:
        fields = json.loads(answer)
    except ValueError:
        return ""
    if not isinstance(fields, dict):
        return ""
    for key in _CODES:
        code = fields.get(key)
        if type(code) is int and code != 0:
            return f"{key} {code}"
    return ""


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
