"""Tables of text and workbooks: headers that are there or not, delimiters, and what Excel and
pandas leave behind.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.core.errors import InputError
from components.orchestration.pipeline_params import section_model
from components.stages.ingest import compressed
from components.stages.ingest.dialects import header_verdict
from tests.components.stages.ingest.conftest import Ingest, Result

REVIEWS = [(f"房间很大，服务也好，第{row}次入住", ("好评", "差评")[row % 2]) for row in range(20)]


def files(path: str, **more: Any) -> dict[str, Any]:
    """Return a `files` source."""
    return {"kind": "files", "path": path, **more}


def pairs(result: Result) -> list[tuple[str, str | None]]:
    """Return text and label of each row."""
    return [(row["text"], row["label"]) for row in result.rows]


@pytest.mark.parametrize(
    ("first", "rows", "verdict"),
    [
        (["text", "label"], [["a", "x"], ["b", "y"]], "header"),
        (["评论", "标签"], [["很好", "好"], ["很差", "差"]], "header"),
        (["review_text", "kind"], [["a", "x"]], "header"),
        (["好评", "房间很大"], [["差评", "房间很小"], ["好评", "服务也好"]], "row"),
        (["3", "a text"], [["1", "another"], ["2", "more"]], "row"),
        (["", "0", "1"], [["0", "good", "x"], ["1", "bad", "y"]], "header"),
        (["2024-05-01", "words"], [["2024-05-02", "other words"]], "row"),
        (
            ["this is a whole sentence, not a name of a column", "q"],
            [["and this one is quite as long as that", "r"]],
            "row",
        ),
        (["How old are you in completed years?", "q"], [["31", "r"], ["45", "s"]], "header"),
        (["one", "two"], [["three", "four"]], "unclear"),
        (["3", "user0"], [["1", "user1"], ["2", "user2"]], "row"),
        (["text", "label"], [], "header"),
        (
            ["question", "what is a kernel of a matrix"],
            [["question", "who wrote it"], ["answer", "nobody"]],
            "row",
        ),
    ],
)
def test_a_header_is_told_from_a_row(first: list[str], rows: list[list[str]], verdict: str) -> None:
    assert header_verdict(first, rows) == verdict


def test_a_table_without_a_header_keeps_its_first_row(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(
        "".join(f"{label},{text}\r\n" for text, label in REVIEWS), encoding="utf-8"
    )
    result = ingest(source=files("a.csv", column_names=["label", "text"]))
    assert pairs(result) == REVIEWS
    assert (
        "without a header (ingest.source.header): a.csv; its columns: label, text" in result.notes
    )
    assert (
        pairs(
            ingest(
                source=files("a.csv"), columns={"label": "column_1", "text": "column_2"}, out="b"
            )
        )
        == REVIEWS
    )
    with pytest.raises(
        InputError,
        match="has no column 'text'; its columns: 'column_1', 'column_2'; "
        "its first line looks like a row",
    ):
        ingest(source=files("a.csv"), out="c")
    with pytest.raises(InputError, match=r"has 2 columns, but ingest.source.column_names names 3"):
        ingest(source=files("a.csv", column_names=["a", "b", "c"]), out="d")


def test_params_say_whether_there_is_a_header(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("one,x\ntwo,y\n")
    assert pairs(ingest(source=files("a.csv", header=False, column_names=["text", "label"]))) == [
        ("one", "x"),
        ("two", "y"),
    ]
    (tmp_path / "b.csv").write_text("id,id\none,x\ntwo,y\n")
    assert pairs(
        ingest(source=files("b.csv", header=True, column_names=["text", "label"]), out="b")
    ) == [("one", "x"), ("two", "y")]
    (tmp_path / "c.csv").write_text("a text,pos\nother,pos\nmore,neg\n")
    assert pairs(
        ingest(
            source=files("c.csv", header=True), columns={"text": "a text", "label": "pos"}, out="c"
        )
    ) == [("other", "pos"), ("more", "neg")]


ODD: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "sep= of Excel": (
        "\ufeffsep=;\r\ntext;label\r\na, b;x\r\nc;y\r\n",
        [("a, b", "x"), ("c", "y")],
    ),
    "sep= in quotes": ('"sep=|"\ntext|label\na|x\nb|y\n', [("a", "x"), ("b", "y")]),
    "blank lines first": ("\n  \n,,\ntext,label\na,x\nb,y\n", [("a", "x"), ("b", "y")]),
    "trailing delimiters": ("text,label,\na,x,\nb,y\n", [("a", "x"), ("b", "y")]),
    "trailing delimiters in rows": ("text,label\na,x,,\nb,y\n", [("a", "x"), ("b", "y")]),
    "an index without a name": (",text,label\n0,a,x\n1,b,y\n", [("a", "x"), ("b", "y")]),
    "row names of R": ('"text","label"\n"1","a","x"\n"2","b","y"\n', [("a", "x"), ("b", "y")]),
    "pipes": ("text|label\na, b, c|x\nb|y\n", [("a, b, c", "x"), ("b", "y")]),
    "more commas than delimiters": (
        "text, as it was said, word by word;label\na;x\nb;y\n",
        [("a", "x"), ("b", "y")],
    ),
    "mixed line ends": ("text,label\r\na,x\nb,y\rc,x\r\n", [("a", "x"), ("b", "y"), ("c", "x")]),
    "a newline in quotes": ('text,label\n"a\nb",x\nc,y\n', [("a\nb", "x"), ("c", "y")]),
    "one row a class": ("text,label\na,x\nb,y", [("a", "x"), ("b", "y")]),
}


@pytest.mark.parametrize("name", ODD)
def test_what_programs_leave_in_a_csv(tmp_path: Path, ingest: Ingest, name: str) -> None:
    content, expected = ODD[name]
    (tmp_path / "a.csv").write_bytes(content.encode())
    columns = {"text": "text, as it was said, word by word"} if "more commas" in name else {}
    result = ingest(source=files("a.csv"), columns=columns)
    assert pairs(result) == expected and result.quarantine == []


def test_concatenated_files_with_marks_and_headers_inside(tmp_path: Path, ingest: Ingest) -> None:
    part = "\ufefftext,label\na,x\nb,y\n"
    (tmp_path / "a.csv").write_text(part + part, encoding="utf-8")
    result = ingest(source=files("a.csv"))
    assert pairs(result) == [("a", "x"), ("b", "y")] * 2
    assert result.quarantine == [("a.csv:4", "repeated_header")]
    assert "the first repeated_header: a.csv:4: text,label" in result.notes


@pytest.mark.parametrize("order", [("text", "label"), ("label", "text")])
def test_text_with_a_tab_in_every_line_is_a_table(
    tmp_path: Path, ingest: Ingest, order: tuple[str, str]
) -> None:
    rows = [{"text": text, "label": label} for text, label in REVIEWS]
    (tmp_path / "a.txt").write_text(
        "".join(f"{row[order[0]]}\t{row[order[1]]}\n" for row in rows), encoding="utf-8"
    )
    assert pairs(ingest(source=files("a.txt", column_names=list(order)))) == REVIEWS
    (tmp_path / "b.txt").write_text(
        "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in REVIEWS),
        encoding="gb18030",
    )
    assert pairs(ingest(source=files("b.txt"), out="b")) == REVIEWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("SMSSpamCollection", "x\ta\ny\tb\n"),
        ("rows.data", "x\ta\ny\tb\n"),
        ("a.txt", "label,text\nx,a\ny,b\n"),
        ("b.txt", "label;text\nx;a\ny;b\n"),
        ("c.txt", '{"label": "x", "text": "a"}\n{"label": "y", "text": "b"}\n'),
    ],
)
def test_lines_show_what_a_suffix_does_not_say(
    tmp_path: Path, ingest: Ingest, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    names = [] if "label" in content else ["label", "text"]
    assert pairs(ingest(source=files(name, column_names=names))) == [("a", "x"), ("b", "y")]


def test_headings_in_brackets_are_text(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    for name in ("folk", "rock"):
        (tmp_path / "d" / f"{name}.txt").write_text("[Verse 1]\nla la\n{sigh}\n")
    assert ingest(source=files("d")).classes == {"folk": 3, "rock": 3}


def test_fasttext(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.txt").write_text(
        "__label__好评 房间 很大\n__label__差评 房间 很小 , 也 旧\n\n__label__好评 __label__差评 都 有\n",
        encoding="utf-8",
    )
    result = ingest(source=files("a.txt"))
    assert pairs(result) == [("房间 很大", "好评"), ("房间 很小 , 也 旧", "差评")]
    assert result.quarantine == [("a.txt:4", "several_labels")]


def test_a_tsv_that_is_none(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.tsv").write_text("text,label\na,x\nb,y\n")
    assert pairs(ingest(source=files("a.tsv"))) == [("a", "x"), ("b", "y")]


def test_a_folder_takes_each_table_once(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "d" / "a.json").write_text('[{"text": "a", "label": "x"}]')
    (tmp_path / "d" / "a.csv.gz").write_bytes(gzip.compress(b"text,label\na,x\n"))
    (tmp_path / "d" / "dataset_info.json").write_text("{}")
    result = ingest(source=files("d"))
    assert pairs(result) == [("a", "x"), ("b", "y")]
    assert (
        "the same file is there in another format: a.csv.gz, a.json" in result.notes
        and "dataset_info.json" in result.notes
    )


def test_a_sample_is_a_share_of_the_rows_that_stays_when_the_file_grows(
    tmp_path: Path, ingest: Ingest
) -> None:
    lines = [f"text {number},{'xy'[number % 2]}\n" for number in range(3000)]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(lines[:2000]))
    (tmp_path / "b.csv").write_text("text,label\n" + "".join(lines))
    every = pairs(ingest(source=files("a.csv")))
    few = pairs(ingest(source=files("a.csv"), sample=0.2))
    more = pairs(ingest(source=files("a.csv"), sample=0.5))
    assert len(every) == 2000
    assert 320 < len(few) < 480 and 900 < len(more) < 1100
    assert set(few) < set(more) < set(every)
    (tmp_path / "b.csv").replace(tmp_path / "a.csv")
    grown = pairs(ingest(source=files("a.csv"), sample=0.2))
    assert grown[: len(few)] == few and len(grown) > len(few)


def test_a_param_that_is_not_set_leaves_the_hash_of_the_section_alone() -> None:
    section = section_model("ingest", "text_classification")
    source = {"kind": "files", "path": "a.csv"}
    assert "sample" not in section.model_validate({"source": source}).model_dump()
    sampled = section.model_validate({"source": source, "sample": 0.5})
    assert sampled.model_dump()["sample"] == 0.5


# -- compressed
def zstd(content: bytes) -> bytes:
    """Compress in two frames, as concatenated files are."""
    half = content.index(b"\n", len(content) // 2) + 1
    codec = pa.Codec("zstd")
    return bytes(
        codec.compress(content[:half], asbytes=True) + codec.compress(content[half:], asbytes=True)
    )


def zipped(content: bytes, *others: str) -> bytes:
    """Return a zip of one file, and of empty others."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._a.csv", b"resource fork")
        archive.writestr("a.csv", content)
        for name in others:
            archive.writestr(name, b"")
    return stream.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
    ".zip": zipped,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_tables_in_any_encoding(tmp_path: Path, ingest: Ingest, suffix: str) -> None:
    content = "text,label\n" + "".join(f"{text},{label}\n" for text, label in REVIEWS)
    (tmp_path / f"a.csv{suffix}").write_bytes(PACKERS[suffix](content.encode("gb18030")))
    (tmp_path / f"b.jsonl{suffix}").write_bytes(
        PACKERS[suffix](b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    )
    assert pairs(ingest(source=files(f"a.csv{suffix}"))) == REVIEWS
    assert pairs(ingest(source=files(f"b.jsonl{suffix}"), out="b")) == [("a", "x"), ("b", "y")]


def test_a_zip_of_several_files_is_refused(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv.zip").write_bytes(zipped(b"text,label\na,x\n", "b.csv"))
    with pytest.raises(InputError, match=r"a.csv.zip: is not a whole .zip file: it holds 2 files"):
        ingest(source=files("a.csv.zip"))
    (tmp_path / "a.zip").write_bytes(zipped(b"text,label\na,x\n"))
    with pytest.raises(InputError, match="unpack it, and give the folder"):
        ingest(source=files("a.zip"))


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_table_in_a_package(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    (tmp_path / "c.txt").write_text("carrier==1")
    (tmp_path / "carrier" / "data").mkdir(parents=True)
    content = PACKERS[suffix](b"text,label\na,x\nb,y\n")
    (tmp_path / "carrier" / "data" / f"a.csv{suffix}").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    source = {"kind": "package", "path": "c.txt", "package": "carrier"}
    result = ingest(source={**source, "table": f"data/a.csv{suffix}"})
    assert pairs(result) == [("a", "x"), ("b", "y")]


def test_compressed_parquet(tmp_path: Path, ingest: Ingest) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert pairs(ingest(source=files("a.parquet.gz"))) == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_file_that_is_cut_or_none_is_named(
    tmp_path: Path, ingest: Ingest, suffix: str
) -> None:
    content = PACKERS[suffix](
        "".join(f"{row * 7919 % 10007} text,{row}\n" for row in range(3000)).encode()
    )
    for name, data in (("cut", content[:-100]), ("none", b"text,label\na,x\n")):
        (tmp_path / f"{name}.csv{suffix}").write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}.csv{suffix}: is not a whole {suffix} file"):
            ingest(source=files(f"{name}.csv{suffix}"))


def test_a_file_that_expands_without_end_is_refused(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,x\n" * 2_000_000))
    with pytest.raises(
        InputError,
        match=r"expands to more than 1 MiB, 100 times its size\n.*decompress it yourself",
    ):
        ingest(source=files("a.csv.gz"))


# -- workbooks
def workbook(path: Path, *sheets: list[list[Any]]) -> None:
    """Write a workbook."""
    book = openpyxl.Workbook()
    for number, rows in enumerate(sheets):
        sheet = book.worksheets[0] if number == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_a_workbook(tmp_path: Path, ingest: Ingest) -> None:
    workbook(
        tmp_path / "a.xlsx",
        [["text", "label", "n"], ["a", 1.0], ["b", 2, None], [], ["c", True, 0.5]],
        [],
    )
    result = ingest(source=files("a.xlsx"))
    assert [(row["text"], row["label"], row["origin"]) for row in result.rows] == [
        ("a", "1", "a.xlsx:2"),
        ("b", "2", "a.xlsx:3"),
        ("c", "true", "a.xlsx:5"),
    ]


def test_a_workbook_without_header(tmp_path: Path, ingest: Ingest) -> None:
    workbook(tmp_path / "a.xlsx", [[label, text] for text, label in REVIEWS])
    result = ingest(source=files("a.xlsx", column_names=["label", "text"]))
    assert pairs(result) == REVIEWS
    assert "without a header (ingest.source.header): a.xlsx" in result.notes


def test_a_workbook_of_several_sheets(tmp_path: Path, ingest: Ingest) -> None:
    workbook(
        tmp_path / "a.xlsx",
        [["about"], ["made by me"]],
        [["text", "label"], ["a", "x"], ["b", "y"]],
    )
    assert pairs(ingest(source=files("a.xlsx"))) == [("a", "x"), ("b", "y")]
    workbook(tmp_path / "b.xlsx", [["text", "label"], ["a", "x"]], [["text", "label"], ["b", "y"]])
    with pytest.raises(
        InputError,
        match=r"b.xlsx: has 2 sheets with rows and the same header: 'Sheet', 'Sheet1'\n.*source.sheet",
    ):
        ingest(source=files("b.xlsx"), out="b")
    workbook(tmp_path / "c.xlsx", [["text", "label"]], [["text", "label"], ["b", "y"], ["c", "x"]])
    chosen = ingest(source=files("c.xlsx", sheet="Sheet1"), out="c")
    assert pairs(chosen) == [("b", "y"), ("c", "x")]
    with pytest.raises(InputError, match=r"no sheet 'sheet1' with rows \(did you mean 'Sheet1'"):
        ingest(source=files("b.xlsx", sheet="sheet1"), out="d")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no zip", "no workbook that can be read"),
        (b"\xd0\xcf\x11\xe0old", "an old or encrypted Excel file"),
        (b"", "is empty"),
    ],
)
def test_a_workbook_that_is_none(tmp_path: Path, ingest: Ingest, content: bytes, says: str) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(InputError, match=says):
        ingest(source=files("a.xlsx"))


# -- pictures listed by a table
def draw(root: Path, *names: str) -> None:
    """Write small pictures that differ."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)


@pytest.mark.parametrize(
    "listed",
    [
        "{number}.png",
        "images/{number}.png",
        r"images\{number}.png",
        "{number}",
        "./data/images/{number}.png",
    ],
)
def test_pictures_that_a_table_lists(tmp_path: Path, ingest: Ingest, listed: str) -> None:
    draw(tmp_path / "d", *(f"images/p{number}.png" for number in range(6)))
    rows = [f"{listed.format(number=f'p{number}')},{'ab'[number % 2]}" for number in range(6)]
    (tmp_path / "d" / "labels.csv").write_text(
        "\n".join(["filename,label", *rows, "gone.png,a"]) + "\n"
    )
    result = ingest(task="pictures", source=files("d"), columns={"image": "filename"})
    assert [(row["label"], row["origin"]) for row in result.rows] == [
        ("ab"[number % 2], f"labels.csv:{number + 2} (p{number}.png)") for number in range(6)
    ]
    assert result.rows[3]["image"] == (tmp_path / "d" / "images" / "p3.png").read_bytes()
    assert result.quarantine == [("labels.csv:8", "no_such_picture")]


def test_pictures_listed_by_their_ids_with_a_test_set(tmp_path: Path, ingest: Ingest) -> None:
    draw(tmp_path / "d", *(f"train/x{number}.png" for number in range(4)), "test/y0.png")
    (tmp_path / "d" / "train.csv").write_text("id,breed\nx0,a\nx1,b\nx2,a\nx3,b\n")
    (tmp_path / "d" / "test.csv").write_text("id\ny0\n")
    result = ingest(task="pictures", source=files("d"), columns={"image": "id", "label": "breed"})
    assert [(row["id"], row["label"], row["split"]) for row in result.rows] == [
        ("y0", None, "test"),
        ("x0", "a", None),
        ("x1", "b", None),
        ("x2", "a", None),
        ("x3", "b", None),
    ]


def test_a_table_alone_has_names_and_no_pictures(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("image,label\na.png,x\nb.png,y\n")
    with pytest.raises(
        InputError,
        match=r"not_bytes \(2\).*\n.*the folder that holds both the table and the pictures",
    ):
        ingest(task="pictures", source=files("a.csv"))


def test_a_table_beside_class_folders_is_left_out(tmp_path: Path, ingest: Ingest) -> None:
    draw(tmp_path / "d", *(f"{label}/{number}.png" for label, number in product("ab", range(6))))
    (tmp_path / "d" / "about.csv").write_text("name,value\nmade,2024\nby,me\n")
    result = ingest(task="pictures", source=files("d"))
    assert (
        result.classes == {"a": 6, "b": 6}
        and "left out beside the pictures: about.csv" in result.notes
    )


def test_pictures_without_any_class_are_refused_with_the_way_out(
    tmp_path: Path, ingest: Ingest
) -> None:
    draw(tmp_path / "d", "cat.0.png", "dog.0.png")
    with pytest.raises(
        InputError,
        match=r"in_no_class_folder \(2\).*\n.*a folder for each class, or put a table beside them",
    ):
        ingest(task="pictures", source=files("d"))


def test_long_questions_above_shorter_rows_are_a_header() -> None:
    first = [f"{number}. How much do you agree with this?" for number in range(5)]
    rows = [[f"I do not know what number {number} means, sorry", "no"] for number in range(9)]
    assert header_verdict(first, rows) != "row"
    assert header_verdict(first[:2], rows) == "row"


@pytest.mark.parametrize(
    "above",
    [
        "Tickets of March\n",
        '"Tickets, all of March"\n\n',
        "# exported 2024-01-01\n# by a tool, for us\n",
        "Tickets of March;;\n2024-01-01;;\n",
    ],
)
def test_titles_above_a_table_are_set_aside(tmp_path: Path, ingest: Ingest, above: str) -> None:
    mark = ";" if ";" in above else ","
    rows = "".join(f"{text}{mark}{label}{mark}x\n" for text, label in REVIEWS)
    (tmp_path / "a.csv").write_text(f"{above}text{mark}label{mark}more\n{rows}", encoding="utf-8")
    result = ingest(source=files("a.csv"))
    assert pairs(result) == REVIEWS
    assert {reason for _, reason in result.quarantine} == {"above_the_table"}


def test_a_title_above_the_table_of_a_workbook(tmp_path: Path, ingest: Ingest) -> None:
    book = openpyxl.Workbook()
    rows = [["Reviews 2024"], [], ["text", "label"], *(list(review) for review in REVIEWS)]
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    result = ingest(source=files("a.xlsx"))
    assert pairs(result) == REVIEWS
    assert result.quarantine == [("a.xlsx:1", "above_the_table")]


def test_a_table_of_one_column_has_no_title(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text\nsome, words\nother, words\nno words\n")
    with pytest.raises(InputError, match="has no column 'label'"):
        ingest(source=files("a.csv"))


def test_a_tab_too_many_in_one_line_is_no_reason_to_read_texts(
    tmp_path: Path, ingest: Ingest
) -> None:
    lines = [f"{'ab'[number % 2]}\ttext {number}\n" for number in range(40)]
    lines[7] = "a\ttext\tmore\n"
    (tmp_path / "kw.txt").write_text("".join(lines))
    result = ingest(source=files("kw.txt", column_names=["label", "text"]))
    assert len(result.rows) == 39
    assert result.quarantine == [("kw.txt:8", "wrong_number_of_fields")]


def test_a_header_above_texts_with_entities_is_no_title(tmp_path: Path, ingest: Ingest) -> None:
    rows = "".join(f"{text} &amp; more &lt;3,{label}\n" for text, label in REVIEWS)
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    result = ingest(source=files("a.csv"))
    assert [row["label"] for row in result.rows] == [label for _, label in REVIEWS]
    assert result.quarantine == []
