"""Recall, precision and speed of the personal data that `clean.private` finds.

    # pip install faker phonenumbers
    # It prints tables for RESULTS.md.
    python benchmarks/personal_data.py [--seeds 5] [--rows 4000]

A row is a clause of a real review, or a sentence in English, with a value in it. The values come
from Faker (Chinese and English) and from the example numbers of `phonenumbers`, so they share no
pattern with the detector. A third of the rows have a near-miss instead: numbers of orders, prices,
dates, versions, ISBN, and identity and card numbers with another check digit.
A value is found when one match of its kind covers it. A match is right when it overlaps a value of
its kind.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import phonenumbers
from faker import Faker

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.data_stages import TASK, clauses, reviews  # noqa: E402
from components.fields.personal_data import KINDS, find  # noqa: E402
from components.fields.privacy import Mode, Privacy  # noqa: E402
from components.orchestration.pipeline_params import section_model  # noqa: E402
from components.stages.clean.cleaning import clean_contents  # noqa: E402
from components.tasks import base  # noqa: E402

Make = Callable[[], str]
# The rules were written with smaller seeds in view.
FIRST_SEED = 2000
TIMED_ROWS = 5000
ROUNDS = 7
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
# Full-width values are common in Chinese texts.
WIDE_SHARE = 0.1
NEAR_MISS_SHARE = 1 / 3
ENGLISH = [
    "The room was clean and the staff were friendly",
    "My parcel has not arrived yet",
    "I would buy this laptop again",
    "Breakfast was included in the price",
    "The screen broke after two weeks",
    "Nobody answered when I asked about it",
]
CARD_TYPES = ("visa16", "visa19", "mastercard", "amex", "discover", "diners")


def luhn_digit(digits: str) -> str:
    """Return the digit that completes a card number."""
    doubled = "0246813579"
    total = 0
    for position, digit in enumerate(reversed(digits)):
        total += int(doubled[int(digit)]) if position % 2 == 0 else int(digit)
    return str(-total % 10)


def grouped(digits: str, rng: random.Random) -> str:
    """Return a number as people write it: plain, or in fours."""
    gap = rng.choice(["", " ", "-"])
    return gap.join(digits[start : start + 4] for start in range(0, len(digits), 4))


def international_numbers() -> list[str]:
    """Return an example number of each country with at least eight digits, as it is printed."""
    numbers = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            text = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
            # The example of Chinese landlines begins with a 1, which no landline does.
            if sum(char.isdigit() for char in text) >= 8 and not text.startswith("+86 10"):
                numbers.append(text)
    return numbers


def makers(rng: random.Random, zh: Faker, en: Faker) -> dict[str, list[Make]]:
    """Return the makers of values by kind."""
    abroad = international_numbers()

    def mobile() -> str:
        digits = zh.phone_number()
        gap = rng.choice(["", "", " ", "-"])
        beginning = rng.choice(["", "", "+86", "+86 ", "86-"])
        return beginning + gap.join([digits[:3], digits[3:7], digits[7:]])

    def landline() -> str:
        area = rng.choice(["010", "021", "020", "0755", "0571", "0311", "0791", "0898"])
        number = f"{rng.randint(2, 8)}{rng.randrange(10**7):07}"
        return rng.choice([f"{area}-{number}", f"({area}){number}", f"{area} {number}"])

    def american() -> str:
        number = en.numerify(rng.choice(["(2%#) 5%#-####", "2%#-5%#-####", "+1 2%# 5%# ####"]))
        return str(number.replace("11", "12"))

    def union_pay() -> str:
        digits = rng.choice(["622202", "621700", "622848", "625912"])
        digits += f"{rng.randrange(10**9):09}"
        if rng.random() < 0.5:
            digits += f"{rng.randrange(1000):03}"
        return grouped(digits + luhn_digit(digits), rng)

    return {
        "email": [zh.email, en.email, en.company_email],
        "ip": [zh.ipv4, zh.ipv6],
        "idcard": [zh.ssn, lambda: zh.ssn().lower()],
        "bankcard": [
            union_pay,
            lambda: grouped(en.credit_card_number(rng.choice(CARD_TYPES)), rng),
        ],
        "phone": [mobile, mobile, landline, american, lambda: rng.choice(abroad)],
        # No plate has the letter I.
        "plate": [
            lambda: (
                zh.license_plate().replace("I", "A").replace("-", rng.choice(["", "·", "-", " "]))
            ),
            lambda: rng.choice(["粤B", "沪A", "京A"]) + en.numerify("D#####"),
            lambda: rng.choice(["苏E", "浙A·", "川A"]) + en.numerify("#####F"),
        ],
    }


def near_misses(rng: random.Random, zh: Faker, en: Faker) -> list[Make]:
    """Return the makers of what only looks like personal data."""

    def wrong_id() -> str:
        number = zh.ssn()
        digits = "0123456789X".replace(number[-1], "")
        return str(number[:-1] + rng.choice(digits))

    def wrong_card() -> str:
        number = en.credit_card_number(rng.choice(CARD_TYPES))
        return grouped(number[:-1] + rng.choice("0123456789".replace(number[-1], "")), rng)

    def order() -> str:
        word = rng.choice(["订单号：", "订单号", "单号 ", "order number ", "Order #", "invoice "])
        return word + f"{rng.randrange(10**8, 10 ** rng.randint(9, 18))}"

    return [
        wrong_id,
        wrong_card,
        order,
        lambda: f"JD{rng.randrange(10**10, 10**14)}",
        lambda: f"{rng.choice('¥$')}{rng.randint(1, 99999):,}.{rng.randint(0, 99):02}",
        lambda: f"{rng.randint(1000, 9999999)}元",
        lambda: zh.date(
            pattern=rng.choice(["%Y-%m-%d", "%Y%m%d", "%Y.%m.%d", "%Y/%m/%d %H:%M:%S"])
        ),
        lambda: zh.date(pattern="%Y%m%d%H%M%S"),
        lambda: (
            f"v{rng.randint(1, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 99)}.{rng.randint(0, 9)}"
        ),
        lambda: (
            f"版本{rng.randint(1, 9)}.{rng.randint(0, 9)}.{rng.randint(0, 99)}.{rng.randint(0, 9)}"
        ),
        lambda: f"version {rng.randint(1, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 99)}",
        en.isbn13,
        lambda: en.isbn13(separator=""),
        en.isbn10,
        en.mac_address,
        lambda: f"@{en.user_name()}",
        lambda: f"{en.word()}@2x.png",
        lambda: f"{rng.randint(2, 9)}@{rng.randint(1, 9)}.5",
        lambda: f"{en.latitude()}, {en.longitude()}",
        lambda: f"std::{en.word()}",
        lambda: f"{rng.randint(10, 23)}:{rng.randint(10, 59)}:{rng.randint(10, 59)}",
        lambda: f"{rng.choice('粤京新')}{rng.choice(['A5', 'X60', 'T400', 'V8'])}",
        lambda: str(en.uuid4()),
        lambda: en.sha1()[:20],
        lambda: f"{rng.randrange(10**7, 10**10)}",
        lambda: f"{rng.randint(1900, 2030)}-{rng.randint(1900, 2030)}",
        lambda: f"π≈3.{rng.randrange(10**10, 10**15)}",
    ]


def counted(seed: int, rows: int) -> Counter[tuple[str, str]]:
    """Return the numbers of (kind, planted | found | matches | right) of one generated set.

    Args:
        seed: of the set.
        rows: of the set.
    """
    rng = random.Random(seed)
    zh, en = Faker("zh_CN"), Faker("en_US")
    zh.seed_instance(seed)
    en.seed_instance(seed + 1)
    sentences = [*ENGLISH * 2000]
    for parts in clauses().values():
        sentences += filter(_has_no_digit, parts)
    makers_of = makers(rng, zh, en)
    others = near_misses(rng, zh, en)
    counts: Counter[tuple[str, str]] = Counter()
    for _ in range(rows):
        kind = ""
        if rng.random() < NEAR_MISS_SHARE:
            value = rng.choice(others)()
        else:
            kind = rng.choice(KINDS)
            value = rng.choice(makers_of[kind])()
        if rng.random() < WIDE_SHARE:
            value = value.translate(WIDE)
        before = rng.choice(sentences) + rng.choice(["，", " ", ": ", "："])
        text = before + value + rng.choice(["。", ", ", " ", "，"]) + rng.choice(sentences)
        _count(counts, kind, text, len(before), len(before) + len(value))
    return counts


def _has_no_digit(text: str) -> bool:
    return not any(char.isdigit() for char in text)


def _count(counts: Counter[tuple[str, str]], kind: str, text: str, start: int, end: int) -> None:
    """Count the matches of one text whose value has a kind, or "" for a near-miss."""
    if kind:
        counts[kind, "planted"] += 1
    for match in find(text):
        counts[match.kind, "matches"] += 1
        same = match.kind == kind
        counts[match.kind, "right"] += same and match.start < end and match.end > start
        if same and match.start <= start and match.end >= end:
            counts[kind, "found"] += 1


def wilson(part: int, whole: int) -> str:
    """Return a share with its 95% interval (Wilson 1927)."""
    z = 1.96
    share = part / whole
    middle = (share + z * z / (2 * whole)) / (1 + z * z / whole)
    spread = (share * (1 - share) / whole + z * z / (4 * whole * whole)) ** 0.5
    spread *= z / (1 + z * z / whole)
    return f"{share:.4f} ({middle - spread:.4f} to {middle + spread:.4f})"


def seconds_of(mode: Mode, texts: Sequence[str]) -> float:
    """Return the processor's seconds of the row-wise part of clean."""
    schema = base.schema(TASK)
    params: Any = section_model("clean", TASK).model_validate({"private": mode})
    rest = {"title": None, "label": "x", "split": None}
    rows = [{"text": text, **rest} for text in texts]
    began = time.process_time()
    clean_contents(rows, schema, params, 7)
    return time.process_time() - began


