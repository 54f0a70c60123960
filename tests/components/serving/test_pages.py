"""The page to try it: both languages, no task in it, and policies that match its code."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from components.serving.http.pages import page
from components.tasks.base import tasks


@pytest.mark.parametrize("name", ["page.html", "monitor.html"])
def test_both_languages_say_the_same_words(name):
    text, _ = page(name)
    english, chinese = (
        re.findall(r"(\w+): \"", block)
        for block in re.findall(r"^  (?:en|zh): \{\n(.*?)^  \},", text, re.DOTALL | re.MULTILINE)
    )
    assert sorted(english) == sorted(chinese)
    assert set(re.findall(r'say\("(\w+)"|data-say="(\w+)"', text)) and {
        a or b for a, b in re.findall(r'say\("(\w+)"|data-say="(\w+)"', text)
    } <= set(english)


def test_the_page_knows_no_task():
    assert not [task for task in tasks() if task in page("page.html")[0]]


def test_the_policy_names_the_hash_of_the_script():
    text, policy = page("page.html")
    script = text.split("<script>")[1].split("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
