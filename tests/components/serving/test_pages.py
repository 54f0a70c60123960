"""The page to try it: both languages, no task in it, and policies that match its code."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

import pytest

from components.serving.http.pages import page
from components.tasks.base import evaluator, tasks

PAGES = ["page.html", "monitor.html"]


def words_of(text: str) -> Mapping[str, list[str]]:
    """Return language -> names of its words in a page or a script."""
    words: dict[str, list[str]] = {}
    for language in ("en", "zh"):
        blocks = re.findall(rf"^  {language}: \{{(.*?)\}},$", text, re.DOTALL | re.MULTILINE)
        words[language] = re.findall(r"(\w+): \"", "\n".join(blocks))
    return words


@pytest.mark.parametrize("task", tasks())
@pytest.mark.parametrize("name", PAGES)
def test_both_languages_say_the_same_words(name: str, task: str) -> None:
    text, _ = page(name, evaluator(task).page_script())
    words = words_of(text)
    assert sorted(words["en"]) == sorted(words["zh"])
    spoken = {a or b for a, b in re.findall(r'say\("(\w+)"|data-say="(\w+)"', text)}
    assert spoken and spoken <= set(words["en"])


@pytest.mark.parametrize("task", tasks())
def test_the_script_of_a_task_has_a_title_for_its_checks(task: str) -> None:
    rules = evaluator(task)
    script = rules.page_script()
    assert f'const OUTCOME = "{rules.feedback.outcome}";' in script
    assert rules.feedback.outcome in words_of(script)["en"]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_knows_no_task(name: str) -> None:
    text, _ = page(name)
    assert not [task for task in tasks() if task in text]
    for word in ("probabilit", "accuracy", "classes"):
        assert word not in text


def test_the_policy_names_the_hash_of_the_script() -> None:
    text, policy = page("page.html", "const answerName = (answer) => answer.name;")
    script = text.split("<script>")[1].split("</script>")[0]
    assert "answer.name" in script
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
