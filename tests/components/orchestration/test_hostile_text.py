"""Hostile texts in feedback, registry, data and errors: what commands print is only text."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.bundles import Card, write_bundle
from components.core.console import ValueConsole, console, styled
from components.core.errors import GristmillError, InputError
from components.core.job import Journal
from components.core.terminal import print_error, print_line
from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore
from components.orchestration import webhooks
from components.orchestration.drift import drift_alerts
from components.orchestration.runner.progress import Watcher
from components.registry.release.gates import Gate, GateParams, as_rows, gate_rules
from components.registry.release.promotion import approve, release
from components.registry.release.release_log import Release
from components.registry.release.retrain_record import RetrainRecord, record
from components.registry.versions.model_versions import keep_cases, register
from components.registry.versions.test_cases import Cases, name_of
from components.stages.ingest.params import Files
from components.stages.ingest.source_files import list_source
from components.stages.serve.run_report import with_gates
from tests.commands.project import call
from tests.hostile import HOSTILE, READABLE, raw_in
from tests.structure.import_graph import ROOT

TEXTS = HOSTILE | READABLE
# What SQLite and JSON files can hold, in a length that MLflow takes.
STORED = {
    name: text[:300].encode("utf-8", "replace").decode("utf-8") for name, text in TEXTS.items()
}
# Brackets, emoji codes and cells are ordinary characters for a terminal.
AS_WRITTEN = [
    STORED[name] for name in ("closing tag", "markup", "emoji code", "cell", "script", "Chinese")
]
Command = Callable[..., str]


def checked(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what a command printed; there is no raw character and no traceback in it."""
    return only_text((done.stdout + done.stderr).decode("utf-8"))


def only_text(shown: str) -> str:
    """Return what a command printed; there is no raw character and no traceback in it."""
    assert not raw_in(shown), ascii(shown)
    assert "Traceback" not in shown, shown
    return shown


def put(root: Path, seed: int, text: str, gates: list[Gate]) -> None:
    """Register a version whose card says a text everywhere."""
    bundle = root.parent / f"bundle-{seed}"
    labels = list(STORED.values())
    card = Card(
        task="any",
        runtime="numpy",
        architecture="linear",
        config={},
        targets={"classes": ["a", "b"]},
        seed=seed,
        data_hash="ab" * 32,
        params_hash="p" * 64,
        origin=["train"],
        versions={"numpy": "2"},
    )
    write_bundle(bundle, card, {"weights.safetensors": bytes(8)})
    ids = [str(place) for place in range(len(labels))]
    slices = {f"class: {label}": [place] for place, label in enumerate(labels)}
    cases = Cases(ids, {"right": [True] * len(ids)}, slices, name_of(ids, ids))
    row = {
        "test": {text: 0.5, "accuracy": 0.5},
        "test_interval": {"accuracy": [0.4, 0.6]},
        "latency_ms": {"p50": 1.0, "p95": 2.0},
        "size_bytes": 8,
        "throughput_per_s": 900.0,
    }
    told = {
        "leaderboard_row": row,
        "environment": {text: text, "torch": f"2.{seed}"},
        "params": {text: text, "seed": seed},
        "classes": labels,
        "signature": {text: {"properties": {text: {}}}},
        "bundle_files": {text: "ab" * 32},
        "gates": as_rows(gates),
    }
    tags = {
        "title": text,
        "accuracy": "0.5",
        "accuracy_interval": "0.4 to 0.6",
        "test_cases": str(len(ids)),
        "test_hash": cases.test,
        "data_hash": text,
        "git_commit": text,
        "git_dirty": text,
        "dvc_lock": text,
        "input_example": text,
        "review.by": text,
    }
    tags |= {key: json.dumps(value, ensure_ascii=False) for key, value in told.items()}
    keep_cases(root, register(root, "default", bundle, None, tags), cases)


