"""Which pipeline a command means, and where two have a champion, which one it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from components.cli import feedback, main, review, trace
from components.cli.pipeline_argument import choose_pipeline, split_name, version_number
from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.registry.versions import reader


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two pipelines besides the default one; commands only say what they were
    asked.
    """
    for name in ("digits", "reviews"):
        (tmp_path / "pipelines" / name).mkdir(parents=True)
        (tmp_path / "pipelines" / name / "dvc.yaml").touch()
    for module in (main, review, feedback):
        monkeypatch.setattr(module, "root", lambda: tmp_path)
    return tmp_path


# Imported before a test replaces the reader, so that its modules keep the real one.
assert trace


def champions(monkeypatch: pytest.MonkeyPatch, *released: str) -> None:
    monkeypatch.setattr(
        reader,
        "read_snapshot",
        lambda root, name: SimpleNamespace(aliases={"champion": 1} if name in released else {}),
    )


def test_argument_and_option_mean_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champions(monkeypatch)
    assert (
        choose_pipeline(root, "digits", None)
        == choose_pipeline(root, None, "digits")
        == choose_pipeline(root, "digits", "digits")
        == "digits"
    )
    assert choose_pipeline(root, None, None) == "default"
    with pytest.raises(
        InputError, match="names two pipelines: 'digits' and, with --pipeline, 'reviews'"
    ):
        choose_pipeline(root, "digits", "reviews")


@pytest.mark.parametrize(
    ("released", "said"),
    [
        ((), ""),
        (("default",), ""),
        (("default", "digits"), "default is used. digits has a champion, too"),
        (("digits", "reviews"), "default is used. digits, reviews have a champion"),
    ],
)
def test_without_a_name_a_command_says_which_one_it_took(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    released: Sequence[str],
    said: str,
) -> None:
    champions(monkeypatch, *released)
    assert choose_pipeline(root, None, None) == "default"
    shown = capsys.readouterr()
    assert said in shown.err and bool(shown.err) == bool(said) and not shown.out
    assert (
        choose_pipeline(root, "default", None) == "default"
        and choose_pipeline(root, None, None, needs_model=False) == "default"
    )
    assert not capsys.readouterr().err


def test_a_registry_that_is_away_is_no_matter_here(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise EnvironmentFault("away")

    monkeypatch.setattr(reader, "read_snapshot", away)
    assert choose_pipeline(root, None, None) == "default"


def test_a_name_stands_before_the_other_argument() -> None:
    assert split_name(["3"], "N", "review show") == (None, "3")
    assert split_name(["digits", "3"], "N", "review show") == ("digits", "3")
    for words in (None, [], ["a", "b", "c"]):
        with pytest.raises(InputError, match="takes N"):
            split_name(words, "N", "review show")


def test_the_number_of_a_version() -> None:
    assert version_number("12", "review show") == 12
    for text in ("0", "-1", "a", "", "1.5", "²"):
        with pytest.raises(InputError, match="is not the number of a version"):
            version_number(text, "review show")


FORMS: dict[tuple[str, ...], tuple[str, Any]] = {
    ("predict", "good"): ("default", "good"),
    ("predict", "digits", "good"): ("digits", "good"),
    ("predict", "good", "--pipeline", "digits"): ("digits", "good"),
    ("predict", "digits"): ("default", "digits"),
    ("review", "show", "3"): ("default", 3),
    ("review", "show", "digits", "3"): ("digits", 3),
    ("review", "diff", "3", "--pipeline", "digits"): ("digits", 3),
    ("review", "approve", "digits", "3", "--by", "w", "--note", "n"): ("digits", 3),
    ("review", "reject", "3", "--by", "w", "--note", "n"): ("default", 3),
    ("review", "list", "digits"): ("digits", None),
    ("rollback", "digits", "--by", "w", "--note", "n"): ("digits", None),
    ("trace", "digits", "abc123"): ("digits", "abc123"),
    ("trace", "abc123"): (None, "abc123"),  # type: ignore[dict-item]
    ("feedback", "accept", "digits", "ab", "cd", "--by", "w"): ("digits", ["ab", "cd"]),
    ("feedback", "reject", "ab", "--by", "w"): ("default", ["ab"]),
    ("feedback", "reject", "digits", "--all", "--by", "w"): ("digits", []),
    ("feedback", "list", "digits"): ("digits", None),
    ("serve", "digits"): ("digits", None),
    ("serve", "--pipeline", "digits"): ("digits", None),
    ("monitor", "digits"): ("digits", None),
    ("retrain", "--pipeline", "digits"): ("digits", None),
    ("run", "digits"): ("digits", None),
    ("pull", "digits"): ("digits", None),
}


class Reached(GristmillError):
    """A command has come to its work."""


@pytest.mark.parametrize(
    ("words", "meant"), FORMS.items(), ids=[" ".join(words) for words in FORMS]
)
def test_every_command_takes_a_name(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    meant: tuple[str | None, Any],
) -> None:
    champions(monkeypatch)
    seen: dict[str, Any] = {"what": None}

    def reached(*given: Any, **_: Any) -> Any:
        seen["name"] = next((each for each in given if isinstance(each, str) or each is None), None)
        raise Reached("here")

    def with_query(_: Path, name: str, query: str) -> None:
        seen.update(name=name, what=query)
        raise Reached("here")

    def traced(_: Path, what: str, name: str | None, stdin: str) -> None:
        seen.update(name=name, what=what)
        raise Reached("here")

    number, named = review._version, feedback._named
    monkeypatch.setattr(
        review, "_version", lambda *given: (seen.update(what=number(*given)[1]), number(*given))[1]
    )
    monkeypatch.setattr(
        feedback,
        "_named",
        lambda *given: (seen.update(what=list(named(*given)[1])), named(*given))[1],
    )
    monkeypatch.setattr(review, "_open", reached)
    monkeypatch.setattr(feedback, "_open", reached)
    monkeypatch.setattr("components.orchestration.service.service.answer", with_query)
    monkeypatch.setattr("components.cli.trace.trace", traced)
    for place in (
        "components.orchestration.service.service.hold",
        "components.cli.main.pipeline_files",
        "components.orchestration.retraining.retrain.retrain",
        "components.orchestration.runner.run.run_pipeline",
    ):
        monkeypatch.setattr(place, reached)
    result = CliRunner().invoke(main.app, list(words))
    assert isinstance(result.exception, Reached), (result.output, result.exception)
    assert (seen["name"], seen["what"]) == meant


def test_words_without_quotes_are_explained(root: Path) -> None:
    result = CliRunner().invoke(main.app, ["predict", "very", "good"])
    assert (
        isinstance(result.exception, InputError) and "stands in quotes" in result.exception.remedy
    )
