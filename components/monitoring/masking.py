"""Masking of personal data: it is masked before anything is written to a log."""

from __future__ import annotations

import re

_NUMERALS = "零〇一二三四五六七八九幺两"
_RULES = [
    (
        re.compile(
            r"(?i)(?<![a-z0-9])(https?://|www\.)(?:[^\s/@?#]{1,200}@)?"
            r"([^\s?#\u3400-\u9fff]{1,2000})[?#][!-~]*"
        ),
        r"\1\2?[query]",
    ),
    (re.compile(r"(?i)(?<![a-z0-9])(https?://)[^\s/@?#]{1,200}@"), r"\1"),
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "[email]"),
    (re.compile(r"(?<!\d)\d{1,3}(?:\.\d{1,3}){3}(?!\d)"), "[number]"),
    # phones, cards, dates: seven digits with what people put between them
    (
        re.compile(r"[+(（]?\d(?:[ ()（）./_\u2010-\u2015-]{0,3}\d){6,}[xX]?"),
        "[number]",
    ),
    (re.compile(rf"[{_NUMERALS}](?:[ -]?[{_NUMERALS}]){{6,}}"), "[number]"),
    # keys and tokens
    (re.compile(r"(?a)(?<![\w-])(?=[\w-]*\d)[\w-]{20,}(?!\w)"), "[id]"),
    (re.compile(r"(?a)[a-zA-Z]{0,8}\d{6,}\w*"), "[id]"),
]


def mask(text: str) -> str:
    """Return a text in which personal data are masked.

    Masked are e-mail addresses, phone numbers, digit runs that may be identities, long tokens,
    and the users and queries of URLs. Names and what is written out in words stay. So a log tells
    less of people, but it is not anonymous.
    """
    for rule, mask in _RULES:
        text = rule.sub(mask, text)
    return text
