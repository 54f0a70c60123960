"""Text is normalized alike in training and serving, compared by content, and refused with a reason."""

from __future__ import annotations

import time
import unicodedata
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.fields import scripts, text
from components.fields.base import Change, Reject, Summary
from components.fields.markup import without_tags
from components.fields.scripts import main_script
from components.fields.text import Text, Title, comparable

FRAGMENTS = [
    "\u200d",
    "\u200c",
    "😀",
    "❤",
    "\ufe0f",
    "م",
    "क",
    "्",
    "<br",
    "<script>",
    "</script>",
    "<![CDATA[",
    "]]>",
    "=",
    '"',
    "&amp;",
    "amp;",
    "&lt;",
    "&#60;",
    "&",
    "lt;",
    "<b>",
    "</b>",
    "<!--",
    "-->",
    "<",
    ">",
    "＜",
    "＞",
    "＆",
    "e",
    "a",
    "好",
    "1",
    "ﷺ",
    "ﬁ",
]
FRAGMENTS += [" ", "\u200b", "\u0301", "\u3000", "\n", "\x00", "\x85", "\ufeff", "\ud800"]
ANYTHING = st.one_of(
    st.text(max_size=40), st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join)
)


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
    assert Text().normalize(raw) == clean


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a<br/>b<BR>c<br />d</p >e", "a b c d e"),
        ("<p class='x' id=y data-z hidden>c</p>", "c"),
        ('<a href="http://x.org/?q=1&r=2" target=_blank>link</a>', "link"),
        ('<img alt="a > b" src=x.png/>', ""),
        (
            '<font color="red" size=+1>old</font><center>and</center><marquee>gone</marquee>',
            "old and gone",
        ),
        ("<!DOCTYPE html><html><body>x</body></html>", "x"),
        ("<?xml version='1.0'?><![CDATA[raw text]]>", "raw text"),
        (
            "a<script>if (a < b) { alert('<b>') }</script>b<style type='text/css'>p { color: red }</style>c",
            "a b c",
        ),
        ("<table><tr><td width=100%>1</td></tr></table>", "1"),
        ('Hello,<o:p></o:p> <st1:place w:st="on">Rome</st1:place>', "Hello, Rome"),
        ("<![if !IE]>x<![endif]>", "x"),
        ("line<br>line<B>bold</B><P>paragraph", "line line bold paragraph"),
    ],
)
def test_tags_of_html_go_and_their_text_stays(raw: str, clean: str) -> None:
    assert without_tags(raw)[1] > 0
    assert " ".join(without_tags(raw)[0].split()) == clean


@pytest.mark.parametrize(
    "text",
    [
        "mail <name@host> or <bob.smith@example.org>",
        "see <http://example.org/a?b=c> and <https://x.y>",
        "List<String> and Map<K, V>, Map<String, Object>",
        "vector<int>, std::map<int, string>, Vec<u8>",
        "List<Object> List<Map> Set<Label> Class<Button> Optional<Time>",
        "a <b and c> d",
        "if x<y and z>w",
        "i<3 j, I <3 you, <3<3<3",
        "a < b > c <- d -> e <=> f",
        "cp <source> <target>",
        "<unk> <pad> <mask> <user> <name> <your name here>",
        "<好> <тег> <1>",
        "</String> </name>",
        "<b = c> is no tag, nor is <i think so>",
        "a <!-- that never ends",
        "«text» <<quoted>>",
        "#include <stdio.h> #include <vector>",
        "<a",
        "<p class=",
    ],
)
def test_what_only_looks_like_a_tag_stays(text: str) -> None:
    assert Text().normalize(text) == text
    assert without_tags(text) == (text, 0)


@pytest.mark.parametrize(
    "text",
    [
        "👨‍👩‍👧‍👦 family",
        "🏳️‍🌈 ❤️‍🔥 👩🏽‍⚕️ 🤷🏻‍♀️",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "1️⃣ 🇩🇪",
        "می‌خواهم",
        "क्‍ष क्‌ष",
        "ශ්‍රී ලංකා",
    ],
)
def test_sequences_of_emoji_and_joined_letters_stay_whole(text: str) -> None:
    assert Text().normalize(text) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    "text",
    [
        "\u200da",
        "a\u200db",
        "好\u200c好",
        "😀\u200d",
        "😀\u200dx",
        "x\U000e0067",
        "م\u200c\u200c",
        "\u200d😀",
        "م\u200c،",
    ],
)
def test_other_invisible_characters_go(text: str) -> None:
    assert not set(Text().normalize(text)) & {"\u200c", "\u200d", "\U000e0067"}


