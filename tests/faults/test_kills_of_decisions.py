"""kill -9 of a person's decisions: the same command again ends them, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore
from components.registry.release.aliases import aliases_are_synced, expected_aliases
from components.registry.release.gates import Gate, GateParams, gate_rules
from components.registry.release.promotion import approve
from components.registry.release.release_log import records, standing
from components.registry.versions.reader import RegistrySnapshot, read_snapshot
from tests.components.orchestration.filled_registry import LABELS, fill, put
from tests.faults.forked_commands import ForkedCommands

pytestmark = pytest.mark.timeout(900)
WHO = ("--by", "李雷", "--note", "看过了,可以")
APPROVE = ("review", "approve", "2", *WHO)
REJECT = ("review", "reject", "2", *WHO)
ROLLBACK = ("rollback", *WHO)
ACCEPT = ("feedback", "accept", "--all", "--by", "李雷")
MLFLOW = "mlflow.tracking.client"
LOG = "components.registry.release.release_log"
ALIASES = "components.registry.release.aliases"
PROMOTION = "components.registry.release.promotion"
# All decisions about versions come by these.
SHARED = [
    "components.cli.review:_open:return:1",
    f"{LOG}:append:call:1",
    f"{MLFLOW}:log_param:call:1",
    f"{MLFLOW}:log_param:return:1",
    f"{ALIASES}:_move:call:1",
    f"{MLFLOW}:delete_registered_model_tag:return:1",
    f"{MLFLOW}:set_registered_model_tag:call:1",
    f"{MLFLOW}:set_registered_model_tag:return:1",
    f"{MLFLOW}:set_model_version_tag:return:1",
    "components.cli.review:_report:call:1",
]
MOVED = [
    "components.registry.versions.model_versions:verify:return:1",
    f"{MLFLOW}:set_registered_model_alias:call:1",
    f"{MLFLOW}:set_registered_model_alias:return:1",
    f"{MLFLOW}:set_registered_model_alias:return:2",
]
FEEDBACK = "components.monitoring.feedback_store"
FEEDBACK_CLI = "components.cli.feedback"
ACCEPTED = [
    f"{FEEDBACK_CLI}:_open:return:1",
    f"{FEEDBACK_CLI}:_chosen:return:1",
    f"{FEEDBACK_CLI}:_write:call:1",
    "pathlib:replace:call:1",
    "pathlib:replace:return:1",
    "pathlib:replace:call:2",
    f"{FEEDBACK}:_append:call:1",
    f"{FEEDBACK}:decide:return:1",
    f"{FEEDBACK_CLI}:_write:call:2",
    f"{FEEDBACK_CLI}:_write:return:2",
    "pathlib:unlink:call:1",
    "pathlib:unlink:return:1",
    f"{FEEDBACK_CLI}:_finish:return:2",
]


@dataclass(frozen=True)
class Kill:
    """A command that is killed at a moment, and the decision that it makes."""

    command: tuple[str, ...]
    decision: str
    version: int
    moment: str

    def __str__(self) -> str:
        return f"{self.decision} at {self.moment.removeprefix('components.')}"


DECISIONS = [
    *(Kill(APPROVE, "promoted", 2, moment) for moment in (*SHARED, *MOVED)),
    *(Kill(REJECT, "rejected", 2, moment) for moment in SHARED[1::2]),
    *(Kill(ROLLBACK, "rolled back", 2, moment) for moment in (*SHARED[1::2], *MOVED)),
]


@pytest.fixture(scope="module")
def commands() -> Iterator[ForkedCommands]:
    commands = ForkedCommands()
    yield commands
    commands.end()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which version 1 is the champion, 2 waits and 3 is refused."""
    root = tmp_path_factory.mktemp("decisions") / "p"
    fill(root)
    return root


@pytest.fixture(scope="module")
def three_champions(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after versions 2 and 4 were approved."""
    root = shutil.copytree(filled, tmp_path_factory.mktemp("three") / "p")
    put(root, 4, "+" * 99 + "-", [Gate("champion", True, against=1)])
    for number in (2, 4):
        approve(
            root,
            "default",
            number,
            gate_rules("text_classification", GateParams()),
            who="韩梅梅",
            why="better",
        )
    return root


def snapshot(root: Path) -> RegistrySnapshot:
    found = read_snapshot(root, "default")
    assert found
    return found


@pytest.mark.parametrize("kill", DECISIONS, ids=str)
def test_a_killed_decision_is_made_once(
    kill: Kill, commands: ForkedCommands, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # given a command that is killed
    source = "three_champions" if kill.command == ROLLBACK else "filled"
    root = shutil.copytree(request.getfixturevalue(source), tmp_path / "p")
    before = records(snapshot(root))
    code, printed = commands.run(root, kill.command, kill.moment)
    assert code == -signal.SIGKILL, printed
    # when it is given again, then it makes the decision, or says that it is made
    code, printed = commands.run(root, kill.command)
    assert code == 0 or (code == 2 and "already" in printed), printed
    assert "Traceback" not in printed
    # and the log has it once, behind what it had before
    shelf = snapshot(root)
    decided = records(shelf)
    assert decided[: len(before)] == before
    assert [(one.decision, one.version, one.who) for one in decided[len(before) :]] == [
        (kill.decision, kill.version, "李雷")
    ]
    # and aliases and tags follow from the log
    expected = expected_aliases(standing(decided))
    assert {name: shelf.aliases.get(name) for name in expected} == expected
    assert aliases_are_synced(shelf)
    assert shelf.version(kill.version).tags["decision"] == kill.decision
    code, printed = commands.run(root, ("review", "show", str(kill.version)))
    assert code == 0 and "看过了" in printed


@pytest.fixture(scope="module")
def labeled(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with labels that wait, of two replicas, one rejected label and one accepted file."""
    root = shutil.copytree(filled, tmp_path_factory.mktemp("labels") / "p")
    folder = root / "data/.state/default/monitor/feedback"
    for replica in ("1", "2"):
        store = FeedbackStore(folder, 100, replica)
        for number in range(4):
            text = json.dumps({"text": f"酒店 {replica} {number}", "title": ""})
            key = f"{replica}{number}" * 16
            truth = {"label": LABELS[number % 2]}
            store.add(FeedbackEntry(key, 0, truth, 2.0, "1", LABELS[0], 0.9, text))
    store.decide([("10" * 16, 0)], "rejected", "韩梅梅")
    return root


def accepted_rows(root: Path) -> list[str]:
    """Return the ids of the rows that a retrain would read."""
    files = sorted((root / "data/feedback/default").glob("accepted-*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line)["id"] for line in lines]


@pytest.mark.parametrize("moment", ACCEPTED)
def test_killed_acceptance_loses_and_doubles_no_row(
    moment: str, commands: ForkedCommands, labeled: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(labeled, tmp_path / "p")
    code, printed = commands.run(root, ACCEPT, moment)
    assert code == -signal.SIGKILL, printed
    code, printed = commands.run(root, ACCEPT)
    assert code == 0, printed
    # all labels but the rejected one are training data, each once
    ids = accepted_rows(root)
    assert len(ids) == len(set(ids)) == 7
    store = FeedbackStore(root / "data/.state/default/monitor/feedback", 100)
    assert not store.waiting()
    assert sorted(store.decided().values()) == ["accepted"] * 7 + ["rejected"]
    reviewed = (store.folder / "reviewed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(reviewed) == 8
    # and nothing else lies there
    left = [path.name for path in (root / "data/feedback/default").iterdir()]
    assert [name for name in left if name.startswith(".")] == []
