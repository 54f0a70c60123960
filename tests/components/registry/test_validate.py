"""Values that anybody who reaches the registry can edit: what passes, and what never does."""

from __future__ import annotations

import json

import pytest

from components.core.errors import InputError
from components.registry import validation
from components.registry.release.gate_results import from_tag
from components.registry.release.gates import Gate, as_rows
from components.registry.release.release_log import Release, records, write
from components.registry.release.retrain_record import retrains
from components.registry.versions.reader import RegistrySnapshot
from components.registry.versions.test_cases import Cases

DIGEST = "0123456789ab" + "c" * 52
GOOD = "/p/mlflow/artifacts/1/artifacts/bundles/0123456789ab"
HOSTILE = [
    "",
    "..",
    "/../../../..",
    "a\0b",
    "\ud800",
    "[/red]",
    "\x1b[2J",
    "\u202e",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("value", [*HOSTILE, None, 7, DIGEST.upper(), DIGEST[:12], f"{DIGEST}\n"])
def test_only_a_whole_digest_is_one(value: object) -> None:
    assert validation.sha256_digest(DIGEST, "x") == DIGEST
    with pytest.raises(InputError, match="not a SHA-256") as error:
        validation.sha256_digest(value, "version 2, tag bundle_sha256")
    assert error.value.what.isascii() and error.value.what.isprintable()
    assert len(error.value.what) < 120


@pytest.mark.parametrize(
    "source",
    [GOOD, f"s3://bucket{GOOD}", f"mlflow-artifacts:{GOOD}", "/家 %/bundles/0123456789ab"],
)
def test_a_source_that_registering_makes_passes_as_it_is(source: str) -> None:
    assert validation.bundle_source(source, DIGEST, "version 2") == source


def test_a_folder_by_its_uri_is_that_folder() -> None:
    assert validation.bundle_source(f"file://{GOOD}", DIGEST, "version 2") == GOOD
    spaced = GOOD.replace("mlflow", "ml%20flow")
    assert "ml flow" in validation.bundle_source(f"file://{spaced}", DIGEST, "version 2")


@pytest.mark.parametrize(
    "source",
    [
        *HOSTILE,
        None,
        "/",
        "/etc",
        f"{GOOD}/..",
        f"/p/../..{GOOD}",
        f"file:///p/%2e%2e{GOOD}",
        f"s3://bucket/..{GOOD}",
        f"\\..\\{GOOD}",
        f"/a\0{GOOD}",
        GOOD.replace("0123", "4567"),
        "runs:/1/model",
        "models:/default/1",
    ],
)
def test_any_other_source_is_refused(source: object) -> None:
    with pytest.raises(InputError, match="has the source") as error:
        validation.bundle_source(source, DIGEST, "version 2")
    assert error.value.what.isascii() and len(error.value.what) < 200


@pytest.mark.parametrize(
    "text",
    [
        *HOSTILE,
        None,
        "{",
        "{}",
        "NaN",
        "[NaN]",
        "[1e999999" * 2,
        '["\\ud800"]',
        "[" * 100_000,
        "[" * 33 + "]" * 33,
        f"[{'9' * 5000}]",
        f'["{"x" * 100_000}"]',
    ],
)
def test_json_that_is_none_or_of_another_kind_is_refused(text: object) -> None:
    with pytest.raises(InputError, match="which is not a list in JSON"):
        validation.json_value(text, list, "version 2, tag x")


def test_json_of_the_right_kind_passes() -> None:
    assert validation.json_value('[1, {"a": ["好"]}]', list, "x") == [1, {"a": ["好"]}]
    assert validation.json_value("{}", dict, "x") == {}
    assert validation.examples('[{"text": "好"}]', "x") == [{"text": "好"}]
    with pytest.raises(InputError, match="list of objects"):
        validation.examples('["好"]', "x")


def test_a_text_is_made_storable() -> None:
    assert (
        validation.storable("好 a\0b\ud800" + "x" * 2000)
        == "好 a\N{REPLACEMENT CHARACTER}b?" + "x" * 994
    )


GATE = Gate("baseline", True, 0.9, 0.8, "better", (0.85, 0.95))


def test_gates_come_back_from_their_tag() -> None:
    assert from_tag(json.dumps(as_rows([GATE])), "x") == [GATE]
    assert from_tag("[]", "x") == []


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '["a"]',
        "[{}]",
        "[[]]",
        '[{"name": 1, "passed": true}]',
        '[{"name": "a", "passed": "yes"}]',
        '[{"name": "a", "passed": true, "interval": 5}]',
        '[{"name": "a", "passed": true, "interval": ["a", "b"]}]',
        '[{"name": "a", "passed": true, "value": "high"}]',
        '[{"name": "a", "passed": true, "detail": null}]',
        "[" * 100_000,
    ],
)
def test_gates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        from_tag(text, "version 2, tag gates")


RECORD = Release("promoted", 1, None, [], "auto", "ann", "good", "2026-01-01T00:00:00")


def shelf(**params: str) -> RegistrySnapshot:
    """Return the registry with such params of the run of releases."""
    return RegistrySnapshot(
        "default", {}, {}, [], {key.replace("_", "."): value for key, value in params.items()}
    )


def test_records_that_are_none_are_passed_over() -> None:
    good = json.dumps(RECORD.__dict__)
    bad = ["{", "[]", "{}", "[" * 100_000, good.replace('"version": 1', '"version": "1"')]
    bad += [good.replace("promoted", "forged"), good.replace('"ann"', "5"), good.replace("[]", "5")]
    params = {f"release_{number:06d}": text for number, text in enumerate(bad)}
    assert records(shelf(**params, release_000999=good)) == [RECORD]
    assert (
        retrains(shelf(retrain_000001="{", retrain_000002='{"id": 1}', retrain_000003="[]")) == []
    )


class Log:
    """A run that takes each param once."""

    def __init__(self, **params: str) -> None:
        self.params = params
        self.info, self.lifecycle_stage = self, "active"

    def get_run(self, run: str) -> Log:
        return self

    def log_param(self, run: str, key: str, value: str) -> None:
        assert key not in self.params, "MLflow takes a param once"
        self.params[key] = value


def test_a_record_finds_a_place_behind_one_that_somebody_wrote_further_on(tmp_path) -> None:
    log = Log(**{"release.000001": "{}", "release.000003": "forged", "release.zz": "forged"})
    for _ in range(3):
        taken = RegistrySnapshot("default", {}, {}, [], dict(log.params))
        assert write(log, tmp_path, "run", taken, "release.", "{}")  # type: ignore[arg-type]
    assert sorted(log.params)[2:5] == ["release.000004", "release.000005", "release.000006"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "5",
        '{"a": 1}',
        "[" * 100_000,
        '{"ids": ["1"], "slices": null, "test": "t"}',
        '{"ids": ["1"], "right": [true, true], "slices": null, "test": "t"}',
        '{"ids": ["1"], "right": 5, "slices": null, "test": "t"}',
    ],
)
def test_answers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Cases.from_json(text)