def main(seeds: int, rows: int) -> None:
    """Print recall and precision by kind, and rows/s by mode."""
    counts: Counter[tuple[str, str]] = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        counts += counted(seed, rows)
    print("| kind | planted | recall | precision |\n| --- | --- | --- | --- |")
    for kind in KINDS:
        _print_row(kind, {name: counts[kind, name] for name in COUNTED})
    _print_row("all", {name: sum(counts[kind, name] for kind in KINDS) for name in COUNTED})

    texts = [text for text, _ in reviews(TIMED_ROWS)]
    modes: tuple[Mode, ...] = ("ignore", "report", "mask", "drop")
    times: dict[Mode, list[float]] = {mode: [] for mode in modes}
    for _ in range(ROUNDS):
        for mode in modes:
            times[mode].append(seconds_of(mode, texts))
    print("\n| clean.private | rows/s | time against ignore |\n| --- | --- | --- |")
    for mode in modes:
        ratios = sorted(a / b for a, b in zip(times[mode], times["ignore"], strict=True))
        speed = TIMED_ROWS / median(times[mode])
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"| {mode} | {speed:,.0f} | {median(ratios):.3f} ({spread}) |")
    matches = sum(Privacy("report").counts(text).total() for text in texts)
    print(f"\n{matches} matches in {TIMED_ROWS:,} timed rows")


COUNTED = ("planted", "found", "matches", "right")


def _print_row(kind: str, counts: dict[str, int]) -> None:
    """Print recall and precision of a kind."""
    recall = wilson(counts["found"], counts["planted"])
    precision = wilson(counts["right"], counts["matches"])
    print(f"| {kind} | {counts['planted']:,} | {recall} | {precision} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4000)
    options = parser.parse_args()
    main(options.seeds, options.rows)
