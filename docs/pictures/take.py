"""Take the pictures of the README (report, page, registry) and of the tutorials.

    python -m pip install playwright
    python docs/pictures/take.py readme
    python docs/pictures/take.py tutorials

Run it in a project whose default pipeline has run, or the pipelines of the tutorials. It needs
Chromium of the system and a font with Chinese characters. It starts `gristmill serve` and
`gristmill mlflow up`, and ends them again.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
SIZE = {"width": 1100, "height": 760}
SERVICE_PORT = 8017
STORE_PORT = 8018
PATIENCE_S = 180.0
QUESTION = "房间很干净,服务员也很热情,下次还会来"
REVIEW = "Broken after two days, and nobody answered."
# Caption of the figure of a report that the tutorial of a table shows.
ANSWERS = "Answers against true values"


@contextmanager
def running(address: str, *words: str) -> Iterator[None]:
    """Run a command of gristmill until its address answers, and end it afterwards."""
    command = [sys.executable, "-m", "components.cli", *words]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = monotonic() + PATIENCE_S
        while not answers(address):
            if process.poll() is not None or monotonic() > deadline:
                raise SystemExit(f"gristmill {' '.join(words)} does not answer at {address}")
            sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def answers(address: str) -> bool:
    """Return whether an address answers."""
    try:
        return httpx.get(address, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def take(page: Page, name: str) -> None:
    """Write the picture of what a page shows."""
    page.screenshot(path=str(FOLDER / f"{name}.png"))


def take_page(page: Page, name: str, pipeline: str, question: str) -> None:
    """Take the page of the service of a pipeline with the answer to a question."""
    service = f"http://127.0.0.1:{SERVICE_PORT}/"
    with running(f"{service}readyz", "serve", pipeline, "--port", str(SERVICE_PORT)):
        page.goto(service)
        page.fill("#form textarea", question)
        page.click("#go")
        page.wait_for_load_state("networkidle")
        take(page, name)


def take_readme(page: Page) -> None:
    """Take the pictures of the README."""
    page.goto((ROOT / "data/reports/report.html").as_uri())
    take(page, "report")
    take_page(page, "page", "default", QUESTION)
    store = f"http://127.0.0.1:{STORE_PORT}/"
    with running(f"{store}health", "mlflow", "up", "--port", str(STORE_PORT)):
        page.goto(f"{store}#/models/default/versions/1")
        page.get_by_text("Registered At").first.wait_for(timeout=PATIENCE_S * 1000)
        # MLflow opens its assistant beside the page.
        page.get_by_role("button", name="Close").first.click()
        take(page, "registry")


def take_tutorials(page: Page) -> None:
    """Take the pictures of the tutorials."""
    draw_samples(ROOT / "docs/examples/digits", FOLDER / "handwriting-samples.png")
    page.goto((ROOT / "data/reviews/reports/report.html").as_uri())
    take(page, "reviews-report")
    page.goto((ROOT / "data/flats/reports/report.html").as_uri())
    page.get_by_text(ANSWERS).first.evaluate("caption => caption.scrollIntoView()")
    take(page, "flats-report")
    take_page(page, "reviews-page", "reviews", REVIEW)


def draw_samples(folder: Path, target: Path, count: int = 3, side: int = 64, gap: int = 8) -> None:
    """Draw the first pictures of each folder beside each other, enlarged to `side` pixels."""
    files = [sorted(each.iterdir())[:count] for each in sorted(folder.iterdir())]
    step = side + gap
    size = (step * count * len(files) + gap, side + 2 * gap)
    sheet = Image.new("L", size, 255)
    for number, file in enumerate(itertools.chain.from_iterable(files)):
        picture = Image.open(file).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(picture, (gap + step * number, gap))
    sheet.save(target, optimize=True)


def main() -> None:
    """Take the pictures of the README or of the tutorials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("pictures", choices=["readme", "tutorials"])
    chosen = parser.parse_args().pictures
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium: install it, for example by apt-get")
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, locale="en-US")
        if chosen == "readme":
            take_readme(page)
        else:
            take_tutorials(page)
        browser.close()


if __name__ == "__main__":
    main()
