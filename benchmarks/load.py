"""A closed-loop HTTP client for the serving benchmarks.

Each connection asks again when it is answered. The answers are checked after the measurement.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """Holds the result of one request.

    Args:
        question: the position of the question.
        status: of HTTP; 0: the connection broke.
        body: of the answer.
        seconds: until the answer was complete.
        ended: when it was, in seconds of `time.perf_counter`.
    """

    question: int
    status: int
    body: bytes
    seconds: float
    ended: float


def post(url: str, items: Sequence[Mapping[str, object]]) -> bytes:
    """Return a whole request to /v1/predict."""
    parts = urlsplit(url)
    body = json.dumps({"inputs": list(items)}, ensure_ascii=False).encode()
    head = (
        f"POST {parts.path.rstrip('/')}/v1/predict HTTP/1.1\r\n"
        f"Host: {parts.netloc}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(
    url: str,
    questions: Sequence[bytes],
    connections: int,
    going: Callable[[int], bool],
    answers: list[Answer] | None = None,
) -> list[Answer]:
    """Ask the questions in turn over keep-alive connections. A broken connection is opened again.

    Args:
        url: of the service.
        questions: whole requests.
        connections: that ask at the same time.
        going: gets the number of answers so far and returns whether to go on.
        answers: a list to append the answers to, so that others can read it.

    Returns:
        The answers.
    """
    parts = urlsplit(url)
    if answers is None:
        answers = []
    turn = 0

    async def client() -> None:
        nonlocal turn
        reader: asyncio.StreamReader | None = None
        while going(len(answers)):
            number = turn % len(questions)
            turn += 1
            began = time.perf_counter()
            try:
                if reader is None:
                    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.write(questions[number])
                status, body, stays = await _read(reader)
            except (OSError, asyncio.IncompleteReadError, IndexError):
                status = 0
                body = b""
                stays = False
            ended = time.perf_counter()
            answers.append(Answer(number, status, body, ended - began, ended))
            if not stays and reader is not None:
                writer.close()
                reader = None

    await asyncio.gather(*(client() for _ in range(connections)))
    return answers


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Return the status and the body of an answer, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    status = int(head[9:12])
    body = await reader.readexactly(length)
    return status, body, b"connection: close" not in head


def for_seconds(
    url: str,
    questions: Sequence[bytes],
    connections: int,
    seconds: float,
) -> list[Answer]:
    """Ask for some seconds. Return the answers."""
    end = time.perf_counter() + seconds
    return asyncio.run(
        ask(
            url,
            questions,
            connections,
            lambda _: time.perf_counter() < end,
        )
    )


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Return a percentile of the time to answer, in milliseconds."""
    times = sorted(answer.seconds for answer in answers)
    position = min(len(times) - 1, int(share * len(times)))
    return 1000 * times[position]
