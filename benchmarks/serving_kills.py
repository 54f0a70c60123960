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

import load
import psutil
from served import Service

from components.orchestration.cluster.supervisor import load as cluster_of
from components.orchestration.processes import family, wait_until

REQUESTS, CONNECTIONS, BETWEEN = 10_000, 6, 50
ROUNDS = (0.15, 0.6)  # of all requests
QUERIES = [{"text": "质量很好"}, {"text": "太差了"}, {"text": "good food"}]


def processes(root: Path, name: str) -> list[psutil.Process]:
    """Return the processes of a project's Ray whose command line holds a name."""
    record = cluster_of(root.resolve())
    assert record is not None
    found = [psutil.Process(each.pid) for each in family(record.node)]
    return [process for process in found if name in " ".join(process.cmdline())]


def kill(root: Path, answers: list[load.Answer], begins: int) -> dict[str, object]:
    """Kill a replica, and a little later the controller. Returns when and what."""
    wait_until(lambda: len(answers) >= begins, 600)
    both = wait_until(lambda: len(processes(root, "ServeReplica")) >= 2, 120)
    replica, controller = processes(root, "ServeReplica")[0], processes(root, "ServeController")[0]
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
    """Print what came of the requests, and which were lost."""
    lost = [(index, each) for index, each in enumerate(answers) if each.status != 200]
    row = {
        "requests": len(answers),
        "lost": len(lost),
        "statuses": dict(Counter(str(each.status) for each in answers)),
        "lost were": [(index, each.status, each.body.decode()[:200]) for index, each in lost[:20]],
        "kills": kills,
        "seconds": round(seconds, 1),
        "slowest_s": round(max(each.seconds for each in answers), 2),
    }
    print(json.dumps(row, indent=2, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
