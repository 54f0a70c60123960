"""The page in a real Chromium: both languages, a desk and a phone, with a key and without."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from browser import CHROMIUM, Tab, tab
from fastapi import FastAPI
from stub import Stub

from components.core import escaping
from components.serving.http.app import build_app
from components.serving.http.keyring import Key, Keyring
from components.tasks.shared.evaluator.classification.evaluator import Answer
from tests.hostile import HOSTILE, READABLE, raw_in

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SHOWN = os.environ.get("GRISTMILL_SCREENSHOTS")  # a folder, for a person who wants to look
CASES = {
    "zh": ("zh-CN", "房间很干净,服务员也很热情,早餐好吃", "预测", "哪些字起了作用", "好评", "好"),
    "en": (
        "en-US",
        "The room was clean and the staff were good to us.",
        "Predict",
        "What mattered",
        "好评",
        "good ",
    ),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Puts an app on a port."""
    ends: list[Callable[[], None]] = []

    def start(app: FastAPI) -> str:
        server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)

        def end() -> None:
            server.should_exit = True
            thread.join()

        ends.append(end)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for end in ends:
        end()


def fill(page: Tab, text: str) -> None:
    page.see(f"document.querySelector('textarea').value = {json.dumps(text)}")
    page.see("document.getElementById('go').click()")


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("name", CASES)
def test_a_text_is_answered_with_bars_and_what_mattered(name, width, page, serve, stub, model):
    language, text, button, heading, label, strongest = CASES[name]
    page.complaints.clear()
    url = serve(build_app(stub(), model))
    page.open(f"{url}/", width, language)
    page.wait("document.getElementById('go')?.disabled === false")
    assert page.see("document.getElementById('go').textContent") == button
    fill(page, text)
    page.wait("!document.getElementById('parts').hidden")
    assert page.see("document.getElementById('label').firstChild.textContent") == label
    assert page.see(
        "[...document.querySelectorAll('#bars li')].map((row) => row.innerText.split('\\n')[0])"
    ) == ["好评", "差评"]
    assert page.see(
        "parseFloat(document.querySelector('#bars .bar i').style.width)"
    ) == pytest.approx(90)
    assert page.see("document.querySelector('#parts h2').textContent") == heading
    assert page.see("document.getElementById('text').textContent") == text
    opacity = "(piece) => parseFloat(piece.style.background.split('/')[1])"
    assert (
        page.see(
            f"[...document.querySelectorAll('#text span')].sort((a, b) => ({opacity})(b) - ({opacity})(a))[0].textContent"
        )
        == strongest
    )
    facts = page.see("document.getElementById('facts').innerText")
    assert "stub" in facts and "3" in facts and " ms" in facts and "ef" * 6 in facts
    assert page.see("document.documentElement.scrollWidth") <= width
    assert all(each.startswith((url, "data:")) for each in page.loaded), page.loaded
    assert not page.complaints
    if SHOWN:
        page.shoot(Path(SHOWN) / f"page-{name}-{width}.png")


def test_a_service_with_a_key_asks_for_it_and_says_what_is_wrong(page, serve, stub, model):
    url = serve(build_app(stub(), model, keys=Keyring([Key.of("ann", "s3cret")])))
    page.open(f"{url}/", 390, "en-US")
    page.wait("!document.getElementById('key').hidden")
    assert "wants an API key" in page.see("document.getElementById('problem').textContent")
    page.see(
        "document.getElementById('secret').value = 's3cret'; document.getElementById('secret').dispatchEvent(new Event('change'))"
    )
    page.wait("document.getElementById('go').disabled === false")
    fill(page, "\t")
    assert "Enter something" in page.see("document.getElementById('problem').textContent")
    fill(page, "boom")
    page.wait("document.getElementById('problem').textContent.includes('could not answer')")
    fill(page, "<img src=x onerror=alert(1)> good")
    page.wait("!document.getElementById('parts').hidden")
    assert (
        page.see("document.getElementById('text').textContent")
        == "<img src=x onerror=alert(1)> good"
    )
    assert page.see("document.querySelectorAll('#text img').length") == 0


def test_the_description_of_the_api_shows_each_path(page, serve, stub, model):
    page.complaints.clear()
    page.open(f"{serve(build_app(stub(), model))}/docs", 390, "en-US")
    page.wait("document.querySelectorAll('section h2').length === 5")
    assert page.see("document.documentElement.scrollWidth") <= 390
    assert "curl " in page.see("document.body.innerText")
    assert not page.complaints


ANSWERED = ["a\u202eb|<script>alert(1)</script>", "[/nope]\x1b[2J\u200b\U000e0041"]


class Named(Stub):
    """Its classes are named by an enemy."""

    def _answer(self, text: str) -> Any:
        shares = dict(zip(ANSWERED, (0.8, 0.2), strict=True))
        return Answer(label=ANSWERED[0], probability=0.8, probabilities=shares)


def test_what_nobody_sees_is_spelled_out_on_the_page(page, serve, model):
    page.complaints.clear()
    name = "model\u202e\x1b"
    ordinary = " ".join(READABLE.values())
    examples = [{"text": "good\u2066\ufeff"}, {"text": ordinary}]
    hostile = model.model_copy(update={"name": name, "examples": examples})
    url = serve(build_app(Named(), hostile))
    page.open(f"{url}/", 1200, "en-US")
    page.wait("document.getElementById('go')?.disabled === false")
    chips = page.see("[...document.querySelectorAll('#examples button')].map((b) => b.textContent)")
    assert chips == [r"good\u2066\ufeff", ordinary]
    fill(page, f"good {ordinary}")
    page.wait("!document.getElementById('parts').hidden")
    text = page.see("document.documentElement.innerText")
    assert not raw_in(text), ascii(text)
    assert r"a\u202eb|<script>alert(1)</script>" in text and r"model\u202e\x1b v3" in text
    assert r"[/nope]\x1b[2J\u200b\U000e0041" in text
    assert page.see("document.title") == r"model\u202e\x1b · Gristmill"
    assert page.see("document.getElementById('text').textContent") == f"good {ordinary}"
    assert not page.complaints
    if SHOWN:
        page.shoot(Path(SHOWN) / "page-hostile.png")


def test_pages_spell_out_what_commands_do(page, serve, stub, model):
    """The script of the pages and `components.core.escaping` agree on each text."""
    page.open(f"{serve(build_app(stub(), model))}/docs", 390, "en-US")
    page.wait("document.querySelectorAll('section h2').length === 5")
    for name, text in (HOSTILE | READABLE).items():
        shown = page.see(f"visible({json.dumps(text[:2000])})")
        expected = "\n".join(escaping.terminal(line) for line in text[:2000].split("\n"))
        assert shown == expected, name
