"""Escaping of a replica's logs: they quote what clients sent, and are read on terminals."""

from __future__ import annotations

import logging

from components.core import escaping

# Ray Serve, the server of a replica, and what runs beside requests.
_LOGGERS = ("ray.serve", "uvicorn.error", "asyncio")


class EscapedMessages(logging.Filter):
    """A filter that escapes records before any handler formats them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape a record, and let it pass."""
        record.msg = escaping.log_block(record.getMessage())
        record.args = ()
        if record.exc_info:
            trace = record.exc_text or logging.Formatter().formatException(record.exc_info)
            # Formatters take this text and make none of their own.
            record.exc_text = escaping.log_block(trace)
        return True


_FILTER = EscapedMessages()


def escape_logs() -> None:
    """Escape what this process logs; a second call changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