@pytest.mark.parametrize("text", ["😀", "👍👍", "★★★", ":)", "1️⃣", "🇩🇪", "ก็", "好的"])
def test_a_short_text_that_says_something_is_used(text: str) -> None:
    assert Text(min_characters=2).clean(text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not_text"),
        (3, "not_text"),
        (b"x", "not_text"),
        ("", "empty"),
        (" \n\u200b", "empty"),
        ("!?…", "empty"),
        ("<br><br>", "empty"),
        ("&amp;nbsp;", "empty"),
        ("&" + "amp;" * 40 + "x", "not_text"),
    ],
)
def test_what_is_no_use_is_rejected_with_its_reason(value: object, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        Text().normalize(value)
    assert caught.value.reason == reason


def test_clean_refuses_what_is_too_short_and_cuts_what_is_too_long() -> None:
    assert Text(min_characters=2).clean("好!b") == "好!b"
    with pytest.raises(Reject) as caught:
        Text(min_characters=2).clean("好!!!")
    assert (caught.value.reason, caught.value.detail) == ("too_short", "好!!!")
    assert Text(min_characters=2).normalize("好!!!") == "好!!!"  # a client may ask it
    assert Text(max_characters=4).clean("abc def") == "abc"


HOSTILE = [
    "<script>",
    "<script><style>",
    "<svg ",
    "<![CDATA[",
    "<![if ",
    "<!doctype ",
    "<?xml ",
    "<a b='",
    "<a b=\"'",
    "<a hidden ",
    "</p ",
    "<p/",
    "<o:p ",
    "<x@y.z>",
    "😀\u200d",
    "&lt;b&gt;",
    ":)",
    "List<Label>",
    "<!-",
    "-->",
]


@settings(max_examples=150, deadline=None)
@given(ANYTHING, st.integers(3, 30))
def test_normalised_text_stays_as_it_is_and_holds_no_control(raw: str, longest: int) -> None:
    field = Text(max_characters=longest)
    try:
        once = field.normalize(raw)
    except Reject:
        return
    assert len(once) <= longest
    assert not [
        char
        for char in once
        if unicodedata.category(char).startswith("C") and char not in "\u200c\u200d"
    ]
    assert "  " not in once
    assert once == once.strip()
    try:
        assert field.normalize(once) == once
    except Reject:
        pytest.fail(f"{once!r} was accepted first and rejected then")


@pytest.mark.parametrize(
    "hostile",
    [
        *(piece * (200_000 // len(piece)) for piece in HOSTILE),
        "<a" + " " * 200_000,
        "<a b" + " = " * 60_000,
        "<a b=" + "'\"" * 100_000,
        "<a " + "data-" * 40_000,
        "<script>" + "</script" * 25_000,
        "<b" * 60_000 + ">" * 60_000,
        "😀" + "\u200d" * 199_999,
        "<!--" * 25_000 + "x",
        "<a" * 50_000 + "x",
        "&amp;" * 20_000 + "x",
        "&" * 100_000 + "x",
        "&" + "amp;" * 25_000 + "x",
    ],
    ids=lambda text: text[:8],
)
def test_no_text_of_a_client_takes_long(hostile: str) -> None:
    start = time.process_time()
    with suppress(Reject):
        Text().normalize(hostile)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("Very GOOD.", "very good", True),
        ("很好。", "很 好", True),
        ("（很好），“真的”……", "很好 真的", True),
        ("ｖｅｒｙ", "very", True),
        ("a&amp;b", "ab", True),
        ("AT&lt;T", "at<t", True),
        ("❤️", "❤", True),  # a variation selector is dress
        ("می\u200cخواهم", "میخواهم", True),  # many leave the non-joiner out
        ("好吗", "好吗？", False),
        ("好吗", "好！", False),
        ("好？", "好！", False),
        ("好！", "好!", True),
        ("毛巾😀", "毛巾😡", False),
        ("👍🏻", "👍🏿", False),  # tones of skin
        ("👨‍👩‍👧", "👨‍👩‍👦", False),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴", False),
        ("nice :)", "nice :(", False),
        ("nice :-)", "nice", False),
        ("at 8:30", "at 830", True),
        ("3.5分", "35分", False),
        ("C++", "C#", False),
        ("C", "C#", False),
        ("5%", "5", False),
        ("$5", "5€", False),
        ("x<y", "x>y", False),
        ("ที่นี่", "ทีนี", False),  # tone marks of Thai
        ("की", "क", False),  # vowel signs of Hindi
        ("كَتَبَ", "كُتِبَ", False),  # vowels of Arabic
        ("שָׁלוֹם", "שלום", False),
        ("good", "goods", False),
        ("很好", "很坏", False),
        ("1 2", "12", True),
    ],
)
def test_comparable(a: str, b: str, equal: bool) -> None:
    one, other = comparable([a, b])
    assert (one == other) is equal


def similarity(a: str, b: str) -> float:
    """Of one pair."""
    return float(Text().similarities([a, b], [(0, 1)])[0])


def variations(count: int) -> list[tuple[str, str]]:
    """Pairs of texts whose 3-grams have a Jaccard similarity of 0.85 to 1: a character here and there is changed."""
    rng = np.random.default_rng(5)
    alphabet = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        text = "".join(
            rng.choice(
                alphabet if len(pairs) % 2 else list("abcdefghijklmnopqrstuvwxyz "),
                int(rng.integers(40, 160)),
            )
        )
        other = list(text)
        for at in rng.choice(len(other), int(rng.integers(1, 4)), replace=False):
            other[at] = "x"
        if (
            len(set(comparable([text, "".join(other)]))) == 2
            and similarity(text, "".join(other)) >= 0.85
        ):
            pairs.append((text, "".join(other)))
    return pairs


def test_near_duplicates_share_a_band_and_strangers_do_not() -> None:
    field, pairs = Text(), variations(200)
    signatures = [np.asarray(field.lsh_bands(pair)) for pair in pairs]
    assert sum(bool((one == two).any()) for one, two in signatures) >= 199
    strangers = [bool((signatures[i][0] == signatures[i + 2][0]).any()) for i in range(198)]
    assert sum(strangers) == 0


def test_the_table_of_scripts_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "_MOST_SIGNS", 50)
    scripts._SCRIPT_SIGNS.clear()
    assert main_script("".join(map(chr, range(0x4E00, 0x4F00)))) == "han"
    assert len(scripts._SCRIPT_SIGNS) <= 50


