"""The closed loop, step by step and with nothing by hand in between: traffic as in training, traffic that has drifted, an alarm, labels, a retrain, its release, accuracy after."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.registry.release.gate_results import from_rows
from components.registry.release.retrain_record import RetrainRecord
from components.registry.versions.model_versions import cases_of
from components.registry.versions.reader import read_snapshot
from components.registry.versions.test_cases import Cases
from tests.components.orchestration.loop_scenario import (
    Answer,
    Diary,
    Duel,
    Scene,
    Share,
    Text,
    paired_wins,
)

_PAUSE_S = 0.5  # between the requests that go on while it retrains


@dataclass(frozen=True)
class Story:
    """What was measured."""

    before: Share  # champion on traffic as in training, by labels
    during: Share  # champion on the new traffic, by labels
    held_before: Share  # champion on reviews of which no label was ever sent
    held_after: Share  # new champion on the same ones
    held: Duel
    kept: tuple[Share, Share]  # both on the frozen test split, which is of the traffic before
    kept_duel: Duel
    alarms_before: int
    rows_to_alarm: int
    fields: Sequence[str]  # of the first alarm
    codes: Sequence[int]  # of `gristmill monitor` before, during, after
    retrains: Sequence[RetrainRecord]
    asked: int
    failed: Sequence[str]
    mixed: int
    seconds: dict[str, float]
    learnt_twice: int  # held-out reviews that stand in what was learned from

    def table(self) -> str:
        """Markdown."""
        made = self.retrains[-1]
        return "\n".join(
            [
                "| | before | during | after |",
                "| --- | --- | --- | --- |",
                "| traffic | as in training | a domain that the model never saw | the same new domain |",
                f"| champion | version {made.before} | version {made.before} | version {made.after} |",
                f"| accuracy by labels that clients sent | {self.before} | {self.during} | |",
                f"| accuracy on the same held-out reviews of the new domain | | {self.held_before} | {self.held_after}; paired: {self.held} |",
                f"| accuracy on the frozen test split (old domain) | {self.kept[0]} | | {self.kept[1]}; paired: {self.kept_duel} |",
                f"| alarms | {self.alarms_before} | first after {self.rows_to_alarm} answers: {', '.join(self.fields)} | |",
                f"| exit code of `gristmill monitor` | {' | '.join(map(str, self.codes))} |",
                "",
                f"{self.asked:,} answers, {len(self.failed)} failed requests, {self.mixed} mixed answers. "
                + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items()),
            ]
        )


class _Loop:
    """The steps, each with what the next ones need of it.

    Args:
        scene: project, not run yet.
        diary: takes each step down.
    """

    def __init__(self, scene: Scene, diary: Diary) -> None:
        self.scene, self.clients, self.diary = scene, scene.clients, diary
        self.seconds: dict[str, float] = {}
        self.codes: list[int] = []
        self._began = diary.seconds

    def step(self, name: str, text: str) -> None:
        """Take a step down, and how long it took."""
        self.seconds[name] = self.diary.seconds - self._began
        self._began = self.diary.seconds
        self.diary.note(name, text)

    def first_model(self, make: Callable[[Path], str]) -> None:
        """The first champion: it begins the record of retrains, from which on something is new, and its test split is the one that is frozen."""
        self.step("first model", make(self.scene.root))

    def calm(self, texts: Sequence[Text]) -> list[Answer]:
        """Traffic as in training, and labels of all of it."""
        self.step(
            "service",
            self.scene.said("serve").strip().splitlines()[-1]
            + "; "
            + self.scene.said("schedule").strip().splitlines()[0],
        )
        answers = self.clients.ask(texts)
        taken = self.clients.label(answers)
        self.scene.until(
            lambda: self.scene.windows() >= len(texts) // self.scene.window, "the windows before"
        )
        self.alarms_before = len(self.scene.hook.alarms)
        self.step(
            "before",
            f"accuracy {Share.of(answers)} by {taken} labels; {self.alarms_before} alarms; {self.look()}",
        )
        return answers

    def alarm(self, texts: Sequence[Text]) -> list[Answer]:
        """Traffic of the new domain, until the webhook is told; then the rest of it."""
        size = self.scene.window
        answers = self.clients.ask(texts[:size])
        self.scene.until(lambda: len(self.scene.hook.alarms) > self.alarms_before, "the alarm")
        self.fields: list[str] = self.scene.hook.alarms[self.alarms_before]["fields"]
        changes = self.scene.hook.alarms[self.alarms_before]["changes"]
        self.step(
            "alarm",
            f"after {size} answers the webhook was told of {', '.join(self.fields)}: {json.dumps(changes, ensure_ascii=False)}",
        )
        self.step("monitor", self.look())
        self.scene.until(
            lambda: "nothing new to learn from" in self.scene.said("schedule"),
            "the scheduler to say what is missing",
        )
        return answers + self.clients.ask(texts[size:])

    def labels(self, texts: Sequence[Text]) -> list[Answer]:
        """More traffic of the new domain; its labels arrive, and a person looks at them: the one step that is not the machine's, and the script plays that part."""
        answers = self.clients.ask(texts)
        taken = self.clients.label(answers)
        self.step(
            "labels", f"{taken} labels arrived over HTTP; accuracy {Share.of(answers)} by them"
        )
        self.learnt = self.scene.accept()
        self.step(
            "review", f"{len(self.learnt)} labels accepted by the script, in place of a person"
        )
        return answers

    def retrain(self) -> RetrainRecord:
        """What the scheduler does by itself, until the service answers with nothing but the new version."""
        self.scene.until(lambda: len(self.scene.records()) > 1, "the retrain")
        made = self.scene.records()[-1]
        took = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in made.seconds.items())
        self.step(
            "retrain",
            f"by the scheduler ({made.trigger}): {made.outcome}{f' ({made.detail})' if made.detail else ''}, version {made.version}; {took}",
        )
        self.step("gates", gates(self.scene, made))
        assert made.after != made.before, made
        self.scene.until(
            lambda: f"version {made.after} serves alone" in self.scene.said("serve"),
            "the service to follow",
        )
        self.step("release", f"the service follows: version {made.after} serves alone")
        return made

    def after(self, texts: Sequence[Text], first: Sequence[Answer]) -> list[Answer]:
        """The same reviews again, asked of whoever answers now."""
        answers = self.clients.ask(texts)
        self.step(
            "after",
            f"accuracy {Share.of(answers)} on the held-out reviews, {Share.of(first)} during; {self.look()}",
        )
        return answers

    def look(self) -> str:
        """`gristmill monitor`."""
        code, said = self.scene.monitored()
        self.codes.append(code)
        return f"gristmill monitor exits {code}: {said}"


