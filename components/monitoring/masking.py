"""Masking of personal data: it is masked before anything is written to a log."""

from __future__ import annotations

import re

from components.fields.personal_data import placeholder, replace

_NUMERALS = "零〇一二三四五六七八九幺两"
_URLS = [
    (
        re.compile(
            r"(?i)(?<![a-z0-9])(https?://|www\.)(?:[^\s/@?#]{1,200}@)?"
            r"([^\s?#\u3400-\u9fff]{1,2000})[?#][!-~]*"
        ),
        r"\1\2?[query]",
    ),
    (re.compile(r"(?i)(?<![a-z0-9])(https?://)[^\s/@?#]{1,200}@"), r"\1"),
]
# Whatever is long enough to be the identity of somebody: a log can do without it.
_IDENTITIES = [
    # seven digits with what people put between them
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

    Masked are the personal data that `clean.private: mask` replaces, in the same words. Digit
    runs that may be identities, long tokens, and the users and queries of URLs are masked too.
    Names and what is written out in words stay. So a log tells less of people, but it is not
    anonymous.
    """
    for rule, mask in _URLS:
        text = rule.sub(mask, text)
    text = replace(text, placeholder)
    for rule, mask in _IDENTITIES:
        text = rule.sub(mask, text)
    return text
