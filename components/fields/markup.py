"""Remove HTML from texts, and leave text that only looks like a tag."""

from __future__ import annotations

import re

# Elements of HTML, obsolete ones too. Anything else in angle brackets is text: an address, a type
# parameter, a comparison.
_ELEMENTS = """
a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink
blockquote body br button canvas caption center cite code col colgroup command content data datalist
dd del details dfn dialog dir div dl dt element em embed fencedframe fieldset figcaption figure font
footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe image img input ins
isindex kbd keygen label legend li link listing main map mark marquee math menu menuitem meta meter
multicol nav nextid nobr noembed noframes noscript object ol optgroup option output p param picture
plaintext portal pre progress q rb rbc rp rt rtc ruby s samp script search section select shadow
slot small source spacer span strike strong style sub summary sup svg table tbody td template
textarea tfoot th thead time title tr track tt u ul var video wbr xmp
"""
# These do nothing without an attribute. A bare one stands for something: `cp <source> <target>`,
# `List<Object>`.
_NEED_ATTRIBUTES = frozenset(
    [
        "area",
        "base",
        "data",
        "embed",
        "image",
        "link",
        "map",
        "meta",
        "object",
        "param",
        "source",
        "track",
    ]
)
# Attributes that need no value. With any other name that has none, the brackets are text:
# `<b and c>`.
_BOOLEAN = """
allowfullscreen async autofocus autoplay checked compact contenteditable controls declare default
defer disabled download formnovalidate hidden inert ismap itemscope loop multiple muted nohref
nomodule noresize noshade novalidate nowrap open playsinline readonly required reversed selected
"""

# All quantifiers are possessive, and no part of a tag reaches beyond the next "<". So each
# character is read a fixed number of times, whatever a client sends. Quoted values may hold ">",
# which ends no tag there.
_NAMES = "|".join(sorted(_ELEMENTS.split(), key=len, reverse=True))
_VALUE = r"""(?:"[^"<]*+"|'[^'<]*+'|[^\s"'<>`][^\s<>]*+)"""
_WITH_VALUE = rf"""[^\s"'<>/=]++\s*+=\s*+{_VALUE}"""
_ALONE = rf"(?:{'|'.join(_BOOLEAN.split())}|data-[\w-]++)(?=[\s/>])"
_ATTRIBUTES = rf"(?:[\s/]*+(?:{_WITH_VALUE}|{_ALONE}))*+"
# Word processors write elements of their own into mails: <o:p>, <st1:place w:st="on">.
_OPENING = (
    rf"<(?P<name>{_NAMES}|(?:[ovwxm]|st1):[a-z]++)(?=[\s/>])(?P<attributes>{_ATTRIBUTES})[\s/]*+>"
)
_CLOSING = rf"</(?:{_NAMES}|(?:[ovwxm]|st1):[a-z]++)\s*+>"
_DECLARATION = r"<!doctype[^<>]*+>|<\?xml[^<>]*+>|<!\[(?:if|endif)\b[^<>]*+>"
# A comment ends at the next "-->", or it is no comment. A search past a further "<!--" would be
# quadratic.
_COMMENT = r"<!--(?:(?!<!--).)*?-->"
_CDATA = r"<!\[CDATA\[(?P<cdata>(?:(?!<!\[CDATA\[).)*?)\]\]>"
# A reader does not see the content between these two tags. The next opening tag of the same kind
# ends the search.
_UNSEEN = (
    r"<(?P<unseen>script|style|svg)(?=[\s/>])[^<>]*+>"
    r"(?:(?!<(?P=unseen)[\s/>]).)*?"
    r"</(?P=unseen)\s*+>"
)
_TAG = re.compile(
    "|".join((_UNSEEN, _OPENING, _CLOSING, _COMMENT, _CDATA, _DECLARATION)),
    re.DOTALL | re.IGNORECASE,
)


def without_tags(text: str) -> tuple[str, int]:
    """Return a text with a space in place of each tag, and the number of tags.

    Args:
        text: with its entities unescaped.
    """
    if "<" not in text:
        return text, 0
    count = 0

    def replace(match: re.Match[str]) -> str:
        """Return a space in place of a tag, and count it. A match that is text stays."""
        nonlocal count
        if _is_text(match):
            return match.group()
        count += 1
        return f" {match['cdata'] or ''} "

    return _TAG.sub(replace, text), count


def _is_text(match: re.Match[str]) -> bool:
    """Return whether brackets with the name of an element are no tag after all."""
    name = match["name"]
    if name is None or match["attributes"] or "/" in match.group():
        return False
    if name.lower() in _NEED_ATTRIBUTES:
        return True
    # A type parameter: `List<Item>`. Hand-written HTML has no capitalized tag directly after a
    # word.
    before = match.string[match.start() - 1 : match.start()]
    return (
        len(name) > 2
        and name[0].isupper()
        and name[1:].islower()
        and before.isascii()
        and (before.isalnum() or before == "_")
    )
