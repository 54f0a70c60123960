"""Play clients: ask a service about rows of a CSV file, and send their right labels back.

python send.py http://127.0.0.1:8000 app_reviews.csv 1 120
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import httpx


def send_label(service: httpx.Client, answer: str, label: str) -> None:
    """Send the right label of an answer. 503 asks to come back: the answer is not logged yet."""
    while True:
        body = {"id": answer, "item": 0, "label": label}
        response = service.post("/v1/feedback", json=body)
        if response.status_code != 503:
            break
        time.sleep(float(response.headers["Retry-After"]))
    response.raise_for_status()


def main() -> None:
    """Ask about the rows of the command line, and count the right answers."""
    url, file, first, last = sys.argv[1:]
    with Path(file).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[int(first) - 1 : int(last)]
    right = 0
    version = ""
    with httpx.Client(base_url=url, timeout=30) as service:
        for row in rows:
            response = service.post("/v1/predict", json={"text": row["review"]})
            answer = response.raise_for_status().json()
            right += answer["predictions"][0]["label"] == row["verdict"]
            version = answer["model"]["version"]
            send_label(service, answer["id"], row["verdict"])
    print(f"version {version}: {right} of {len(rows)} answers were right, {len(rows)} labels sent")


if __name__ == "__main__":
    main()
