"""Floods, slow clients, and the end of a service: turned away quickly, told when to come again, nobody else hurt."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn
from scenario import STUCK, metric, wait_for

from components.serving.http.app import build_app
from components.serving.http.keyring import Key, Keyring
from components.serving.http.rate_limit import TokenBucket
from components.serving.params import ServeParams

JSON = {"content-type": "application/json"}


def params(**limits):
    return ServeParams.model_validate({"limits": limits})


def post(asked, text, **options):
    return asked.post("/v1/predict", json={"text": text}, **options)


def test_a_flood_is_answered_503_at_once_while_the_model_is_busy(client, stuck):
    with client(stuck, params(queued_items=4)) as asked, ThreadPoolExecutor(4) as pool:
        inside = [pool.submit(post, asked, STUCK) for _ in range(4)]
        wait_for(asked, "gristmill_queue_items", 4)
        flood = [post(asked, "good") for _ in range(20)]  # comes back though the model does not
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in flood} == {
            (503, "1")
        }
        assert not any(each.done() for each in inside)
        assert (
            asked.get("/readyz").status_code == 200
        )  # busy is not broken: a balancer must not take all replicas out
        stuck.go.set()
        assert [each.result().status_code for each in inside] == [200] * 4
        assert post(asked, "good").status_code == 200
        assert metric(asked, "gristmill_rejected_total") == 20
        assert 'reason="overload"' in asked.get("/metrics").text


def test_a_request_with_more_items_than_there_is_room_for_is_refused_while_others_wait(
    client, stuck
):
    with client(stuck, params(queued_items=4)) as asked, ThreadPoolExecutor(1) as pool:
        inside = pool.submit(post, asked, STUCK)
        wait_for(asked, "gristmill_queue_items", 1)
        assert asked.post("/v1/predict", json={"inputs": [{"text": "a"}] * 4}).status_code == 503
        stuck.go.set()
        assert inside.result().status_code == 200
    with client(params=params(queued_items=4)) as asked:
        assert (
            asked.post("/v1/predict", json={"inputs": [{"text": "a"}] * 8}).status_code == 200
        )  # nobody waits


def test_a_key_that_asks_too_much_is_told_when_to_come_again_and_others_are_not(client):
    asked = client(
        params=params(items_per_s=0.01, burst_items=5),
        keys=Keyring([Key.of("ann", "a"), Key.of("bob", "b")]),
    )
    ann, bob = ({"authorization": f"Bearer {secret}"} for secret in "ab")
    assert (
        asked.post("/v1/predict", json={"inputs": [{"text": "a"}] * 8}, headers=ann).status_code
        == 200
    )  # into debt, once
    refused = post(asked, "a", headers=ann)
    assert (refused.status_code, 350 < int(refused.headers["retry-after"]) <= 400) == (429, True)
    assert [post(asked, "a", headers=bob).status_code for _ in range(6)] == [200] * 5 + [429]
    assert asked.get("/v1/model", headers=ann).status_code == 200
    assert (
        'gristmill_rejected_total{reason="rate",replica="0"} 2.0'
        in asked.get("/metrics", headers=ann).text
    )


def test_a_bucket_fills_with_time_and_not_over_its_brim():
    now = [0.0]
    bucket = TokenBucket(2.0, 4, lambda: now[0])
    bucket.charge(4)
    assert bucket.delay() == 0.5
    now[0] = 0.5
    assert bucket.delay() == 0.0
    now[0] = 1000.0
    bucket.charge(4)
    assert bucket.delay() == 0.5
    assert TokenBucket(None, 1, lambda: now[0]).delay() == 0.0


@pytest.mark.parametrize(("size", "status"), [(200_000, 422), (1_000_000, 422), (1_100_000, 413)])
def test_a_text_that_is_too_long_is_refused_before_the_model_sees_it(size, status, client, stub):
    predictor = stub()
    answer = client(predictor).post(
        "/v1/predict",
        content=json.dumps({"text": "字" * (size // 3)}, ensure_ascii=False).encode(),
        headers=JSON,
    )
    assert answer.status_code == status and not predictor.batches
    assert "字" not in answer.text


def test_ten_thousand_items_are_refused_before_the_model_sees_them(client, stub):
    predictor = stub()
    answer = client(predictor).post("/v1/predict", json={"inputs": [{"text": "a"}] * 10_000})
    assert (answer.status_code, predictor.batches) == (422, [])


def test_a_model_that_answers_nan_is_broken_and_says_nothing(client, stub):
    class Nan(stub):
        def _answer(self, text):
            return (
                super()
                ._answer(text)
                .model_validate({"label": "好评", "probability": float("nan"), "probabilities": {}})
            )

    answer = client(Nan()).post("/v1/predict", json={"text": "a"})
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal error"})


def test_a_service_that_ends_answers_who_is_inside_and_sends_the_rest_away(client, stuck):
    with client(stuck) as asked, ThreadPoolExecutor(2) as pool:
        assert (asked.get("/readyz").status_code, asked.get("/readyz").json()["status"]) == (
            200,
            "ok",
        )
        inside = pool.submit(post, asked, STUCK)
        wait_for(asked, "gristmill_queue_items", 1)
        leaving = pool.submit(asked.portal.call, asked.app.state.drain.leave, 30.0)
        while not asked.app.state.drain.closing:
            time.sleep(0.001)
        late, ready = post(asked, "good"), asked.get("/readyz")
        assert (
            late.status_code,
            late.headers["retry-after"],
            ready.status_code,
            ready.json()["status"],
        ) == (503, "1", 503, "draining")
        assert asked.get("/healthz").status_code == 200
        assert not leaving.done()
        stuck.go.set()
        assert inside.result().status_code == 200
        leaving.result()


def test_it_is_not_ready_before_it_is_warm(client, stuck):
    asked = client(stuck)  # its start has not run
    assert (
        asked.get("/readyz").status_code,
        asked.get("/readyz").json()["status"],
        asked.get("/healthz").status_code,
    ) == (503, "warming", 200)


@pytest.fixture
def url(stub, model) -> Iterator[str]:
    """A real server on a socket, whose bodies must arrive within 0.3 s."""
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(stub(), model, params(body_timeout_s=0.3)), port=0, log_level="error"
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def opened(url: str, sent: bytes) -> socket.socket:
    """A connection on which something was sent."""
    made = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30)
    made.sendall(sent)
    return made


HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def test_slow_clients_are_let_go_and_hold_nobody_up(url):
    slow = [opened(url, HEAD + b'{"text": ') for _ in range(20)]
    gone = opened(url, HEAD + b'{"te')
    gone.close()  # in the middle of its body
    with httpx.Client(trust_env=False, base_url=url) as asked:
        assert post(asked, "good").status_code == 200
        first = [each.recv(4096).split(b"\r\n")[0] for each in slow]
        assert first == [b"HTTP/1.1 408 Request Timeout"] * 20
        wait_for(asked, "gristmill_requests_in_flight", 0)
        assert 'gristmill_rejected_total{reason="slow",replica="0"} 2' in asked.get("/metrics").text
    for each in slow:
        each.close()


def test_bytes_that_are_no_request_end_their_connection_only(url):
    for noise in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"\x00" * 4096,
    ):
        with opened(url, noise) as made:
            made.shutdown(socket.SHUT_WR)
            assert made.recv(64)[:12] in (b"", b"HTTP/1.1 400")
    assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200


SERVICE = """
import sys, time, uvicorn
sys.path[:0] = sys.argv[1:]
from stub import MODEL, Stub
from components.serving.http.app import build_app
class Slow(Stub):
    def score(self, rows):
        print("scoring", flush=True)
        time.sleep(1)
        return super().score(rows)
