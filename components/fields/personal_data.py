"""Find personal data in Chinese and English texts by validated rules.

Names and addresses are not found, because no rule validates them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

# Every kind has a digit or an at sign.
_SUSPICIOUS = re.compile("[0-9@０-９＠]")
# Characters of full width, and their plain forms of the same length.
_WIDE = re.compile("[！-～]")
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
# It stands in for data that an earlier rule has found, and is part of no other data.
_FILLER = "\0"

_GAP = r"[- \u2010-\u2015\u2212]"
_GAP_OR_DOT = r"[-. \u2010-\u2015\u2212]"
# A capital letter, a decimal point or a dash beside a number belongs to it: codes and amounts.
_BEFORE = r"(?<![0-9A-Z])(?<![0-9][-.])"
_AFTER = r"(?![0-9A-Za-z]|[.][0-9])"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}"
    r"@(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}[.]){1,8}(?P<ending>[A-Za-z]{2,24})(?![A-Za-z0-9])"
)
_FILE_ENDING = re.compile("bmp|css|gif|html?|ico|jpe?g|js|json|pdf|png|svg|webp|xml", re.IGNORECASE)

_IPV4 = re.compile(r"(?<![0-9A-Za-z.])[0-9]{1,3}(?:[.][0-9]{1,3}){3}(?![0-9A-Za-z]|[.][0-9])")
_IPV6 = re.compile(
    r"(?<![\w.])(?<![0-9A-Fa-f:]:)[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,35}(?![\w:])", re.ASCII
)

_ID_CARD = re.compile(
    rf"(?<![0-9])[1-9][0-9]{{5}}{_GAP}?(?:18|19|20)[0-9]{{6}}{_GAP}?[0-9]{{3}}[0-9Xx]"
    r"(?![0-9A-Za-z])"
)
_CHECK_CHARACTERS = "10X98765432"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_PROVINCES = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91")

_BANK_CARD = re.compile(
    rf"{_BEFORE}(?:[0-9]{{13,19}}"
    rf"|[0-9]{{4}}(?P<gap>{_GAP})[0-9]{{4}}(?P=gap)[0-9]{{4}}(?P=gap)[0-9]{{1,4}}"
    rf"(?:(?P=gap)[0-9]{{1,3}})?"
    rf"|[0-9]{{4}}{_GAP}[0-9]{{6}}{_GAP}[0-9]{{4,5}}"
    rf"|[0-9]{{6}}{_GAP}[0-9]{{7,13}}){_AFTER}"
)
# Beginnings and lengths by ISO/IEC 7812: American Express, Diners, Visa, Mastercard, JCB,
# Maestro with UnionPay and Discover, and debit cards of China from before UnionPay.
_ISSUED = re.compile(
    r"3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11}|4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|(?:2131|1800)[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    r"|(?:5[0678]|6[0-9])[0-9]{11,17}|9558[0-9]{12,15}"
)

# A mobile number of China, in the ranges that are in use.
_MOBILE = re.compile(
    rf"(?:(?<![0-9])(?:[+]|00)86{_GAP}?|(?<![0-9A-Z+])86{_GAP}|{_BEFORE})"
    r"(?P<number>1(?:[348][0-9]|5[0-35-9]|6[25-7]|7[0-8]|9[0-35-9])"
    rf"(?:(?P<gap>{_GAP_OR_DOT}?)[0-9]{{4}}(?P=gap)?[0-9]{{4}}"
    rf"|[0-9]{_GAP}[0-9]{{3}}{_GAP}[0-9]{{4}})){_AFTER}"
)
# A landline of China with its area.
_LANDLINE = re.compile(
    rf"(?:(?<![0-9])(?:[+]|00)86{_GAP}?[(]?0?|{_BEFORE}[(]?0)"
    rf"(?P<number>(?:10|2[0-57-9]|[3-9][0-9]{{2}})[)]?{_GAP}{{0,2}}"
    rf"[2-9][0-9]{{2,3}}{_GAP}?[0-9]{{4}}){_AFTER}"
)
# A number of North America: neither area nor exchange ends in 11, and no area in 00.
_AREA = "[2-9](?!00|11)[0-9]{2}"
_EXCHANGE = "[2-9](?!11)[0-9]{2}"
_NORTH_AMERICA = re.compile(
    rf"(?<![0-9])(?:[+]|00)1{_GAP_OR_DOT}?(?P<number>[(]?{_AREA}[)]?{_GAP_OR_DOT}?"
    rf"{_EXCHANGE}{_GAP_OR_DOT}?[0-9]{{4}}){_AFTER}"
)
_NORTH_AMERICA_AT_HOME = re.compile(
    rf"{_BEFORE}(?:1{_GAP_OR_DOT})?(?P<number>(?:[(]{_AREA}[)] ?|{_AREA}[-.])"
    rf"{_EXCHANGE}[-.][0-9]{{4}}){_AFTER}"
)
# A number with its country (ITU-T E.164).
_INTERNATIONAL = re.compile(
    r"(?<![0-9A-Za-z+])(?:[+] ?|00)(?P<number>(?!1|86)[1-9]"
    r"(?:(?:[(]0[)]|[-. ()/\u2010-\u2015\u2212]){0,3}[0-9]){7,14})(?![0-9A-Za-z])"
)
_COUNTRIES = re.compile(
    r"7|2(?:[07]|[1-69][0-9])|3(?:[0-469]|[578][0-9])|4(?:[013-9]|2[0-9])|5(?:[1-8]|[09][0-9])"
    r"|6(?:[0-6]|[7-9][0-9])|8(?:[1246]|[058][0-9])|9(?:[0-58]|[679][0-9])"
)

_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-Za-hj-z][-·•. ]?"
    r"(?P<tail>[A-HJ-NP-Za-hj-np-z0-9]{5}|[A-HJ-NP-Za-hj-np-z0-9]{4}[挂学警港澳]"
    r"|[A-HJKa-hjk][A-HJ-NP-Za-hj-np-z0-9][0-9]{4}|[0-9]{5}[A-HJKa-hjk])(?![0-9A-Za-z])"
)
_DIGITS_OF_PLATE = 3

# The words before a number that is no phone, card or address of a host.
_COUNTER = re.compile(
    r"(?i)(?:(?:订|货|运|快递|发票|流水|序列|编|单|票|批|型|条码|合同)单?(?:编?号|号码|码)"
    r"|\b(?:order|invoice|tracking|serial|parcel|ticket|batch|part|item|isbn|sku|ref|reference)\b"
    r"(?: ?(?:number|no[.]?|id|code))?)[ :：#=是为is]{0,4}$"
)
_VERSION = re.compile(
    r"(?i)(?:\bv|\bver[.]?|\bversion|\brelease|\bfirmware|\bbuild|版本号?|固件|升级到)[ :：=是为]{0,3}$"
)
_WORDS_BEFORE = 24


@dataclass(frozen=True)
class PersonalData:
    """Personal data in a text.

    Args:
        kind: one of `KINDS`.
        start: position in characters.
        end: position after it.
        value: its canonical form. Ways to write the same data have the same one.
    """

    kind: str
    start: int
    end: int
    value: str


def find(text: str) -> list[PersonalData]:
    """Return the personal data of a text, in the order of their positions.

    Digits and letters of full width count as plain ones.
    """
    if not _SUSPICIOUS.search(text):
        return []
    if _WIDE.search(text):
        text = text.translate(_NARROW)
    matches: list[PersonalData] = []
    for hint, rules in _RULES:
        if not hint.search(text):
            continue
        for kind, pattern, value_of in rules:
            for match in pattern.finditer(text):
                value = value_of(match)
                if value is not None:
                    matches.append(PersonalData(kind, match.start(), match.end(), value))
                    filler = _FILLER * len(match[0])
                    text = text[: match.start()] + filler + text[match.end() :]
    return sorted(matches, key=lambda match: match.start)


def replace(text: str, token: Callable[[PersonalData], str]) -> str:
    """Return a text with tokens in place of its personal data.

    The tokens have no digit and no at sign, so a replaced text has no personal data.

    Args:
        text: the text.
        token: returns what stands in place of personal data.
    """
    # A number may be data only after the one beside it is gone.
    while matches := find(text):
        parts = []
        end = 0
        for match in matches:
            parts += [text[end : match.start], token(match)]
            end = match.end
        text = "".join([*parts, text[end:]])
    return text


def placeholder(match: PersonalData) -> str:
    """Return the kind of personal data in angle brackets, such as <phone>."""
    return f"<{match.kind}>"


def _email(match: re.Match[str]) -> str | None:
    """Return an address of e-mail in lower case. "icon@2x.png" is a file."""
    return None if _FILE_ENDING.fullmatch(match["ending"]) else match[0].lower()


def _ip_address(match: re.Match[str]) -> str | None:
    """Return the address of a host. That of the host itself tells of nobody."""
    with suppress(ValueError):
        address = ipaddress.ip_address(match[0])
        if not (address.is_loopback or address.is_unspecified or _follows(match, _VERSION)):
            return str(address)
    return None


def _ipv6_address(match: re.Match[str]) -> str | None:
    """Return the address of a host. "a::b" is a name in code."""
    first = match[0].partition(":")[0]
    if "::" in match[0] and (len(first) < 3 or not any(char.isdigit() for char in match[0])):
        return None
    return _ip_address(match)


def _id_card(match: re.Match[str]) -> str | None:
    """Return the number of an identity card (GB 11643-1999).

    It has the code of a province, a date of birth, and a check character by ISO 7064 MOD 11-2.
    """
    number = re.sub(_GAP, "", match[0]).upper()
    total = sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS, strict=False))
    if not _PROVINCES.match(number) or _CHECK_CHARACTERS[total % 11] != number[-1]:
        return None
    with suppress(ValueError):
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
        return number
    return None


def _bank_card(match: re.Match[str]) -> str | None:
    """Return the number of a bank card of an issuer, with a check digit (ISO/IEC 7812-1)."""
    number = _digits(match[0])
    if not _ISSUED.fullmatch(number) or _follows(match, _COUNTER):
        return None
    total = 0
    for position, digit in enumerate(map(int, reversed(number))):
        total += sum(divmod(digit * 2, 10)) if position % 2 else digit
    return None if total % 10 else number


def _number_of_china(match: re.Match[str]) -> str | None:
    """Return a phone number with the code of China."""
    return _numbered(match, f"+86{_digits(match['number'])}")


def _number_of_north_america(match: re.Match[str]) -> str | None:
    """Return a phone number with the code of North America."""
    return _numbered(match, f"+1{_digits(match['number'])}")


def _international_number(match: re.Match[str]) -> str | None:
    """Return a phone number with the code of its country."""
    number = _digits(match["number"].replace("(0)", ""))
    return _numbered(match, f"+{number}") if _COUNTRIES.match(number) else None


def _numbered(match: re.Match[str], number: str) -> str | None:
    """Return a phone number, unless bare digits are named as something else."""
    return None if match[0].isdigit() and _follows(match, _COUNTER) else number


def _plate(match: re.Match[str]) -> str | None:
    """Return the license plate of a vehicle of China (GA 36-2018), of new energy too."""
    if sum(char.isdigit() for char in match["tail"]) < _DIGITS_OF_PLATE:
        return None
    return re.sub("[-·•. ]", "", match[0]).upper()


def _digits(text: str) -> str:
    """Return the digits of a text."""
    return re.sub("[^0-9]", "", text)


def _follows(match: re.Match[str], words: re.Pattern[str]) -> bool:
    """Return whether words stand directly before a match."""
    before = match.string[max(0, match.start() - _WORDS_BEFORE) : match.start()]
    return words.search(before) is not None


_Rule = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str | None]]
# A hint is cheap to search for, and most texts have none. Each rule sees what the rules before it
# have left.
_RULES: list[tuple[re.Pattern[str], list[_Rule]]] = [
    (re.compile("@"), [("email", _EMAIL, _email)]),
    (re.compile("[0-9][.][0-9]{1,3}[.][0-9]"), [("ip", _IPV4, _ip_address)]),
    (re.compile(":[0-9A-Fa-f]{0,4}:"), [("ip", _IPV6, _ipv6_address)]),
    (
        re.compile("[0-9](?:[^0-9]{0,3}[0-9]){6}"),
        [
            ("idcard", _ID_CARD, _id_card),
            ("bankcard", _BANK_CARD, _bank_card),
            ("phone", _MOBILE, _number_of_china),
            ("phone", _LANDLINE, _number_of_china),
            ("phone", _NORTH_AMERICA, _number_of_north_america),
            ("phone", _NORTH_AMERICA_AT_HOME, _number_of_north_america),
            ("phone", _INTERNATIONAL, _international_number),
        ],
    ),
    (_PLATE, [("plate", _PLATE, _plate)]),
]
KINDS = ("email", "ip", "idcard", "bankcard", "phone", "plate")