@pytest.fixture(scope="module")
def project(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of which everybody outside has written all texts."""
    root = shutil.copytree(empty_store, tmp_path_factory.mktemp("hostile") / "p")
    (root / "components" / "cli").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    everything = " ".join(STORED.values())[:5000]
    put(root, 1, everything, [Gate("size", True, 0.1, 200.0, everything)])
    approve(
        root,
        "default",
        1,
        gate_rules("text_classification", GateParams()),
        who=everything[:100],
        why=everything[:1000],
    )
    gate = Gate("champion", False, 0.1, 0.2, everything, (0.0, 0.2), borderline=True)
    put(root, 2, everything, [gate])
    release(root, "default", 2, [gate], mode="review", who=everything[:100], why=everything[:1000])
    retrain = RetrainRecord(
        "id",
        everything,
        "failed",
        everything,
        "2026-01-01T00:00:00+00:00",
        "",
        {},
        "",
        "",
        "",
        "",
        0,
    )
    record(root, "default", retrain)
    box = FeedbackStore(root / "data" / ".state" / "default" / "monitor" / "feedback", 1000)
    for place, text in enumerate(TEXTS.values()):
        text = text[:100_000]
        asked = json.dumps({"text": text})
        truth = {"label": text}
        box.add(FeedbackEntry(f"{place:032x}", 0, truth, 1.0 + place, text[:50], text, 0.9, asked))
    return root


@pytest.fixture
def command(project: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the real command in the project and return what it printed."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}

    def run(*words: str) -> str:
        code = [sys.executable, "-m", "components.cli", *words]
        return checked(subprocess.run(code, cwd=project, env=env, capture_output=True))

    return run


@pytest.fixture
def command_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process and return what it printed."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*words: str) -> str:
        done = call(project, os.environ, *words)
        return only_text(done.out + done.error)

    return run


def flat(shown: str) -> str:
    """Return a text without the line breaks and spaces of a table."""
    return "".join(shown.split())


def test_feedback_of_clients_is_shown_as_text(command: Command) -> None:
    shown = command("feedback", "list")
    for text in AS_WRITTEN:
        assert flat(text)[:4] in flat(shown)
    assert r"\x1b]52;c" in flat(shown) and r"\u202e" in flat(shown)
    assert f"{len(TEXTS)} wait" in shown
    assert len(shown) < 2_000_000


def test_a_refused_name_of_feedback_is_shown_as_text(command_here: Command) -> None:
    shown = command_here("feedback", "reject", HOSTILE["clipboard"], "--by", "li")
    assert r"\x1b]52;c" in shown


@pytest.mark.parametrize(
    "words",
    [
        ("review", "list"),
        ("review", "show", "2"),
        ("review", "diff", "2"),
        ("history",),
        ("status",),
        ("trace", "1"),
    ],
    ids=" ".join,
)
def test_what_the_registry_holds_is_shown_as_text(
    command: Command, command_here: Command, words: tuple[str, ...]
) -> None:
    is_real = words == ("review", "show", "2")
    shown = flat(command(*words) if is_real else command_here(*words))
    if words != ("review", "list"):
        assert r"\x1b]52;c" in shown and "[/nope]" in shown


def test_a_new_pipeline_from_hostile_names_is_described_as_text(
    project: Path, command: Command, command_here: Command
) -> None:
    clean = [text[:80].replace("\x00", "") for text in STORED.values()]
    folder = project / f"data [urgent] {HOSTILE['clipboard']}\u202e"
    folder.mkdir()
    data = folder / "[nope].csv"
    rows = [["review\x1b[2J", "[bold]label", "ok"]]
    for place in range(120):
        text = f"{clean[place % len(clean)]} a room with a view of harbor {place} {place * 7}"
        rows.append([text, ("[urgent] bug\x1b[8m", "[/nope]\u202e")[place % 2], str(place)])
    with data.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    words = ("--task", "text_classification", "--data", str(data), "--yes")
    columns = ("--text", "review\x1b[2J", "--label", "[bold]label")
    shown = command("new", "mine", *words, *columns)
    assert "[bold]label" in shown and "[urgent] bug" in shown and "[/nope]" in shown
    assert r"review\x1b[2J" in shown
    for name in ("README.md", "params.yaml"):
        written = (project / "pipelines" / "mine" / name).read_text(encoding="utf-8")
        assert not raw_in(written), ascii(written)
    assert "[nope].csv" in command_here("new", "other", *words)


def test_file_names_in_another_encoding_are_refused_by_name(tmp_path: Path) -> None:
    for label in ("好评", "差评"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text("a room with a view")
    (tmp_path / "差评").rename(tmp_path / os.fsdecode("差评".encode("gbk")))
    with pytest.raises(InputError) as caught:
        list_source(Files(kind="files", path=str(tmp_path)), tmp_path)
    assert "1 of 2 files have names that are not UTF-8, such as \\udcb2" in caught.value.what


def test_a_journal_takes_any_text(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for text in TEXTS.values():
        journal.log(text)
    lines = journal.path.read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["text"] for line in lines] == list(TEXTS.values())


@pytest.mark.parametrize("name", TEXTS)
def test_errors_are_told_as_text(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = TEXTS[name]
    print_error(GristmillError(f"what {text}", where=f"where {text}", remedy=f"remedy {text}"))
    print_line(f"line {text}")
    out, err = capfd.readouterr()
    assert not raw_in(out + err)
    assert out.startswith("line ") and out.count("\n") == 1
    assert err.startswith("error: where ") and len(err) < 70_000
    # No value begins a line of its own at the place of an error or of a remedy.
    lines = err.splitlines()
    assert [line for line in lines if not line.startswith("       ")] == [lines[0], lines[-1]]
    assert lines[-1].startswith("  -> remedy ")


@pytest.mark.parametrize("name", TEXTS)
def test_tables_bars_and_styles_take_values_for_text(
    name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.table import Table
    from rich.text import Text

    monkeypatch.setattr(console, "file", sys.stdout)

    text = TEXTS[name][:2000]
    table = Table(title=text, caption=text)
    table.add_column(text, overflow="fold")
    table.add_row(text)
    table.add_row(Text(text, "bold"))
    table.add_row(styled((text, "red"), text))
    colored = ValueConsole(force_terminal=True, color_system="standard", width=80)
    plain = ValueConsole(width=80)
    plain.print(table, text, Text(text), styled(text))
    plain.print(text, style="bold", soft_wrap=True)
    with plain.capture() as captured:
        plain.print(text, soft_wrap=True)
    if name in ("closing tag", "markup", "emoji code", "cell", "script"):
        assert captured.get() == f"{text}\n"
    watcher = Watcher("train")
    watcher.show({"kind": "say", "text": text})
    watcher.show({"kind": "warning", "text": text})
    watcher.show({"kind": "progress", "what": text, "done": 1, "total": 2})
    plain.print(watcher._progress)
    watcher.done(1.0, 0.5, text)
    shown = capfd.readouterr().out
    assert not raw_in(shown)
    assert shown.count("✓ train 1.0 s") == 1
    colored.print(styled((text, "red")))
    shown = capfd.readouterr().out
    assert not raw_in(shown.replace("\x1b[31m", "").replace("\x1b[0m", ""))


def test_a_bug_is_reported_as_text(tmp_path: Path) -> None:
    code = (
        "import sys; from components.core.terminal import print_anything, print_crash; "
        "print_anything(); sys.excepthook = print_crash; "
        "raise ValueError('a\\x1b]0;b\\x07\\u202e')"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and not raw_in(done.stderr)
    assert done.stderr.endswith("ValueError: a\\x1b]0;b\\x07\\u202e\n")


def test_a_wrong_word_is_quoted_as_text(command: Command, command_here: Command) -> None:
    assert "\\u202e" in command("\u202eevil\x1b[2J")
    for words in (("predict", "--\u202eevil"), ("retrain", "a", "\u202eb")):
        assert "\\u202e" in command_here(*words)


def test_what_dvc_says_is_text(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    name = "evil\x1b]0;pwned\x07\u202e"
    stage = {"cmd": "false", "deps": [f"{name}.csv"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"one": stage}}))
    for words in (
        ["dvc", "init", "-q", "--no-scm"],
        ["components.orchestration.runner.dvc_entry_point", "repro", "dvc.yaml"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=env, capture_output=True
        )
    assert done.returncode != 0
    assert r"evil\x1b]0;pwned\x07\u202e" in checked(done)


@pytest.mark.parametrize("name", TEXTS)
def test_webhooks_get_a_line_of_plain_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(webhooks, "post", lambda _, message: sent.append(message) or "")
    text = TEXTS[name]
    made = RetrainRecord("id", "t", "failed", text, "", "", {}, "", "", "", "", 0)
    assert webhooks.notify("http://localhost", "default", made)
    (message,) = sent
    assert not raw_in(message["text"]) and "\n" not in message["text"]
    assert not {"<", ">"} & set(message["text"])
    assert message["detail"] == text
    assert drift_alerts.escaping is webhooks.escaping


@pytest.mark.parametrize("name", TEXTS)
def test_the_outcome_of_the_gates_is_html_text(name: str) -> None:
    text = TEXTS[name][:5000]
    gate = Gate(text, False, 0.1, 0.2, text)
    made = Release("refused", 2, 1, as_rows([gate]), "auto", text, text, "2026")
    shown = with_gates("<!-- gates --><!-- end of gates -->", "default", made)
    assert not raw_in(shown)
    assert "<script" not in shown and "<img" not in shown
