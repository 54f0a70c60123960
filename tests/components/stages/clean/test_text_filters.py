"""Filters of texts in clean: quarantined with a reason, counted as filtered, shown with examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_runner import StageRunner, sentences

from components.core import installed_packages
from components.core.errors import EnvironmentFault
from components.core.tables import read_table
from components.fields import languages
from components.orchestration.pipeline_params import section_model
from components.stages.evaluate.model_cards import _languages
from components.stages.evaluate.report_data import _counts

TASK = "text_classification"
MESSY = ["烦死" + "!" * 20, "气死了" + "!" * 20, "非常不错的" * 10]


def rows(messy: list[str]) -> list[dict[str, object]]:
    """120 plain rows, and some messy ones."""
    plain: list[dict[str, object]] = list(sentences(120))
    return plain + [{"text": text, "label": "差评"} for text in messy]


def journal_of(runner: StageRunner) -> str:
    """The messages of clean."""
    path = runner.root / ".state" / "clean" / "journal.jsonl"
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return "\n".join(str(entry) for entry in entries)


def test_off_by_default_and_absent_from_the_hash_of_params(tmp_path: Path) -> None:
    runner = StageRunner.make(tmp_path, rows(MESSY)).clean()
    assert runner.manifest()["books"]["filtered"] == 0
    dumped = section_model("clean", TASK).model_validate({}).model_dump(mode="json")
    assert "quality" not in dumped


def test_filtered_rows_are_counted_and_shown(tmp_path: Path) -> None:
    runner = StageRunner.make(tmp_path, rows(MESSY), clean={"quality": {}}).clean()
    manifest = runner.manifest()
    books = manifest["books"]
    assert books["filtered"] == 3 and books["quarantined"] == 0
    assert books["rows_in"] == 123 == books["rows_out"] + books["deduplicated"] + 3
    expected = {"quality_max_repeated_ngrams": 1, "quality_max_symbols": 2}
    assert manifest["reasons"] == expected
    quarantine = read_table(runner.root / "clean" / "quarantine").to_pylist()
    assert sorted(row["excerpt"] for row in quarantine) == sorted(MESSY)
    message = f"2 of 123 rows filtered as quality_max_symbols ('{MESSY[0]}', '{MESSY[1]}'): "
    messages = {entry["what"]: entry["message"] for entry in manifest["account"]}
    assert messages["quality_max_symbols"] == f"{message}clean.quality.max_symbols"
    report = json.loads((runner.root / "clean.json").read_text(encoding="utf-8"))
    assert report["filtered"] == 3 and report["quality_max_symbols_rows"] == 2
    assert f"'{MESSY[1]}'" in journal_of(runner) and "3 filtered, 0 quar" in journal_of(runner)
    counts = _counts(manifest, "conflicting")
    assert counts["filtered"] == 3 and counts["quarantined"] == {}


def test_a_length_that_no_text_reaches_is_refused() -> None:
    model = section_model("clean", TASK)
    with pytest.raises(ValueError, match="raise max_characters above it"):
        model.model_validate({"quality": {"max_length": 2000}})
    model.model_validate({"quality": {"max_length": 1999}})


def test_languages_are_counted_and_filtered(tmp_path: Path) -> None:
    foreign = ["Das Zimmer war sauber und das Frühstück gut.", "Номер был чистым и тихим."]
    params = {"languages": {"keep": ["zh", "en"]}}
    runner = StageRunner.make(tmp_path, rows(foreign), clean=params).clean()
    manifest = runner.manifest()
    assert manifest["books"]["filtered"] == 2
    assert manifest["reasons"] == {"language_de": 1, "language_ru": 1}
    report = json.loads((runner.root / "clean.json").read_text(encoding="utf-8"))
    assert report["text_language_zh_rows"] + report["text_language_en_rows"] == 120
    assert f"filtered as language_ru ('{foreign[1]}'): clean.languages.keep" in journal_of(runner)
    assert "60 of 120 texts are in zh: clean.languages" in journal_of(runner)
    counted = [(row["language"], row["rows"]) for row in _languages(manifest["account"])]
    assert sorted(counted) == [("en", 60), ("zh", 60)]


def test_counting_languages_changes_no_row(tmp_path: Path) -> None:
    plain = StageRunner.make(tmp_path / "plain", rows(MESSY)).clean()
    counted = StageRunner.make(tmp_path / "counted", rows(MESSY), clean={"languages": {}}).clean()
    assert counted.rows("clean") == plain.rows("clean")


def test_a_missing_library_stops_clean_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    languages._identifier.cache_clear()
    languages._probabilities.cache_clear()
    monkeypatch.setattr(installed_packages, "find_spec", lambda name: None)
    runner = StageRunner.make(tmp_path, rows([]), clean={"languages": {}})
    with pytest.raises(EnvironmentFault, match="needs py3langid"):
        runner.clean()
    assert not (runner.root / "clean").exists()