def play(
    scene: Scene,
    before: Sequence[Text],
    during: Sequence[Text],
    held: Sequence[Text],
    diary: Diary,
    first_model: Callable[[Path], str] | None = None,
) -> Story:
    """Play it.

    Args:
        scene: project, not run yet.
        before: traffic as in training.
        during: of the new domain; labels of these are sent.
        held: of the new domain; no label of these is ever sent.
        diary: takes each step down.
        first_model: makes the first champion; None: `gristmill retrain`.
    """
    loop = _Loop(scene, diary)
    loop.first_model(first_model or (lambda _: scene.retrained()))
    with scene.running():
        calm = loop.calm(before)
        first = loop.alarm(held)
        with scene.clients.always(during, _PAUSE_S):
            drifted = loop.labels(during)
            made = loop.retrain()
        again = loop.after(held, first)
    assert {each.model["version"] for each in first} == {str(made.before)} and {
        each.model["version"] for each in again
    } == {str(made.after)}
    old, new = kept(scene, made)
    story = Story(
        before=Share.of(calm),
        during=Share.of(drifted),
        held_before=Share.of(first),
        held_after=Share.of(again),
        held=paired_wins([each.right for each in first], [each.right for each in again]),
        kept=(Share(sum(old), len(old)), Share(sum(new), len(new))),
        kept_duel=paired_wins(old, new),
        alarms_before=loop.alarms_before,
        rows_to_alarm=scene.window,
        fields=loop.fields,
        codes=tuple(loop.codes),
        retrains=scene.records(),
        asked=len(scene.clients.answers),
        failed=scene.clients.failed,
        mixed=scene.mixed(),
        seconds=loop.seconds,
        learnt_twice=len(
            {each.text.strip() for each in held} & {text.strip() for text in loop.learnt}
        ),
    )
    diary.note(
        "paired",
        f"the same {len(held)} held-out reviews: {story.held}; frozen test split of the old domain: {story.kept[0]} -> {story.kept[1]}, {story.kept_duel}",
    )
    told = f"{story.asked:,} answers, {len(story.failed)} failed requests, {story.mixed} mixed"
    diary.note(
        "answers",
        f"{told}; {len(story.retrains)} retrains in all, {story.learnt_twice} held-out reviews learnt from",
    )
    return story


def gates(scene: Scene, made: RetrainRecord) -> str:
    """What each of them said of the new version."""
    shelf = read_snapshot(scene.root, "default")
    assert shelf is not None and made.version is not None
    told = from_rows(json.loads(shelf.version(made.version).tags["gates"]))
    return "; ".join(f"{each.name} {each.verdict} ({each.detail})" for each in told)


def kept(scene: Scene, made: RetrainRecord) -> tuple[list[bool], list[bool]]:
    """Old and new champion on the cases of the frozen test split, as the gates saw them."""
    shelf = read_snapshot(scene.root, "default")
    assert shelf is not None and made.before is not None and made.after is not None
    test = shelf.version(made.after).tags["test_hash"]
    old, new = (
        cases_of(scene.root, shelf.version(number), test) for number in (made.before, made.after)
    )
    return _source(old), _source(new)


def _source(cases: Cases) -> list[bool]:
    places = (cases.slices or {}).get("from: source", range(len(cases.ids)))
    return [cases.stats["right"][place] for place in places]
