"""Commands in terminals that are not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CSV = "text,label\n" + "".join(
    f"这个酒店 {i} 很好 😀 ñ,好评😀\n这个酒店 {i} 很差 ø,差评\n" for i in range(30)
)
LOCALES = [
    {"PYTHONIOENCODING": "gbk", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "iso-8859-1:strict", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "zh_CN.GBK", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


def gristmill(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a terminal of another encoding."""
    code = "from components.cli.main import main; main()"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    return subprocess.run([sys.executable, "-c", code, *words], env=kept | env, capture_output=True)


@pytest.mark.parametrize("env", LOCALES, ids=["gbk", "latin-1", "ascii", "C locale"])
def test_what_the_terminal_cannot_show_is_replaced(env: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "数据.csv"
    data.write_text(CSV, encoding="utf-8")
    told = gristmill(env, "predict", "😀 很好", "--pipeline", "不存在😀")
    assert told.returncode == 2 and b"Traceback" not in told.stderr
    assert told.stderr.startswith(b"error: there is no pipeline")
    # click writes UTF-8 where the encoding is ASCII, for that is mostly a missing locale.
    if env.get("PYTHONIOENCODING") == "gbk":
        assert "不存在?".encode("gbk") in told.stderr
    if env.get("PYTHONIOENCODING") == "iso-8859-1:strict":
        assert b"'????'" in told.stderr
    refused = gristmill(env, "new", "名", "--task", "text_classification", "--data", str(data))
    assert refused.returncode == 2 and b"Traceback" not in refused.stderr


def test_children_inherit_it() -> None:
    code = (
        "import subprocess, sys; from components.core.terminal import print_anything; "
        "print_anything(); sys.exit(subprocess.run([sys.executable, '-c', "
        "'print(chr(0x1F600))']).returncode)"
    )
    env = os.environ | {"PYTHONIOENCODING": "gbk"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True)
    assert (done.returncode, done.stdout.strip()) == (0, b"?"), done.stderr
