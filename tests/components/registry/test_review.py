"""What people decide: by command or in MLflow, at the same time, with bundles that rot and stores that lock."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sample_versions import make_bundle

from components.core.errors import EnvironmentFault, GateError, InputError
from components.registry.release import promotion as release_module
from components.registry.release.gates import Gate, GateParams, as_rows, gate_rules
from components.registry.release.mlflow_requests import apply_mlflow_requests
from components.registry.release.promotion import approve, reject, release, rollback
from components.registry.release.release_log import LOG, history, standing
from components.registry.store import tracking_store
from components.registry.versions.model_versions import (
    champion,
    keep_cases,
    register,
)
from components.registry.versions.reader import Version, read_snapshot
from components.registry.versions.test_cases import Cases, name_of
from tests.components.registry import approval_processes
from tests.components.registry.approval_processes import FORKS

LIMITS = gate_rules("text_classification", GateParams())
GOOD = [Gate("size", True)]
BY = {"who": "李", "why": "looked at it"}


def kept(root: Path, number: int, gates: list[Gate] | None = GOOD, right: str = "") -> Version:
    """A registered version with its gates, and its answers where given."""
    ids = [str(place) for place in range(len(right))]
    cases = Cases(ids, {"right": [sign == "+" for sign in right]}, {}, name_of(ids, ids))
    tags = {"test_hash": cases.test} if right else {}
    made = register(
        root,
        "default",
        make_bundle(root.parent / f"bundle-{number}", number),
        None,
        tags | ({} if gates is None else {"gates": json.dumps(as_rows(gates))}),
    )
    if right:
        keep_cases(root, made, cases)
    return made


def aliases(root: Path) -> dict[str, int]:
    shelf = read_snapshot(root, "default")
    assert shelf
    return dict(shelf.aliases)


def decisions(root: Path) -> list[tuple[str, int, int | None]]:
    return [(each.decision, each.version, each.before) for each in history(root, "default")]


@pytest.fixture(scope="module")
def made_once(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(template, tmp_path_factory.mktemp("three") / "repo")
    for number in (1, 2, 3):
        kept(root, number)
    approve(root, "default", 1, LIMITS, **BY)
    return root


@pytest.fixture
def three(made_once: Path, tmp_path: Path) -> Path:
    """Three versions, of which the first is champion."""
    return shutil.copytree(made_once, tmp_path / "repo")


def test_a_person_approves_and_goes_back_step_by_step(three: Path) -> None:
    for number in (2, 3):
        made = approve(three, "default", number, LIMITS, **BY)
        assert (made.before, made.after, made.who, made.why) == (
            number - 1,
            number,
            "李",
            "looked at it",
        )
    assert aliases(three) == {"champion": 3, "previous": 2}
    assert [rollback(three, "default", **BY).version for _ in range(2)] == [2, 1]
    assert aliases(three)["champion"] == 1 and "previous" not in aliases(three)
    with pytest.raises(
        InputError, match="nothing to go back to: before version 1 there was no champion"
    ):
        rollback(three, "default", **BY)
    assert rollback(three, "default", 3, **BY).before == 1
    assert decisions(three)[-1] == ("rolled back", 3, 1)


def test_a_program_does_not_undo_what_a_person_did(three: Path) -> None:
    approve(three, "default", 2, LIMITS, **BY)
    rollback(three, "default", **BY)
    reject(three, "default", 3, **BY)
    made = [
        release(three, "default", number, GOOD, mode="auto", who="nightly", why="gates")
        for number in (2, 3)
    ]
    assert (made[0].decision, made[0].why) == ("waiting", "gates (a person rolled back from it)")
    assert made[1].decision == "rejected" and "rejected by 李" in made[1].why
    assert champion(three, "default").number == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("do", "error", "says"),
    [
        (
            lambda root: approve(root, "default", 9, LIMITS, **BY),
            InputError,
            "has no version 9; there are 1 to 3",
        ),
        (
            lambda root: approve(root, "default", 1, LIMITS, **BY),
            InputError,
            "is champion already: promoted by 李",
        ),
        (lambda root: reject(root, "default", 1, **BY), InputError, "is the champion"),
        (
            lambda root: (reject(root, "default", 2, **BY), reject(root, "default", 2, **BY)),
            InputError,
            r"was rejected by 李 at .* UTC \(looked at it\) already",
        ),
        (
            lambda root: (
                reject(root, "default", 2, **BY),
                approve(root, "default", 2, LIMITS, **BY),
            ),
            GateError,
            r"was rejected by 李(.|\n)*--override rejected",
        ),
        (lambda root: rollback(root, "default", 2, **BY), InputError, "never was champion"),
        (lambda root: rollback(root, "default", 1, **BY), InputError, "is champion already"),
        (lambda root: rollback(root, "default", 9, **BY), InputError, "has no version 9"),
        (
            lambda root: approve(root, "default", 2, LIMITS, who=" ", why="x"),
            InputError,
            "--by: must say something",
        ),
        (
            lambda root: approve(root, "default", 2, LIMITS, who="x", why="长" * 1001),
            InputError,
            "--note: has 1001 characters",
        ),
        (
            lambda root: approve(root, "default", 2, LIMITS, overrides=["leak"], **BY),
            InputError,
            "'leak' cannot be overridden",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_moves_nothing(
    three: Path, do: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        do(three)
    assert aliases(three)["champion"] == 1


def test_a_gate_that_refuses_refuses_a_person_too(three: Path) -> None:
    leak = kept(
        three,
        4,
        [
            Gate("leak", False, 3.0, 0.0, "rows that stand in more than one split"),
            Gate("calibration", False, 0.3, 0.15, "ten bins"),
        ],
    ).number
    with pytest.raises(
        GateError, match=r"refused by leak: rows .* \(3 against 0\)\n.*leak cannot be overridden"
    ):
        approve(three, "default", leak, LIMITS, overrides=["calibration"], **BY)
    doubtful = kept(three, 5, [Gate("baseline", False, 0.0, -0.01, borderline=True)]).number
    assert approve(three, "default", doubtful, LIMITS, **BY).overrides == []
    worse = kept(three, 6, [Gate("calibration", False, 0.3, 0.15, "ten bins")]).number
    assert approve(
        three, "default", worse, LIMITS, overrides=["calibration", "slices"], **BY
    ).overrides == ["calibration"]
    unjudged = kept(three, 7, None).number
    with pytest.raises(GateError, match="gates of version 7 were not judged"):
        approve(three, "default", unjudged, LIMITS, **BY)
    reject(three, "default", unjudged, **BY)


def test_a_version_that_was_judged_against_another_champion_is_compared_anew(root: Path) -> None:
    first, later = (
        [Gate("size", True), Gate("champion", passed, against=number)]
        for passed, number in ((None, None), (True, 1))
    )
    for number, right in (
        (1, "+" * 60 + "-" * 40),
        (2, "+" * 80 + "-" * 20),
        (3, "+" * 70 + "-" * 30),
        (4, "+" * 95 + "-" * 5),
        (5, ""),
    ):
        kept(root, number, first if number == 1 else later, right)
    for number in (1, 2):
        approve(root, "default", number, LIMITS, **BY)
    with pytest.raises(
        GateError,
        match=r"against version 2 on 100 cases: 0 won, 10 lost.*compared anew: the gates were judged against version 1",
    ):
        approve(root, "default", 3, LIMITS, **BY)
    with pytest.raises(GateError, match="version 2 was not measured on the same 0 test cases"):
        approve(root, "default", 5, LIMITS, **BY)
    # a program sees it as well, and a version that is better than the new champion too is released
    assert (
        release(
            root,
            "default",
            3,
            [Gate("champion", True, against=1)],
            mode="auto",
            who="nightly",
            why="gates",
            rules=LIMITS,
        ).decision
        == "refused"
    )
    made = approve(root, "default", 4, LIMITS, **BY)
    assert (made.before, made.gates[1]["against"], made.gates[1]["passed"]) == (2, 2, True)


@pytest.mark.parametrize("harm", ["byte", "card", "gone"])
def test_a_bundle_that_rots_between_register_and_approve_is_refused_and_the_champion_stays(
    three: Path, harm: str
) -> None:
    approve(three, "default", 2, LIMITS, **BY)
    shelf = read_snapshot(three, "default")
    assert shelf
    for number in (1, 3):
        folder = Path(shelf.version(number).source)
        if harm == "byte":
            (folder / "weights.safetensors").write_bytes(b"\1" * 8)
        elif harm == "card":
            (folder / "bundle.json").write_text(
                (folder / "bundle.json").read_text().replace('"seed"', '"seed" ')
            )
        else:
            (folder / "bundle.json").unlink()
    for act in (
        lambda: approve(three, "default", 3, LIMITS, **BY),
        lambda: rollback(three, "default", **BY),
        lambda: release(three, "default", 3, GOOD, mode="auto", who="w", why="w"),
    ):
        with pytest.raises(
            GateError,
            match=r"is refused by bundle: (is missing|was altered|is not the card|the files of version)",
        ):
            act()
    assert aliases(three)["champion"] == 2 and len(history(three, "default")) == 2


# -- in MLflow
def ask(root: Path, number: int, **tags: str) -> None:
    opened = tracking_store.client(root)
    for key, value in tags.items():
        opened.set_model_version_tag("default", str(number), key, value)


def tag(root: Path, number: int, key: str = "review") -> str:
    return tracking_store.client(root).get_model_version("default", str(number)).tags.get(key, "")


def test_tags_and_aliases_in_mlflow_are_picked_up_once_they_say_who(three: Path) -> None:
    ask(three, 2, review="Approve", **{"review.note": "好"})
    assert apply_mlflow_requests(three, "default", LIMITS) == []  # nobody has said who
    ask(three, 2, **{"review.by": "王"})
    (made,) = apply_mlflow_requests(three, "default", LIMITS)
    assert (made.decision, made.version, made.who, made.why) == ("promoted", 2, "王", "好") and tag(
        three, 2
    ) == "promoted"
    assert aliases(three) == {"champion": 2, "previous": 1, "challenger": 3}
    # an alias asks too
    ask(three, 3, **{"review.by": "王"})
    tracking_store.client(three).set_registered_model_alias("default", "approved", "3")
    assert [each.version for each in apply_mlflow_requests(three, "default", LIMITS)] == [3]
    assert (
        aliases(three) == {"champion": 3, "previous": 2}
        and apply_mlflow_requests(three, "default", LIMITS) == []
    )
    # and a refusal is written where it was asked
    ask(three, 1, review="reject")
    ask(three, 3, review="reject")
    ask(three, 1, **{"review.by": "王"})
    made_by = [
        (each.decision, each.version) for each in apply_mlflow_requests(three, "default", LIMITS)
    ]
    assert (
        made_by == [("rejected", 1)]
        and tag(three, 1) == "rejected"
        and tag(three, 3) == "not done: version 3 of 'default' is the champion"
    )


def test_a_champion_moved_by_hand_passes_the_gates_or_is_put_back(three: Path) -> None:
    opened, leak = (
        tracking_store.client(three),
        kept(three, 4, [Gate("leak", False, 1.0, 0.0, "rows")]).number,
    )
    # past a gate: put back, and recorded
    opened.set_registered_model_alias("default", "champion", str(leak))
    (made,) = apply_mlflow_requests(three, "default", LIMITS)
    assert (
        (made.decision, made.version, made.after) == ("put back", leak, 1)
        and "somebody in MLflow moved the alias champion to version 4" in made.why
        and "leak" in made.why
    )
    assert aliases(three)["champion"] == 1
    # through the gates: recorded as what it is
    opened.set_registered_model_alias("default", "champion", "2")
    (made,) = apply_mlflow_requests(three, "default", LIMITS)
    assert (made.decision, made.version, made.who, made.why) == (
        "promoted",
        2,
        "somebody in MLflow",
        "moved the alias champion by hand",
    )
    # back to an earlier one: a rollback
    opened.set_registered_model_alias("default", "champion", "1")
    assert [each.decision for each in apply_mlflow_requests(three, "default", LIMITS)] == [
        "rolled back"
    ]
    # taken away: put right, there is nothing to decide
    opened.delete_registered_model_alias("default", "champion")
    assert apply_mlflow_requests(three, "default", LIMITS) == [] and aliases(three)["champion"] == 1
    assert len(history(three, "default")) == 4


# -- at the same time, and killed
def test_releases_at_once_by_several_processes_all_stand_in_one_line(three: Path) -> None:
    kept(three, 4)
    numbers = (2, 3, 4)
    with ProcessPoolExecutor(len(numbers), mp_context=FORKS) as racers:
        ended = {
            number: racers.submit(approval_processes.approve, three, number) for number in numbers
        }
        out = []
        for number, end in ended.items():
            error = end.exception()
            if error is None:
                out.append(end.result())
                continue
            # SQLite gives up waiting for a busy disk: before the record, and the remedy is to do it
            # again; or after it, and the next call makes the move.
            assert isinstance(error, EnvironmentFault) and "locked" in str(error), error
            if number in {each.version for each in history(three, "default")}:
                apply_mlflow_requests(three, "default", LIMITS)
            else:
                out.append(racers.submit(approval_processes.approve, three, number).result())
    made = history(three, "default")
    # each of them is recorded, each from the champion that the one before has made, and the aliases are those of the last
    assert sorted(each.version for each in made) == [1, 2, 3, 4]
    assert [each.before for each in made] == [None, *(each.version for each in made[:-1])]
    stand = standing(made)
    assert (
        aliases(three)
        == {"champion": made[-1].version, "previous": made[-2].version}
        == {"champion": stand.champion, "previous": stand.previous}
    )
    assert set(out) <= {each.before for each in made[1:]}


def test_a_move_that_was_cut_off_is_made_even_if_what_is_asked_next_is_refused(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise EnvironmentFault("the database is locked", where="mlflow.db")

    with monkeypatch.context() as cut, pytest.raises(EnvironmentFault):
        cut.setattr(release_module, "sync_aliases", away)
        approve(three, "default", 2, LIMITS, who="ann", why="better")
    assert aliases(three)["champion"] == 1
    with pytest.raises(InputError, match="champion already"):
        approve(three, "default", 2, LIMITS, who="ann", why="better")
    assert aliases(three)["champion"] == 2


def test_who_finds_the_next_place_taken_looks_again_and_decides_anew(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, looked = release_module.append, list[int | None]()

    def late(opened: Any, root: Path, run: str, shelf: Any, made: Any) -> bool:
        looked.append(made.before)
        if len(looked) == 1:  # somebody else is quicker
            monkeypatch.setattr(release_module, "append", write)
            approve(root, "default", 3, LIMITS, who="quick", why="race")
            monkeypatch.setattr(release_module, "append", late)
        return write(opened, root, run, shelf, made)

    monkeypatch.setattr(release_module, "append", late)
    approve(three, "default", 2, LIMITS, **BY)
    assert looked == [1, 3] and decisions(three)[1:] == [("promoted", 3, 1), ("promoted", 2, 3)]
    assert aliases(three) == {"champion": 2, "previous": 3}


def test_a_kill_between_record_and_move_is_mended_by_the_next_call(three: Path) -> None:
    killed = FORKS.Process(target=approval_processes.approve_and_die, args=(three, 2))
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    assert aliases(three)["champion"] == 1 and decisions(three)[-1] == ("promoted", 2, 1)
    assert apply_mlflow_requests(three, "default", LIMITS) == []
    assert (
        aliases(three) == {"champion": 2, "previous": 1, "challenger": 3}
        and tag(three, 2, "decision") == "promoted"
    )


def test_a_store_that_is_locked_or_away_leaves_nothing_half_done(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = decisions(three)
    with monkeypatch.context() as patch:
        patch.setattr(tracking_store, "LOCK_SECONDS", 0.1)
        holder = sqlite3.connect(three / "mlflow" / "mlflow.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        for act in (
            lambda: approve(three, "default", 2, LIMITS, **BY),
            lambda: apply_mlflow_requests(three, "default", LIMITS),
            lambda: rollback(three, "default", **BY),
        ):
            with pytest.raises(EnvironmentFault, match="locked"):
                act()
        holder.close()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for act in (
            lambda: approve(three, "default", 2, LIMITS, **BY),
            lambda: read_snapshot(three, "default"),
        ):
            with pytest.raises(EnvironmentFault, match="MLflow does not answer"):
                act()
    assert decisions(three) == before and aliases(three)["champion"] == 1
    assert LOG in read_snapshot(three, "default").tags  # type: ignore[union-attr]


def test_one_version_that_cannot_be_read_does_not_hold_up_the_others(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tracking_store.client(three)
    for number in ("2", "3"):
        opened.set_model_version_tag("default", number, "review.by", "ann")
        opened.set_model_version_tag("default", number, "review", "approve")
    opened.set_model_version_tag("default", "2", "gates", '["no gate"]')
    made = apply_mlflow_requests(three, "default", LIMITS)
    assert [(each.decision, each.version) for each in made] == [("promoted", 3)]
    told = opened.get_model_version("default", "2").tags["review"]
    assert told.startswith("not done: holds no gates")

    # An error of a kind that nobody thought of is told on the version as well.
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("components.registry.release.mlflow_requests.approve", broken)
    opened.set_model_version_tag("default", "2", "review", "approve")
    assert apply_mlflow_requests(three, "default", LIMITS) == []
    told = opened.get_model_version("default", "2").tags["review"]
    assert told == "not done: RuntimeError: unforeseen"
