"""Ask a service of gristmill, and ask again while it is busy: copy this file. Needs httpx.

GRISTMILL_API_KEY=… python client.py http://127.0.0.1:8000 "房间很干净" "the room was noisy"
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx

AGAIN = (
    429,
    502,
    503,
    504,
)  # too fast, or nobody there just now; any other refusal is about the question


class Client:
    """A connection to a service. Asking changes nothing there, so asking twice does no harm.

    Args:
        url: of the service, without a path.
        key: the API key, where the service wants one.
        patience_s: how long one question may take, with all tries.
    """

    def __init__(self, url: str, key: str | None = None, patience_s: float = 30.0) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=httpx.Timeout(10.0, connect=3.0)
        )
        self._patience_s = patience_s

    def predict(self, inputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """One answer per input, all by the same model, which is named.

        Raises:
            ValueError: the service refuses the question; asking again would not help.
            TimeoutError: no answer while patience lasted.
        """
        deadline, pause = time.monotonic() + self._patience_s, 0.2
        while True:
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - or many clients would come back at once
            try:
                given = self._http.post("/v1/predict", json={"inputs": list(inputs)})
            except httpx.TransportError as error:
                trouble = str(error) or type(error).__name__
            else:
                if given.status_code == 200:
                    return dict(given.json())
                if given.status_code not in AGAIN:
                    raise ValueError(f"{given.status_code}: {given.text[:500]}")
                trouble = f"{given.status_code}: {given.text[:200]}"
                told = given.headers.get("Retry-After", "")
                wait = max(wait, float(told)) if told.isdigit() else wait
            if time.monotonic() + wait > deadline:
                raise TimeoutError(f"no answer within {self._patience_s:g} s: {trouble}")
            time.sleep(wait)
            pause = min(2 * pause, 5.0)


def main() -> None:
    """Ask about each word of the command line."""
    url, *texts = sys.argv[1:]
    given = Client(url, os.environ.get("GRISTMILL_API_KEY")).predict(
        [{"text": text} for text in texts]
    )
    for text, answer in zip(texts, given["predictions"], strict=True):
        unsure = "not sure, perhaps " if answer.get("abstained") else ""
        print(f"{unsure}{answer['label']}  {answer['probability']:.1%}  {text}")
    print(f"by {given['model']['name']} version {given['model']['version']}")


if __name__ == "__main__":
    main()
