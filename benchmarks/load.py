"""A closed-loop HTTP client for the serving benchmarks: so many connections, each asking again when it is answered. It checks what it is given after the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """One request: which question, what came, how long it took, when it ended."""

    question: int
    status: int  # 0: the connection broke
    body: bytes
    seconds: float
    ended: float


def post(url: str, items: Sequence[dict[str, object]]) -> bytes:
    """A whole request to /v1/predict."""
    where = urlsplit(url)
    body = json.dumps({"inputs": list(items)}, ensure_ascii=False).encode()
    head = f"POST {where.path.rstrip('/')}/v1/predict HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask(
    url: str,
    questions: Sequence[bytes],
    connections: int,
    going: Callable[[int], bool],
    answers: list[Answer] | None = None,
) -> list[Answer]:
    """Ask in turn over keep-alive connections while `going(answers so far)`; a broken connection is noted and opened again.

    Answers are appended to the list that is given, so that others see them come.
    """
    where = urlsplit(url)
    answers = [] if answers is None else answers
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
                    reader, writer = await asyncio.open_connection(where.hostname, where.port)
                writer.write(questions[number])
                status, body, stays = await _read(reader)
            except (OSError, asyncio.IncompleteReadError, IndexError):
                status, body, stays = 0, b"", False
            ended = time.perf_counter()
            answers.append(Answer(number, status, body, ended - began, ended))
            if not stays and reader is not None:
                writer.close()
                reader = None

    await asyncio.gather(*(client() for _ in range(connections)))
    return answers


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length), b"connection: close" not in head


def for_seconds(
    url: str, questions: Sequence[bytes], connections: int, seconds: float
) -> list[Answer]:
    """`ask` for so long."""
    end = time.perf_counter() + seconds
    return asyncio.run(ask(url, questions, connections, lambda _: time.perf_counter() < end))


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Of the time to answer, in milliseconds."""
    times = sorted(answer.seconds for answer in answers)
    return 1000 * times[min(len(times) - 1, int(share * len(times)))]
