"""`dvc plots show` needs no network: the page draws the plots by itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from configparser import ConfigParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / ".dvc" / "plots.html"
# As much of a browser as the script of the page uses.
DOM = """
const made = (name) => ({
  name, children: [], attributes: {}, style: {}, textContent: "", gone: false,
  setAttribute(key, value) { this.attributes[key] = String(value); },
  append(...each) { this.children.push(...each); },
  remove() { this.gone = true; },
});
const places = {};
globalThis.document = {
  createElement: made,
  createElementNS: (_, name) => made(name),
  querySelector: (selector) => places[selector] ??= made("div"),
};
"""
SHOW = """
for (const [selector, spec] of specs) vegaEmbed(selector, spec);
console.log(JSON.stringify(places));
"""


def line_spec(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What DVC's template `linear` becomes, without what only Vega needs."""
    encoding = {
        "x": {"field": "epoch"},
        "color": {"field": "rev"},
        "strokeDash": {"field": "field"},
    }
    layer = [
        {"mark": "line", "encoding": {"y": {"field": "loss", "title": "y"}}},
        {
            "mark": {"type": "circle"},
            "encoding": {"y": {"aggregate": {"argmax": "epoch"}, "field": "loss"}},
        },
    ]
    return {
        "data": {"values": rows},
        "title": {"text": "Loss"},
        "encoding": encoding,
        "layer": layer,
    }


def matrix_spec(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What DVC's template `confusion` becomes, likewise."""
    inner = {
        "transform": [{"aggregate": [{"op": "count", "as": "xy_count"}]}],
        "encoding": {"x": {"field": "actual"}, "y": {"field": "predicted"}},
        "layer": [{"mark": "rect"}],
    }
    return {"data": {"values": rows}, "title": "Matrix", "spec": inner}


def walk(tree: dict[str, Any]) -> list[dict[str, Any]]:
    found = [tree]
    for child in tree["children"]:
        found += walk(child) if isinstance(child, dict) else []
    return found


def test_dvc_takes_the_page_and_it_loads_nothing() -> None:
    config = ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    assert (ROOT / ".dvc" / config["plots"]["html_template"].strip()) == TEMPLATE
    text = TEMPLATE.read_text(encoding="utf-8")
    assert "{plot_divs}" in text and "{refresh_tag}" in text and "{scripts}" not in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=|@import|fetch\(|innerHTML", text)


def test_dvc_fills_the_page() -> None:
    from dvc_render.html import HTML

    page = HTML(TEMPLATE.read_text(encoding="utf-8"))
    page.with_scripts('<script src="https://cdn.example/vega"></script>')
    page.with_element("<div id='x'></div>")
    filled = page.embed()
    assert (
        "<div id='x'></div>" in filled
        and "cdn.example" not in filled
        and "{plot_divs}" not in filled
    )


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_it_draws_curves_matrices_and_falls_back_to_tables(tmp_path: Path) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    script = text[text.index("<script>") + len("<script>") : text.index("</script>")]
    curve = [
        {"epoch": str(epoch), "loss": str(1 / (epoch + 1)), "rev": rev, "field": field}
        for rev, field, epoch in product(("main", "workspace"), ("train", "validation"), range(3))
    ]
    pairs = [
        {"actual": actual, "predicted": predicted, "rev": "workspace"}
        for actual, predicted in (("<b>", "<b>"), ("<b>", "a"), ("a", "a"), ("a", "a"))
    ]
    other = {
        "data": {"values": [{"x": "1", "y": "2"}]},
        "mark": "bar",
        "encoding": {"x": {"field": "x"}, "y": {"field": "y"}},
    }
    specs = [
        ("#curve", line_spec(curve)),
        ("#matrix", matrix_spec(pairs)),
        ("#other", other),
        ("#empty", {}),
        ("#bad", line_spec([{"epoch": "a", "loss": "b", "rev": "workspace", "field": "f"}])),
    ]
    program = tmp_path / "page.js"
    program.write_text(
        f"{DOM}\n{script}\nconst specs = {json.dumps(specs)};\n{SHOW}", encoding="utf-8"
    )
    done = subprocess.run(["node", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    places = json.loads(done.stdout)
    drawn = {name: walk(place) for name, place in places.items()}
    lines = [each for each in drawn["#curve"] if each["name"] == "polyline"]
    assert (
        len(lines) == 4
        and {line["attributes"]["stroke-dasharray"] for line in lines} == {"none", "8 5"}
        and len({line["attributes"]["stroke"] for line in lines}) == 2
    )
    for each in drawn["#curve"]:
        assert all("NaN" not in value for value in each["attributes"].values())
    counts = [each["textContent"] for each in drawn["#matrix"] if each["name"] == "title"]
    assert sorted(counts) == [
        "actual <b>, predicted <b>: 1",
        "actual <b>, predicted a: 1",
        "actual a, predicted <b>: 0",
        "actual a, predicted a: 2",
    ]
    assert any(each["name"] == "table" for each in drawn["#other"]) and any(
        each["name"] == "table" for each in drawn["#bad"]
    )
    assert places["#empty"]["gone"]
