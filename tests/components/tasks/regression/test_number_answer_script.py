"""The script by which the service's pages show a number with its interval."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.tasks.shared.evaluator import regression
from components.tasks.shared.evaluator.regression.number_feedback import NumberFeedback

SCRIPT = (Path(regression.__file__).parent / "answer.js").read_text(encoding="utf-8")
# As much of a page as the script uses.
PAGE = """
const language = LANGUAGE;
globalThis.document = { documentElement: { lang: language === "zh" ? "zh-CN" : "en" } };
const make = (tag, properties = {}, ...children) => ({
  tag, ...properties, children, style: {}, append(...more) { this.children.push(...more); },
});
const say = (word, values = {}) =>
  ANSWER_WORDS[language][word].replace(/\\{(\\w+)\\}/g, (_, name) => values[name]);
"""
SHOW = "console.log(JSON.stringify([answerName(ANSWER), answerElements(ANSWER, ...TARGETS.filter(Boolean))]));"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


def shown(
    answer: dict[str, Any], targets: dict[str, Any] | None = None, language: str = "en"
) -> Any:
    """Return the name and the elements of an answer."""
    answer = {"low": None, "high": None, "coverage": None, **answer}
    constants = f"const ANSWER = {json.dumps(answer)}, TARGETS = {json.dumps([targets])};"
    page = PAGE.replace("LANGUAGE", json.dumps(language))
    program = f"{constants}\n{page}\n{SCRIPT}\n{SHOW}"
    done = subprocess.run(
        ["node", "-e", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bar(elements: Any) -> tuple[str, str, float, float]:
    """Return the texts at the ends of the bar, and offset and width of its filled part in percent."""
    start, end, track = elements[1]["children"][0]["children"]
    style = track["children"][0]["style"]
    left = float(style["marginLeft"].rstrip("%"))
    return start["textContent"], end["textContent"], left, float(style["width"].rstrip("%"))


PRICE = {"value": 1204.0, "low": 980.0, "high": 1500.5, "coverage": 0.9}


def test_the_outcome_is_that_of_the_feedback() -> None:
    assert f'const OUTCOME = "{NumberFeedback.outcome}";' in SCRIPT


def test_a_number_is_shown_with_its_interval() -> None:
    name, elements = shown(PRICE)
    assert name == "1,204"
    text, small = elements[0]["children"]
    assert (text, small["textContent"]) == ("1,204", "90% interval: 980 to 1,501")
    assert bar(elements) == (
        "0",
        "1,501",
        pytest.approx(65.3, abs=0.1),
        pytest.approx(34.7, abs=0.1),
    )


@pytest.mark.parametrize(
    ("value", "margin", "text"),
    [
        (1204.44, 260.0, "1,204 90% interval: 944 to 1,464"),
        (1e6 + 0.25, 0.001, "1,000,000.25 90% interval: 1,000,000.249 to 1,000,000.251"),
        (-0.001, 30.0, "0 90% interval: -30 to 30"),
        (0.5, 0.0, "0.5 90% interval: 0.5 to 0.5"),
    ],
)
def test_digits_are_those_that_the_interval_leaves_a_meaning_to(
    value: float, margin: float, text: str
) -> None:
    answer = {"value": value, "low": value - margin, "high": value + margin, "coverage": 0.9}
    _, elements = shown(answer)
    name, small = elements[0]["children"]
    assert f"{name} {small['textContent']}" == text


def test_the_bar_is_the_range_of_training_where_that_is_known() -> None:
    _, elements = shown(PRICE, {"range": [0, 10_000], "center": [1]})
    assert bar(elements) == ("0", "10,000", pytest.approx(9.8), pytest.approx(5.205))
    _, elements = shown({**PRICE, "low": -100.0}, {"range": [326, 10_000]})
    assert bar(elements)[:2] == ("-100", "10,000")


def test_chinese_pages_have_chinese_words() -> None:
    _, elements = shown(PRICE, language="zh")
    assert elements[0]["children"][1]["textContent"] == "90% 区间：980 至 1,501"


def test_a_number_without_an_interval_has_no_bar() -> None:
    name, elements = shown({"value": -0.00421337})
    assert name == "-0.004213" and len(elements) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (123_456_789.4, "123,456,789"),
        (1.2e18, "1.2E18"),
        (4.2e-9, "4.2E-9"),
        (0.5, "0.5"),
    ],
)
def test_numbers_of_any_size_are_short(value: float, text: str) -> None:
    assert shown({"value": value})[0] == text


@pytest.mark.parametrize(
    "answer",
    [
        {"value": 0.0, "low": 0.0, "high": 0.0, "coverage": 0.9},
        {"value": 1e12, "low": 1e12, "high": 1e12, "coverage": 0.9},
        {"value": -5.0, "low": -6.0, "high": -4.0, "coverage": 0.975},
    ],
)
def test_the_bar_stays_within_its_track(answer: dict[str, Any]) -> None:
    _, _, left, width = bar(shown(answer)[1])
    assert left >= 0 and width >= 1 and left + width <= 100
