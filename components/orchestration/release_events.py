"""Messages to a webhook about decisions on versions.

The release log is the outbox: a decision is a record there before anything is sent. A tag of the
registered model names the last message that was accepted. So a kill loses no message. The next
command of the pipeline, or its service, sends what waits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from components.core import escaping
from components.core.errors import GristmillError, InputError
from components.core.terminal import print_line
from components.core.workspace import home
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import (
    VARIABLE,
    WEB_URL,
    Params,
    ReleaseEvent,
    ReleaseWebhook,
)
from components.orchestration.webhooks import post_body
from components.registry.release.release_log import Release, numbered_records, open_log
from components.registry.store.tracking_store import client, reached, tracking_uri
from components.registry.validation import json_value
from components.registry.versions.reader import (
    LOG,
    RegistrySnapshot,
    Version,
    argument,
    read_snapshot,
    reported_metric,
)

# Tag of a registered model: the key of the last message that was accepted.
SENT = "gristmill.webhook"
# Comes before all keys: nothing was decided when the webhook was set.
_START = "-"
# Seconds before the second and the third try of a message.
_WAITS_S = (0.5, 1.0)
# Seconds between two looks of a service after a failure, at most.
_LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True)
class Message:
    """One event of a decision.

    Args:
        key: its place among all messages of the pipeline, in the order of text.
        event: its name.
        release: the decision.
    """

    key: str
    event: ReleaseEvent
    release: Release


def events_of(release: Release) -> tuple[ReleaseEvent, ...]:
    """Return the events of a decision. An approval is two: the decision, and the new champion."""
    if release.decision == "waiting":
        return ("waiting_for_review",)
    if release.decision == "rejected":
        return ("rejected",)
    if release.decision == "rolled back":
        return ("rolled_back",)
    if release.decision == "promoted" and release.mode == "auto":
        return ("released",)
    if release.decision == "promoted":
        return ("approved", "released")
    return ()


def send_events(root: Path, params: Params) -> None:
    """Send the messages that wait. What is not accepted is printed, and waits for the next call.

    Call it before a decision too: the first call with a URL sends nothing and notes where messages
    begin, so that earlier decisions are not sent.

    Args:
        root: of the project.
        params: of the pipeline.
    """
    problem = deliver(root, params.name, params.release_webhook)
    if problem:
        print_line(
            f"release_webhook did not take a message ({problem}); the next command sends it again",
            err=True,
        )


def keep_sending(root: Path, params: Params, every_s: float, log: Callable[[str], None]) -> None:
    """Send messages in a thread of a service, as people decide in MLflow.

    Args:
        root: of the project.
        params: of the pipeline.
        every_s: seconds between two looks; after failures each wait is twice the last one.
        log: prints one line.
    """

    def work() -> None:
        pause = every_s
        earlier = ""
        while True:
            problem = deliver(root, params.name, params.release_webhook)
            if problem not in ("", earlier):
                log(f"release_webhook did not take a message ({problem}); it is sent again")
            earlier = problem
            pause = min(2 * pause, _LONGEST_PAUSE_S) if problem else every_s
            time.sleep(pause)

    if params.release_webhook.url is not None:
        threading.Thread(target=work, name="release events", daemon=True).start()


def deliver(root: Path, pipeline: str, webhook: ReleaseWebhook) -> str:
    """Send the messages that wait, oldest first, within `timeout_s`. No error leaves it.

    Args:
        root: of the project.
        pipeline: the registered model.
        webhook: its params.

    Returns:
        Why a message was not accepted; "" if none waits.
    """
    if webhook.url is None:
        return ""
    deadline = time.monotonic() + webhook.timeout_s
    lock = home(root) / "data" / ".state" / "release_webhook.lock"
    try:
        with only_one(lock, "a message about a release", wait=webhook.timeout_s):
            return _send_waiting(root, pipeline, webhook, deadline)
    except GristmillError as error:
        return error.what
    # The decision is made. Whatever is wrong with a message must not look like a failure of it.
    except Exception as error:
        return type(error).__name__


def _send_waiting(root: Path, pipeline: str, webhook: ReleaseWebhook, deadline: float) -> str:
    snapshot = read_snapshot(root, pipeline)
    if snapshot is None or SENT not in snapshot.tags:
        _mark(root, pipeline, _last_key(snapshot))
        return ""
    for message in messages(snapshot):
        if message.key <= snapshot.tags[SENT]:
            continue
        if message.event in webhook.events:
            problem = _send(root, snapshot, message, webhook, deadline)
            if problem:
                return problem
        _mark(root, pipeline, message.key)
    return ""


def messages(snapshot: RegistrySnapshot) -> Iterator[Message]:
    """Yield the messages of all decisions in the run of releases, oldest first."""
    for key, release in numbered_records(snapshot).items():
        for event in events_of(release):
            yield Message(f"{key}.{event}", event, release)


def _last_key(snapshot: RegistrySnapshot | None) -> str:
    keys = [message.key for message in messages(snapshot)] if snapshot else []
    return keys[-1] if keys else _START


def _mark(root: Path, pipeline: str, key: str) -> None:
    """Record the last message that was accepted."""
    opened = client(root)
    with reached(root):
        open_log(opened, root, pipeline)
        opened.set_registered_model_tag(pipeline, SENT, key)


def _send(
    root: Path,
    snapshot: RegistrySnapshot,
    message: Message,
    webhook: ReleaseWebhook,
    deadline: float,
) -> str:
    """Send one message, with two more tries. Return why it was not accepted."""
    url = _value(webhook.url or "")
    secret = _value(webhook.secret or "")
    if not WEB_URL.fullmatch(url):
        raise InputError("the value of release_webhook.url is no http:// or https:// address")
    fields = message_fields(root, snapshot, message)
    body = json.dumps(_formatted(fields, webhook.format), allow_nan=False).encode("ascii")
    problem = ""
    for wait in (0.0, *_WAITS_S):
        time.sleep(wait)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return problem or "no time was left"
        headers = signature_headers(str(fields["id"]), body, secret)
        problem = _post_within(left_s, url, body, headers)
        if not problem:
            return ""
    return problem


def _value(text: str) -> str:
    """Return a value, or that of the environment variable that it names.

    Raises:
        InputError: the variable is not set.
    """
    variable = VARIABLE.fullmatch(text)
    if variable is None:
        return text
    value = os.environ.get(variable[1])
    if not value:
        raise InputError(f"the environment variable {variable[1]} is not set")
    return value


def _post_within(seconds: float, url: str, body: bytes, headers: Mapping[str, str]) -> str:
    """Post a body, and give up after some seconds, whatever the receiver and its name server do."""
    problems: list[str] = []

    def work() -> None:
        try:
            problems.append(post_body(url, body, headers, seconds))
        except Exception as error:
            problems.append(type(error).__name__)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return problems[0] if problems else f"no answer within {seconds:.0f} s"


def signature_headers(message_id: str, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of Standard Webhooks: id, time and signature.

    Args:
        message_id: the same for each try of a message.
        body: of the request.
        secret: the key; "" leaves the signature out.
    """
    now = str(int(time.time()))
    headers = {"webhook-id": message_id, "webhook-timestamp": now}
    if secret:
        signed = f"{message_id}.{now}.".encode() + body
        digest = hmac.digest(secret.encode(), signed, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def message_fields(root: Path, snapshot: RegistrySnapshot, message: Message) -> dict[str, Any]:
    """Return the fields of a message, which JSON can hold.

    Args:
        root: of the project.
        snapshot: of the registry.
        message: of one of its decisions.
    """
    release = message.release
    version = next((one for one in snapshot.versions if one.number == release.version), None)
    return {
        "text": _sentence(snapshot.pipeline, message, version),
        "id": f"{snapshot.tags.get(LOG, '')}.{message.key}",
        "event": message.event,
        "pipeline": snapshot.pipeline,
        "version": release.version,
        "time": release.when,
        "who": release.who,
        "why": release.why,
        "champion_before": release.before,
        "champion": release.after,
        "refused_by": release.refused_by,
        "metrics": _metrics(version),
        "mlflow_run": version.run_id if version else "",
        "link": _link(root, snapshot.pipeline, release.version),
    }


def _sentence(pipeline: str, message: Message, version: Version | None) -> str:
    release = message.release
    phrase = {
        "waiting_for_review": f"waits for a person ({release.why}): "
        f"gristmill review show{argument(pipeline)} {release.version}",
        "approved": f"was approved by {release.who}: {release.why}",
        "rejected": f"was rejected by {release.who}: {release.why}",
        "released": f"is champion now, before: {_named(release.before)}",
        "rolled_back": f"is champion again, before: {_named(release.before)}; "
        f"rolled back by {release.who}: {release.why}",
    }[message.event]
    text = f"gristmill: version {release.version} of {pipeline} {phrase}"
    metric = reported_metric(version.tags if version else {})
    if metric.value != "?":
        text += f"; {metric.name} {metric.with_interval}"
    return escaping.chat(text)


def _named(version: int | None) -> str:
    return f"version {version}" if version else "none"


def _metrics(version: Version | None) -> dict[str, float]:
    """Return the metrics of a version on test, from its tag. What is no number is left out."""
    try:
        row = json_value(version.tags["leaderboard_row"] if version else "{}", dict, "registry")
        metrics = dict(row["test"])
    except (InputError, KeyError, TypeError, ValueError):
        return {}
    return {
        str(name): value
        for name, value in metrics.items()
        if type(value) in (int, float) and math.isfinite(value)
    }


def _link(root: Path, pipeline: str, version: int) -> str | None:
    """Return the page of a version in MLflow; None where the store has no server.

    A user name and a password in the address are left out.
    """
    uri = urlsplit(tracking_uri(root))
    if uri.scheme not in ("http", "https"):
        return None
    place = uri._replace(netloc=uri.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return f"{place.rstrip('/')}/#/models/{quote(pipeline, safe='')}/versions/{version}"


def _formatted(fields: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Return a message in the form of a chat service. Slack takes the fields as they are."""
    if form in ("dingtalk", "wecom"):
        return {"msgtype": "text", "text": {"content": fields["text"]}}
    if form == "feishu":
        return {"msg_type": "text", "content": {"text": fields["text"]}}
    return dict(fields)
