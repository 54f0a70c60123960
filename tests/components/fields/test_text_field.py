"""Text is normalised alike in training and serving, compared by content, and refused with a reason."""

from __future__ import annotations

import time
import unicodedata
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.fields.base import Reject
from components.fields.text import Text, comparable

FRAGMENTS = ["&amp;", "amp;", "&lt;", "&#60;", "&", "lt;", "<b>", "</b>", "<!--", "-->", "<", ">", "＜", "＞", "＆", "e", "a", "好", "1", "ﷺ", "ﬁ"]
FRAGMENTS += [" ", "\u200b", "\u0301", "\u3000", "\n", "\x00", "\x85", "\ufeff", "\ud800"]
ANYTHING = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Ｇｏｏｄ　ｒｏｏｍ１", "Good room1"),  # NFKC
        ("ﬁne ①", "fine 1"),
        ("fish &amp; chips &#8212; caf&eacute;", "fish & chips — café"),
        ("AT&amp;amp;T &amp;lt;3", "AT&T <3"),  # escaped twice
        ("a<br/>b<p class='x'>c</p>", "a b c"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("＜b＞bold", "bold"),  # a tag only after NFKC
        ("a <!-- not\nthis --> b", "a b"),
        ("3 < 5 and 7 > 6, I <3 it", "3 < 5 and 7 > 6, I <3 it"),
        ("zero\u200bwidth\ufeff soft\u00adhyphen \u202eturned", "zerowidth softhyphen turned"),
        ("e\u200b\u0301", "é"),
        ("bell\x07 null\x00", "bell null"),
        ("  two\t\tlines\r\n\n end\x0cfeed\x85next ", "two lines end feed next"),
        ("很好\u3000的  酒店", "很好 的 酒店"),
    ],
)
def test_normalise(raw: str, clean: str) -> None:
    assert Text().normalise(raw) == clean


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not_text"),
        (3, "not_text"),
        (b"x", "not_text"),
        ("", "empty"),
        (" \n\u200b", "empty"),
        ("!?…👍", "empty"),
        ("<br><br>", "empty"),
        ("&amp;nbsp;", "empty"),
        ("&" + "amp;" * 40 + "x", "not_text"),
    ],
)
def test_what_is_no_use_is_rejected_with_its_reason(value: object, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        Text().normalise(value)
    assert caught.value.reason == reason


def test_clean_refuses_what_is_too_short_and_cuts_what_is_too_long() -> None:
    assert Text(min_characters=2).clean("好!b") == "好!b"
    with pytest.raises(Reject) as caught:
        Text(min_characters=2).clean("好!!!")
    assert (caught.value.reason, caught.value.detail) == ("too_short", "好!!!")
    assert Text(min_characters=2).normalise("好!!!") == "好!!!"  # a client may ask it
    assert Text(max_characters=4).clean("abc def") == "abc"


@settings(max_examples=150, deadline=None)
@given(ANYTHING, st.integers(3, 30))
def test_normalised_text_stays_as_it_is_and_holds_no_control(raw: str, longest: int) -> None:
    field = Text(max_characters=longest)
    try:
        once = field.normalise(raw)
    except Reject:
        return
    assert len(once) <= longest
    assert not [char for char in once if unicodedata.category(char).startswith("C")]
    assert "  " not in once
    assert once == once.strip()
    try:
        assert field.normalise(once) == once
    except Reject:
        pytest.fail(f"{once!r} was accepted first and rejected then")


@pytest.mark.parametrize("hostile", ["<!--" * 25_000 + "x", "<a" * 50_000 + "x", "&amp;" * 20_000 + "x", "&" * 100_000 + "x", "&" + "amp;" * 25_000 + "x"], ids=lambda text: text[:8])
def test_no_text_of_a_client_takes_long(hostile: str) -> None:
    start = time.process_time()
    with suppress(Reject):
        Text().normalise(hostile)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("Very GOOD!", "very good", True),
        ("很好。", "很 好", True),
        ("ｖｅｒｙ", "very", True),
        ("a&amp;b", "ab", True),
        ("AT&lt;T", "at t", True),
        ("good", "goods", False),
        ("很好", "很坏", False),
        ("1 2", "12", True),
    ],
)
def test_comparable(a: str, b: str, equal: bool) -> None:
    assert (comparable(a) == comparable(b)) is equal


def variations(count: int) -> list[tuple[str, str]]:
    """Pairs of texts whose 3-grams have a Jaccard similarity of 0.85 to 1: a character here and there is changed."""
    rng = np.random.default_rng(5)
    field = Text()
    alphabet = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        text = "".join(rng.choice(alphabet if len(pairs) % 2 else list("abcdefghijklmnopqrstuvwxyz "), int(rng.integers(40, 160))))
        other = list(text)
        for at in rng.choice(len(other), int(rng.integers(1, 4)), replace=False):
            other[at] = "x"
        if comparable(text) != comparable("".join(other)) and field.similar(text, "".join(other)) >= 0.85:
            pairs.append((text, "".join(other)))
    return pairs


def test_near_duplicates_share_a_band_and_strangers_do_not() -> None:
    field, pairs = Text(), variations(200)
    signatures = [tuple(np.asarray(field.signature(text)) for text in pair) for pair in pairs]
    assert sum(bool((one == two).any()) for one, two in signatures) >= 199
    strangers = [bool((signatures[i][0] == signatures[i + 2][0]).any()) for i in range(198)]
    assert sum(strangers) == 0


def test_a_signature_is_of_the_content_not_of_its_dress() -> None:
    np.testing.assert_array_equal(Text().signature("Very good, 很好!"), Text().signature("very GOOD 很 好"))


@settings(max_examples=60, deadline=None)
@given(st.text("ab好坏1", min_size=1, max_size=12), st.text("ab好坏1", min_size=1, max_size=12))
def test_similar_is_symmetric_and_one_only_for_equals_of_the_same_grams(a: str, b: str) -> None:
    field = Text()
    assert field.similar(a, b) == field.similar(b, a)
    assert 0 <= field.similar(a, b) <= 1
    assert field.similar(a, a) == 1


def test_similar_is_the_jaccard_of_character_3_grams() -> None:
    assert Text().similar("abcdef", "abcdxy") == pytest.approx(2 / 6)  # abc bcd | cde def cdx dxy
    assert Text().similar("abcdef", "uvwxyz") == 0


def test_profile_and_show() -> None:
    assert Text().profile("很好 very") == {"length": 7.0, "script": "other"}
    assert Text().profile("房间很好 ok") == {"length": 7.0, "script": "han"}
    assert Text().show('<script>"&') == "&lt;script&gt;&quot;&amp;"
