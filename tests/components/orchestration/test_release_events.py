"""Messages about decisions on versions, which a receiver on this machine gets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.cli.main import app
from components.core.console import console
from components.core.errors import ParamsError
from components.core.params import read_yaml
from components.orchestration import release_events
from components.orchestration.pipeline_params import ReleaseWebhook, load
from components.orchestration.release_events import SENT, deliver, keep_sending, send_events
from components.registry.release.gates import Gate
from components.registry.release.promotion import release
from components.registry.versions.reader import read_snapshot
from tests.components.orchestration.filled_registry import fill, put
from tests.faults.forked_commands import ForkedCommands
from tests.structure.import_graph import ROOT

WHO = ("--by", "李雷", "--note", 'seen, "fine" <!channel>\n\x1b[2J')
KEY = "a key of the tests"


@dataclass
class Receiver:
    """A server that keeps what it gets, and answers as it is told."""

    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204
    answer: bytes = b""
    delay_s: float = 0.0
    location: str = ""
    url: str = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    @property
    def events(self) -> list[tuple[str, int]]:
        return [(body["event"], body["version"]) for body in self.bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Runs until the test ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append((dict(self.headers), body))
            time.sleep(receiver.delay_s)
            self.send_response(receiver.status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            self.wfile.write(receiver.answer)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/path-with-secret"
    yield receiver
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def filled(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 is the champion, 2 waits, 3 is refused. Then a webhook is set."""
    root = tmp_path_factory.mktemp("events") / "p"
    fill(root, empty_store)
    assert deliver(root, "default", ReleaseWebhook(url="http://127.0.0.1:9")) == "", (
        "decisions of the time before are not sent"
    )
    return root


@pytest.fixture(scope="module")
def commands() -> Iterator[ForkedCommands]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EVENTS_KEY", KEY)
        commands = ForkedCommands()
    yield commands
    commands.end()