uvicorn.run(build_app(Slow(), MODEL.model_copy(update={"examples": []})), fd=0, log_level="error")
"""


def test_sigterm_answers_what_is_in_flight_and_ends_well(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = Path(__file__)
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, str(here.parent), str(here.parents[3])],
            stdin=listening.fileno(),
            stdout=subprocess.PIPE,
        )
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with ThreadPoolExecutor(1) as pool:
        inside = pool.submit(
            httpx.post, f"{address}/v1/predict", json={"text": "good"}, trust_env=False, timeout=60
        )
        assert process.stdout is not None and process.stdout.readline() == b"scoring\n"
        process.send_signal(signal.SIGTERM)
        assert inside.result().status_code == 200
    assert process.wait(30) in (
        0,
        -signal.SIGTERM,
    )  # uvicorn raises the signal again when it is done
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/healthz", trust_env=False)


def test_nothing_that_a_request_names_is_opened(client, bars, tmp_path):
    from components.core.bundles import Card
    from components.inference.predictor import Predictor
    from components.training.batches import load_encoder

    encoder = load_encoder(bars.root / "tokens", bars.task)
    card = Card(bars.task, "numpy", "stub", {}, encoder.targets, 7, "", "", ["train"])
    predictor = Predictor(
        card,
        encoder.collate,
        lambda graph, batch: {"logits": batch["pixels"].reshape(len(batch["pixels"]), -1)[:, :2]},
        encoder.rows,
    )
    marked = tmp_path / "marked.png"
    picture = bars.rows("clean", "test")[0]["image"]
    marked.write_bytes(picture)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/x.png"
        link = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}"/></svg>'
        named = [str(marked), f"file://{marked}", address, link, "/etc/passwd", "../../etc/passwd"]
        seen: list[str] = []
        watching = [True]
        sys.addaudithook(
            lambda event, told: (
                seen.append(f"{event} {told}")
                if watching[0]
                and event
                in (
                    "open",
                    "socket.connect",
                    "socket.getaddrinfo",
                    "os.listdir",
                    "subprocess.Popen",
                )
                else None
            )
        )
        asked = client(predictor)
        statuses = [
            asked.post("/v1/predict", json={"image": text}).status_code
            for each in named
            for text in (each, base64.b64encode(each.encode()).decode())
        ]
        good = asked.post(
            "/v1/predict", json={"image": base64.b64encode(picture).decode()}
        ).status_code
        watching[0] = False
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert (set(statuses), good) == ({422}, 200)
    assert not [
        each
        for each in seen
        if "marked" in each
        or "passwd" in each
        or "connect" in each
        or "getaddrinfo" in each
        or "Popen" in each
    ]