def bands_by_hand(value: str) -> list[int]:
    """The least hashes of all grams, mixed by fours, computed with whole numbers of Python."""
    codes = [ord(letter) for letter in value] + [0] * max(0, 4 - len(value))
    grams = [
        (a << 42) ^ (b << 21) ^ c for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)
    ]
    numbers = [(gram * int(text._MIXER) % (1 << 64)) >> 32 for gram in grams]
    least = [
        min((number * multiplier + offset) % (1 << 32) for number in numbers)
        for multiplier, offset in text._HASHES.tolist()
    ]
    bands = []
    for start in range(0, len(least), text._ROWS):
        mixed = 0
        for one in least[start : start + text._ROWS]:
            mixed = (mixed * 1_000_003 + one) % (1 << 64)
        bands.append(mixed)
    return bands


def test_signatures_are_the_least_hashes_of_all_grams_in_any_company(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    values = [
        "".join(rng.choice(list("abcdefgh很好酒店"), length))
        for length in (1, 2, 3, 4, 70, 1, 129, 5000)
    ]
    expected = [bands_by_hand(value) for value in values]
    assert np.asarray(Text().lsh_bands(values)).tolist() == expected
    monkeypatch.setattr(text, "_CHARACTERS_AT_ONCE", 100)
    assert np.asarray(Text().lsh_bands(values)).tolist() == expected
    assert np.asarray(Text().lsh_bands([])).shape == (0, 32)


def test_texts_of_nothing_but_marks_are_compared_by_these() -> None:
    marks, dots, others = np.asarray(Text().lsh_bands(["!?!?!?", "!? ... !?!?", "?????"]))
    assert (marks == dots).all() and (marks != others).any()
    assert similarity("!?!?!?", "!? ... !?!?") == 1


@given(st.lists(ANYTHING, max_size=8))
def test_keys_do_not_depend_on_the_texts_beside_them(texts: list[str]) -> None:
    together = Text().keys(texts)
    assert together == [Text().keys([each])[0] for each in texts]


@given(st.lists(ANYTHING, min_size=1, max_size=8))
def test_signatures_do_not_depend_on_the_texts_beside_them(texts: list[str]) -> None:
    together = np.asarray(Text().lsh_bands(texts))
    alone = np.concatenate([np.asarray(Text().lsh_bands([each])) for each in texts])
    np.testing.assert_array_equal(together, alone)


def test_a_signature_is_of_the_content_not_of_its_dress() -> None:
    one, other = np.asarray(Text().lsh_bands(["Very good, 很好!", "very GOOD 很 好"]))
    np.testing.assert_array_equal(one, other)


@settings(max_examples=60, deadline=None)
@given(st.text("ab好坏1", min_size=1, max_size=12), st.text("ab好坏1", min_size=1, max_size=12))
def test_similar_is_symmetric_and_one_only_for_equals_of_the_same_grams(a: str, b: str) -> None:
    assert similarity(a, b) == similarity(b, a)
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, a) == 1


