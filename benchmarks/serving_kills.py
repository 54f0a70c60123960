"""Row "requests lost when a replica and then Serve's controller are killed": 10,000 requests.

Two replicas answer. Twice a replica is killed, and Serve's controller as soon as some requests
were answered without it. A request is lost if it is not answered with status 200.

python benchmarks/serving_kills.py BUNDLE     BUNDLE: of a text classifier, such as
                                              data/models/winner of a project that has run
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import load
from benchmarks.served import Service
from components.orchestration.cluster.supervisor import load as cluster_of
from components.orchestration.processes import family, wait_until

REQUESTS = 10_000
CONNECTIONS = 6
# Answers between the kill of a replica and that of the controller.
BETWEEN = 50
# When a round begins, as a share of all requests.
ROUNDS = (0.15, 0.6)
QUERIES = [{"text": "质量很好"}, {"text": "太差了"}, {"text": "good food"}]


def processes(root: Path, name: str) -> list[psutil.Process]:
    """Return the processes of a project's Ray whose command line holds a name."""
    record = cluster_of(root.resolve())
    assert record is not None
    members = [psutil.Process(identity.pid) for identity in family(record.node)]
    return [process for process in members if name in " ".join(process.cmdline())]


def kill(root: Path, answers: list[load.Answer], begins: int) -> dict[str, object]:
    """Kill a replica, and a little later the controller. Return what was killed and when."""
    wait_until(lambda: len(answers) >= begins, 600)
    both = wait_until(lambda: len(processes(root, "ServeReplica")) >= 2, 120)
    replica = processes(root, "ServeReplica")[0]
    controller = processes(root, "ServeController")[0]
    at = len(answers)
    replica.send_signal(signal.SIGKILL)
    wait_until(lambda: len(answers) >= at + BETWEEN, 60)
    controller.send_signal(signal.SIGKILL)
    return {"two replicas before": both, "replica at": at, "controller at": len(answers)}


def main(bundle: Path) -> None:
    """Print the row."""
    answers: list[load.Answer] = []
    folder = Path(tempfile.mkdtemp(prefix="gm-kills-")) / "p"
    with Service(folder, [bundle], QUERIES, {}, replicas=2) as service:
        wait_until(lambda: len(processes(service.root, "ServeReplica")) == 2, 120)
        questions = [load.post(service.url, [query]) for query in QUERIES]

        def client() -> None:
            asked = load.ask(
                service.url, questions, CONNECTIONS, lambda _: len(answers) < REQUESTS, answers
            )
            asyncio.run(asked)

        thread = threading.Thread(target=client)
        began = time.monotonic()
        thread.start()
        kills = [kill(service.root, answers, int(share * REQUESTS)) for share in ROUNDS]
        thread.join()
        seconds = time.monotonic() - began
        report(answers, kills, seconds)


def report(answers: list[load.Answer], kills: list[dict[str, object]], seconds: float) -> None:
    """Print the number of requests, and which were lost."""
    lost = [(index, answer) for index, answer in enumerate(answers) if answer.status != 200]
    examples = [(index, answer.status, answer.body.decode()[:200]) for index, answer in lost[:20]]
    row = {
        "requests": len(answers),
        "lost": len(lost),
        "statuses": dict(Counter(str(answer.status) for answer in answers)),
        "lost were": examples,
        "kills": kills,
        "seconds": round(seconds, 1),
        "slowest_s": round(max(answer.seconds for answer in answers), 2),
    }
    print(json.dumps(row, indent=2, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
