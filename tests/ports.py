"""Ports on which tests listen."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port of loopback on which nothing listens.

    It lies below the range of which the system gives ports to whoever asks for any.
    So it stays free until the test uses it.
    """
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
