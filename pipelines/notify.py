"""A message to a webhook. Whoever is away misses it; nothing fails for that."""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import urlsplit

import typer

from components.registry.retrains import Retrain

_PATIENCE_S = 10.0


def tell(url: str | None, pipeline: str, made: Retrain) -> bool:
    """Post a retrain's record as JSON, with the key `text` for services that show one line. Returns whether it was taken."""
    if not url:
        return False
    import httpx

    text = f"gristmill: retrain of {pipeline}: {made.outcome}" + (f", version {made.version}" if made.version else "") + (f" ({made.detail})" if made.detail else "")
    try:
        httpx.post(url, json={"text": text, "pipeline": pipeline, **asdict(made)}, timeout=_PATIENCE_S).raise_for_status()
        return True
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # the path and the query may hold a secret
        typer.echo(f"the webhook at {urlsplit(url).hostname} did not take the message ({type(error).__name__}); the record is in gristmill history", err=True)
        return False
