"""Personal data are replaced alike in clean and in serving; the key of hashes is in no file."""

from __future__ import annotations

import pytest

from components.core.errors import EnvironmentFault
from components.fields.base import Reject, Summary
from components.fields.privacy import KEY_VARIABLE, Privacy, fingerprint, key_of
from components.fields.text import Text, Title

KEY = "k" * 32
TEXT = "打13812345678 或 +86 138 1234 5678,别打13912345678"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    key_of.cache_clear()
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def test_a_hash_is_equal_for_equal_data_and_has_no_number_of_it() -> None:
    field = Text(privacy=Privacy("hash", fingerprint(KEY)))
    text = field.clean(TEXT)
    first, second, third = (part.partition(">")[0] for part in text.split("<phone:")[1:])
    assert first == second != third
    assert len(first) == 16 and not any(char.isdigit() for char in text)
    assert field.normalize(text) == text


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "is not set"),
        ("short", "has 5 characters"),
        ("x" * 32, "is the key"),
    ],
)
def test_a_missing_or_wrong_key_is_an_error(
    monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(EnvironmentFault, match=message) as caught:
        Privacy("hash", fingerprint(KEY)).protect(TEXT)
    assert KEY_VARIABLE in str(caught.value)


def test_a_cut_leaves_no_part_of_a_number_and_makes_none() -> None:
    field = Text(max_characters=16, privacy=Privacy("mask"))
    assert field.clean("我的电话号码是这个13812345678吧") == "我的电话号码是这个<phone>"
    # Twelve digits are no phone number until a cut makes them one.
    text = Text(max_characters=11, privacy=Privacy("mask")).clean("138123456789好")
    assert text == "<phone>"


def test_rows_with_personal_data_are_dropped_but_answered() -> None:
    for field in (Text(privacy=Privacy("drop")), Title(privacy=Privacy("drop"))):
        with pytest.raises(Reject, match="personal_data"):
            field.clean(TEXT)
        assert field.normalize(TEXT) == TEXT
        assert field.clean("很好的酒店") == "很好的酒店"


@pytest.mark.parametrize(("mode", "end"), [("report", "stay"), ("mask", "are replaced")])
def test_the_report_counts_each_kind(mode: str, end: str) -> None:
    field = Text(privacy=Privacy(mode))  # type: ignore[arg-type]
    changes = field.changes(TEXT, field.clean(TEXT))
    assert {name: change.lost for name, change in changes.items()} == {"private_phone": 3}
    line = field.describe_change("private_phone", Summary(1, 4, 3, 3, {}))
    assert line == (
        f"1 of 4 texts have personal data of the kind phone (3, which {end}): clean.private"
    )


def test_a_raw_text_is_shown_without_what_is_kept_out() -> None:
    assert Text(privacy=Privacy("drop")).redacted("<b>打&#49;3812345678</b>") == "打<phone>"
    assert Text(privacy=Privacy("report")).redacted("打13812345678") == "打13812345678"
