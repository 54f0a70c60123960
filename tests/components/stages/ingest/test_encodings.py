"""Which encoding a file is taken to be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import InputError
from components.stages.ingest.encodings import detect

CHINESE = "这个酒店真不错，房间很大，服务员态度也很好。下次还会来住的！\n"


@pytest.mark.parametrize(
    ("text", "written", "expected"),
    [
        (CHINESE, "utf-8", "utf-8"),
        ("plain ascii\n", "ascii", "utf-8"),
        (CHINESE, "utf-8-sig", "utf-8-sig"),
        (CHINESE, "utf-16", "utf-16"),
        ("plain english, no mark\n", "utf-16-le", "utf-16-le"),
        ("plain english, no mark\n", "utf-16-be", "utf-16-be"),
        (CHINESE, "gb18030", "gb18030"),
        ("text,label\n很好,1\n", "gb18030", "gb18030"),
        ("這個飯店真不錯，房間很大，服務員態度也很好。\n" * 9, "big5", "big5"),
        ("It’s a “great” café – I loved it.\n", "cp1252", "cp1252"),
        ("Отличная гостиница, очень понравилось.\n", "cp1251", "cp1251"),
    ],
)
def test_detects_what_a_text_was_written_in(
    tmp_path: Path, text: str, written: str, expected: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(written))
    found = detect(path, "auto", "a.txt")
    assert found == expected
    assert path.read_bytes().decode(found) == text


def test_reads_past_a_megabyte_before_it_believes_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"plain\n" * 300_000 + CHINESE.encode("gb18030"))
    assert detect(path, "auto", "a.txt") == "gb18030"


def test_a_character_across_two_reads_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * ((1 << 20) - 1) + "好".encode() * 10)
    assert detect(path, "auto", "a.txt") == "utf-8"


@pytest.mark.parametrize(("padding", "offset"), [(b"", 96), (b"\n" * (1 << 20), 96 + (1 << 20))])
def test_names_the_byte_that_breaks_utf8_rather_than_guess(
    tmp_path: Path, padding: bytes, offset: int
) -> None:
    path = tmp_path / "a.txt"
    good = CHINESE.encode()[:-1]
    path.write_bytes(padding + good + b"\xff" + good * 20)
    with pytest.raises(InputError) as caught:
        detect(path, "auto", "a.txt")
    assert f"byte {offset - (96 - len(good))}" in str(caught.value)
    assert "ingest.source.encoding" in caught.value.remedy


def test_the_wrong_encoding_by_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab" + CHINESE.encode("gb18030"))
    with pytest.raises(InputError, match="is not utf-8: byte 2 cannot be read"):
        detect(path, "utf-8", "a.txt")
    assert detect(path, "gb18030", "a.txt") == "gb18030"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 8)
    with pytest.raises(InputError, match="is no text: it is a ZIP"):
        detect(path, "auto", "a.csv")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_chinese_in_utf_16_without_a_mark(tmp_path: Path, encoding: str) -> None:
    text = "".join(f"今天天气很好，第{number}次来这里，一直开心\t正面\r\n" for number in range(40))
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    assert detect(path, "auto", "a.csv") == encoding


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"PK\x03\x04\x14\0\x06\0", "name it .xlsx"),
        (b"\x1f\x8b\x08\0", "add .gz"),
        (b"%PDF-1.4\n", "export the text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "git lfs pull"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, remedy: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no text") as caught:
        detect(path, "auto", "a.csv")
    assert remedy in str(caught.value)
