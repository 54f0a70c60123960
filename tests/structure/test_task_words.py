"""No module outside the tasks and the metrics knows what kind of problem is solved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT

# Words of one kind of problem.
WORDS = frozenset(
    (
        "class",
        "classes",
        "label",
        "labels",
        "labeled",
        "labelled",
        "labeling",
        "labelling",
        "accuracy",
        "f1",
        "macro",
        "confusion",
    )
)
# Code that knows the kinds of problem.
TASK_CODE = ("components/tasks/", "components/metrics/")
# Words that are given: by persisted names, by options of the command line, by formats of others,
# by Prometheus and HTML.
ALLOWED = {
    "components/core/energy.py": {"class"},
    "components/cli/main.py": {"label", "labels"},
    "components/cli/reference/commands.zh.yaml": {"label", "labels"},
    "components/fields/markup.py": {"label"},
    "components/monitoring/feedback_store.py": {"labels"},
    "components/monitoring/params.py": {"labels"},
    "components/orchestration/creation/creation_options.py": {"label", "labels"},
    "components/orchestration/export/source_slices.py": {"class"},
    "components/orchestration/params_reference/descriptions.zh.yaml": {
        "label",
        "labels",
        "classes",
    },
    "components/orchestration/stage_files.py": {"confusion"},
    "components/serving/http/monitoring_routes.py": {"labels"},
    # An argument of ONNX Runtime.
    "components/stages/compress/quantize_weights.py": {"accuracy"},
    "components/serving/http/request_metrics.py": {"labels"},
    "components/stages/evaluate/stage.py": {"confusion"},
    "components/stages/ingest/dialects.py": {"class", "classes", "label", "labels"},
    "components/stages/ingest/encodings.py": {"class"},
    "components/stages/ingest/params.py": {"class", "classes", "label"},
    "components/stages/ingest/value_names.py": {"class", "label"},
}
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
# The syntax of Python, HTML, CSS, JavaScript, Jinja and Prometheus has these words too.
_SYNTAX = re.compile(
    r"^ *class (?=\w+[(:\[])|\bclass(?==)|\bclassName\b|\bclassList\b|</?label\b|\baria-?[lL]abel(ledby)?\b|\bclassmethod\b"
    r"|\bClassVar\b|__class__|\.labels\(|\bxlabel\b|\bylabel\b|set_[xy]label|\{%-? (?:end)?macro\b|\blabelsize\b|\blabelpad\b"
)
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for suffix in ("py", "html", "j2", "js", "yaml")
    for path in (ROOT / "components").rglob(f"*.{suffix}")
)


def words(path: Path) -> list[tuple[int, str]]:
    """Return the words of one kind of problem in a file, in lower case, each with its line."""
    matches = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for word in _WORD.findall(_SYNTAX.sub(" ", text)):
            if word.lower() in WORDS:
                matches.append((line, word.lower()))
    return matches


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(TASK_CODE)])
def test_a_module_says_nothing_of_one_kind_of_problem(name: str) -> None:
    allowed = ALLOWED.get(name, set())
    assert not [match for match in words(ROOT / name) if match[1] not in allowed]


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_there(name: str) -> None:
    assert {word for _, word in words(ROOT / name)} == ALLOWED[name]


def test_words_are_found_in_names_comments_and_templates(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "# Each label counts.\n"
        "class Rows:\n"
        "    def true_labels(self, macroF1: float) -> str:\n"
        "        return 'accuracy'\n"
    )
    assert words(module) == [(1, "label"), (3, "labels"), (3, "macro"), (3, "f1"), (4, "accuracy")]
    template = tmp_path / "page.html"
    template.write_text('<label class="x">{{ confusion }}</label>\n<p>A class</p>\n')
    assert words(template) == [(1, "confusion"), (2, "class")]