def test_similar_is_the_jaccard_of_character_3_grams() -> None:
    assert similarity("abcdef", "abcdxy") == pytest.approx(2 / 6)  # abc bcd | cde def cdx dxy
    assert similarity("abcdef", "uvwxyz") == 0


def test_profile_and_show() -> None:
    assert Text().profile("很好 very") == {"length": 7.0, "script": "latin"}
    assert Text().profile("房间很好 ok") == {"length": 7.0, "script": "han"}
    assert Text().show('<script>"&') == "&lt;script&gt;&quot;&amp;"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("The room is clean, 2 stars", "latin"),
        ("café Übergröße żółw", "latin"),
        ("房间很好", "han"),
        ("这个App的UI", "latin"),
        ("今日は天気がいい", "kana"),
        ("東京都庁舎展望台の", "han"),
        ("방이 깨끗해요", "hangul"),
        ("Комната чистая", "cyrillic"),
        ("ห้องสะอาดมาก", "thai"),
        ("الغرفة نظيفة", "arabic"),
        ("कमरा साफ है", "devanagari"),
        ("Το δωμάτιο", "greek"),
        ("החדר נקי", "hebrew"),
        ("אבג abc d", "latin"),
        ("ოთახი", "other"),
        ("😀 123 !", "other"),
    ],
)
def test_each_script_has_its_name(text: str, script: str) -> None:
    assert main_script(text) == script


def test_what_is_lost_is_measured() -> None:
    field = Text(max_characters=10)
    raw = "<p>" + "ab " * 10 + "</p>"
    changes = field.changes(raw, field.clean(raw))
    assert (changes["cut"].lost, changes["cut"].whole) == (29 - 10, 29)
    assert changes["tags"].lost == 2
    assert field.changes("short", field.clean("short")) == {}
    assert field.changes("a<b, x@y", field.clean("a<b, x@y")) == {}
    assert "cut" not in field.changes("x" * 10, field.clean("x" * 10))
    assert field.changes("x" * 9 + " yz", field.clean("x" * 9 + " yz"))["cut"] == Change(3, 12)


def test_the_line_names_rows_share_and_knob() -> None:
    line = Text(max_characters=2000).describe_change("cut", Summary(3228, 4640, 58.0, 100.0, {}))
    assert (
        line
        == "3,228 of 4,640 texts cut at 2,000 characters (58% of their characters lost): clean.max_characters"
    )
    assert (
        Title()
        .describe_change("cut", Summary(3, 3, 1e-6, 1.0, {}))
        .startswith("all 3 titles cut at 100,000 characters (less than 1%")
    )


def test_words_with_combining_signs_are_one_piece() -> None:
    assert Text().pieces("हिन्दी भाषा, naïve 很好的") == ["हिन्दी", "भाषा", "naïve", "很好", "好的"]
    assert Text().pieces("كِتَابٌ שָׁלוֹם") == ["كِتَابٌ", "שָׁלוֹם"]
    assert Text().pieces("ที่นี่") == ["ที่นี่"]