@pytest.fixture
def project(
    filled: Path, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project whose webhook is set, after three earlier decisions."""
    root = shutil.copytree(filled, tmp_path / "p")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("EVENTS_KEY", KEY)
    monkeypatch.setattr(release_events, "_WAITS_S", (0.0, 0.0))
    monkeypatch.chdir(root)
    set_webhook(root, url=receiver.url, secret="${EVENTS_KEY}")
    return root


def set_webhook(root: Path, **values: Any) -> None:
    file = root / "params.yaml"
    tree = read_yaml(file)
    tree["release_webhook"].update(values)
    # JSON is YAML, and quick to write.
    file.write_text(json.dumps(tree), encoding="utf-8")


def run(*words: str) -> str:
    before = console.file
    console.file = io.StringIO()
    try:
        done = CliRunner().invoke(app, list(words), catch_exceptions=True)
    finally:
        console.file = before
    assert done.exception is None, done.exception
    return done.output


def register_passing(root: Path, number: int) -> None:
    """Register a version and let a program decide, as stage serve does."""
    params = load(root / "params.yaml")
    gates = [Gate("champion", True, against=1)]
    put(root, number, "+" * 99 + "-", gates)
    mode = params.sections["registry"].mode  # type: ignore[attr-defined]
    release(root, "default", number, gates, mode=mode, who="stage", why="gates")
    send_events(root, params)


def sign(headers: dict[str, str], body: bytes) -> str:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(KEY.encode(), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def test_each_event_arrives_once_with_a_signature(project: Path, receiver: Receiver) -> None:
    # when a program releases, a person approves, rejects and rolls back, and a version waits
    register_passing(project, 4)
    run("review", "approve", "2", *WHO, "--override", "champion")
    run("rollback", *WHO)
    run("review", "reject", "3", *WHO)
    (project / "params.yaml").write_text(
        (project / "params.yaml").read_text().replace('"mode": "auto"', '"mode": "review"')
    )
    register_passing(project, 5)
    run("review", "list")
    # then each event arrives once, in order
    assert receiver.events == [
        ("released", 4),
        ("approved", 2),
        ("released", 2),
        ("rolled_back", 4),
        ("rejected", 3),
        ("waiting_for_review", 5),
    ]
    assert len({body["id"] for body in receiver.bodies}) == 6
    for headers, body in receiver.requests:
        assert headers["webhook-signature"] == sign(headers, body)
        assert headers["webhook-id"] == json.loads(body)["id"]
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
    approved = receiver.bodies[1]
    assert (approved["who"], approved["why"]) == (WHO[1], WHO[3])
    assert (approved["champion_before"], approved["champion"]) == (4, 2)
    assert approved["metrics"] == {"accuracy": 0.95}
    assert approved["time"].endswith("+00:00")
    assert "<" not in approved["text"] and "\x1b" not in approved["text"]
    assert "accuracy 0.9500 (0.9000–1.0000)" in approved["text"]
    assert "gristmill review show 5" in receiver.bodies[5]["text"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 500, "answer": b"\x1b[2J" + KEY.encode()}, "status 500"),
        ({"status": 307, "location": "http://127.0.0.1:9/"}, "status 307"),
        ({"status": 200, "answer": b'{"errcode": 310000, "errmsg": "x"}'}, "errcode 310000"),
        ({"delay_s": 2.0}, "no answer within|ReadTimeout"),
    ],
)
def test_a_message_that_is_not_accepted_waits_for_the_next_command(
    project: Path, receiver: Receiver, answer: dict[str, Any], reason: str
) -> None:
    # given a receiver that does not take messages
    set_webhook(project, timeout_s=0.5)
    normal = Receiver()
    for name, value in answer.items():
        setattr(receiver, name, value)
    # when a person decides, then the decision is made, soon, and the reason is shown without text
    # of the receiver
    began = time.monotonic()
    printed = run("review", "reject", "2", *WHO)
    assert time.monotonic() - began < 10
    assert "is rejected by" in printed
    [line] = [line for line in printed.splitlines() if "release_webhook" in line]
    assert re.search(reason, line)
    assert KEY not in printed and "path-with-secret" not in printed and "\x1b" not in printed
    # and when the receiver is well, the next command sends the same message
    ids = {body["id"] for body in receiver.bodies}
    for name in answer:
        setattr(receiver, name, getattr(normal, name))
    time.sleep(answer.get("delay_s", 0.0))
    receiver.requests.clear()
    run("review", "list")
    run("review", "list")
    assert receiver.events == [("rejected", 2)]
    assert {body["id"] for body in receiver.bodies} == ids


def test_a_receiver_that_is_down_gets_all_messages_in_order_later(
    project: Path, receiver: Receiver
) -> None:
    set_webhook(project, url="http://127.0.0.1:9/path-with-secret")
    printed = run("review", "approve", "2", *WHO) + run("rollback", *WHO)
    assert printed.count("ConnectError") == 3 and "path-with-secret" not in printed
    set_webhook(project, url=receiver.url)
    run("review", "list")
    assert receiver.events == [("approved", 2), ("released", 2), ("rolled_back", 1)]


@pytest.mark.parametrize(
    ("moment", "copies"),
    [
        ("components.registry.release.release_log:append:return:1", 1),
        ("components.orchestration.release_events:_send:call:1", 1),
        ("components.orchestration.release_events:_send:return:1", 2),
        ("components.orchestration.release_events:_mark:return:1", 1),
    ],
)
def test_a_kill_loses_no_message(
    project: Path, receiver: Receiver, commands: ForkedCommands, moment: str, copies: int
) -> None:
    # given a command that is killed
    code, printed = commands.run(project, ("review", "reject", "2", *WHO), moment)
    assert code == -signal.SIGKILL, printed
    # when there is a next command, then the message has arrived; copies of it have one id
    run("review", "list")
    assert receiver.events == [("rejected", 2)] * copies
    assert len({body["id"] for body in receiver.bodies}) == 1


def test_two_processes_at_once_send_a_message_once(project: Path, receiver: Receiver) -> None:
    receiver.delay_s = 0.2
    set_webhook(project, url="http://127.0.0.1:9")
    run("review", "reject", "2", *WHO)
    set_webhook(project, url=receiver.url)
    webhook = load(project / "params.yaml").release_webhook
    threads = [
        threading.Thread(target=deliver, args=(project, "default", webhook)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert receiver.events == [("rejected", 2)]


def test_events_that_are_not_listed_are_not_sent(project: Path, receiver: Receiver) -> None:
    set_webhook(project, events=["rolled_back"])
    run("review", "approve", "2", *WHO)
    run("rollback", *WHO)
    assert receiver.events == [("rolled_back", 1)]
    set_webhook(project, events=["approved", "rolled_back"])
    run("review", "list")
    assert len(receiver.events) == 1, "what was passed over stays so"


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("wecom", lambda body: body["text"]["content"]),
        ("dingtalk", lambda body: body["text"]["content"]),
        ("feishu", lambda body: body["content"]["text"]),
    ],
)
def test_chat_services_get_one_sentence(
    project: Path, receiver: Receiver, form: str, read: Callable[[dict[str, Any]], str]
) -> None:
    set_webhook(project, format=form)
    receiver.status = 200
    receiver.answer = b'{"errcode": 0, "code": 0}'
    run("review", "reject", "2", "--by", "ann", "--note", "worse")
    [body] = receiver.bodies
    assert read(body).startswith(
        "gristmill: version 2 of default was rejected by ann: worse; accuracy 0.9500"
    )


def test_the_address_may_be_in_the_environment(
    project: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_webhook(project, url="${EVENTS_URL}")
    printed = run("review", "reject", "2", *WHO)
    assert "the environment variable EVENTS_URL is not set" in printed
    monkeypatch.setenv("EVENTS_URL", "file:///etc/passwd")
    assert "no http:// or https:// address" in run("review", "list")
    monkeypatch.setenv("EVENTS_URL", receiver.url)
    run("review", "list")
    assert receiver.events == [("rejected", 2)]


def test_a_message_without_a_key_in_the_environment_is_not_sent_unsigned(
    project: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENTS_KEY")
    assert "EVENTS_KEY is not set" in run("review", "reject", "2", *WHO)
    assert receiver.requests == []


def test_the_first_version_of_a_pipeline_is_sent(
    project: Path, receiver: Receiver, empty_store: Path, tmp_path: Path
) -> None:
    """The webhook was set before anything was registered."""
    root = tmp_path / "new"
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("mlflow", "data"))
    shutil.copytree(empty_store, root, dirs_exist_ok=True)
    send_events(root, load(root / "params.yaml"))
    put(root, 1, "+" * 9, [])
    release(root, "default", 1, [], mode="auto", who="stage", why="gates")
    send_events(root, load(root / "params.yaml"))
    assert receiver.events == [("released", 1)]


def test_a_service_sends_what_people_decide_elsewhere(project: Path, receiver: Receiver) -> None:
    set_webhook(project, url="http://127.0.0.1:9")
    run("review", "reject", "2", *WHO)
    set_webhook(project, url=receiver.url)
    keep_sending(project, load(project / "params.yaml"), 0.1, lambda _: None)
    deadline = time.monotonic() + 30
    while not receiver.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert receiver.events == [("rejected", 2)]


def test_a_link_shows_the_version_in_mlflow_without_a_password(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = read_snapshot(project, "default")
    assert snapshot and SENT in snapshot.tags
    message = next(release_events.messages(snapshot))
    fields = release_events.message_fields(project, snapshot, message)
    assert fields["link"] is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:word@mlflow.example.com/base/")
    fields = release_events.message_fields(project, snapshot, message)
    assert fields["link"] == "https://mlflow.example.com/base/#/models/default/versions/1"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "ftp://a/word"),
        ("url", "https://ann:word@a"),
        ("url", "https://a word"),
        ("url", "word"),
        ("secret", "word"),
    ],
)
def test_a_wrong_address_or_a_written_key_is_refused_without_being_shown(
    tmp_path: Path, key: str, value: str
) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    set_webhook(tmp_path, **{key: value})
    with pytest.raises(ParamsError) as caught:
        load(tmp_path / "params.yaml")
    assert f"release_webhook.{key}" in str(caught.value)
    assert "word" not in str(caught.value)


def test_nothing_is_read_or_sent_by_default(tmp_path: Path) -> None:
    assert ReleaseWebhook().url is None
    assert deliver(tmp_path, "default", ReleaseWebhook()) == ""
    assert not list(tmp_path.iterdir())
