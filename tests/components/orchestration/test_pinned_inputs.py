"""A retrain writes the inputs that DVC does not track into the params of its copy."""

from __future__ import annotations

from pathlib import Path

from components.core.params import read_yaml
from components.orchestration.pipeline_params import load
from components.orchestration.retraining.stored_split import pin_inputs

ROOT = Path(__file__).parents[3]


def test_an_address_is_not_written_between_braces(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    file = tmp_path / "params.yaml"
    address = "http://127.0.0.1:1/hook"
    file.write_text(text.replace("webhook: null", f"webhook: {address}"), encoding="utf-8")
    before = read_yaml(file)
    pin_inputs(tmp_path, load(file), None, "digest")
    after = read_yaml(file)
    assert after["retrain"]["webhook"] == address
    assert after["ingest"].pop("seen") == "digest"
    before["ingest"].pop("seen", None)
    assert after == before
    # DVC may have a parser that refuses a colon between braces.
    lines = file.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "{" in line and ":" in line.partition("{")[2]]
