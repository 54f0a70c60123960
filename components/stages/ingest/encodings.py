"""Detection of the encoding of a text file: UTF-8 if it fits, else the best match."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from components.core.errors import InputError
from components.stages.ingest.compressed import open_bytes

# charset-normalizer knows ninety. If all are candidates, rare ones are detected in short files.
CANDIDATES = ("gb18030", "big5", "cp932", "euc_kr", "cp1252", "cp1251")
# Candidates with one byte a character.
_SINGLE = ("cp1252", "cp1251")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or name it .xlsx"),
    (b"\x1f\x8b", "compressed by gzip", "add .gz to its name"),
    (b"BZh", "compressed by bzip2", "add .bz2 to its name"),
    (b"\xfd7zXZ\0", "compressed by xz", "add .xz to its name"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "add .zst to its name"),
    (b"PAR1", "Parquet", "add .parquet to its name"),
    (b"\xd0\xcf\x11\xe0", "an old or encrypted Office file", "save it as .xlsx or CSV"),
    (b"%PDF", "a PDF", "export the text as CSV or one .txt a class"),
    (b"SQLite format 3", "an SQLite database", "set ingest.source.kind: sql, or export a CSV"),
    (b"\x89PNG", "a picture", "take a task for pictures (gristmill tasks), and give their folder"),
    (b"version https://git-lfs.", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
)
# Of characters in text: none is unassigned or private, or half of a pair.
_STRANGE = ("Cn", "Co", "Cs", "Cc")
_CHUNK = 1 << 20
_SAMPLE = 1 << 16
_FEW = 100  # non-ASCII bytes below which statistics of a language say nothing


def detect(path: Path, wanted: str, where: str) -> str:
    """Return the encoding in which all of a file can be read.

    Args:
        path: the file.
        wanted: a Python codec, or "auto".
        where: what to call the file in an error.

    Raises:
        InputError: it cannot be read so; names the byte.
    """
    if wanted != "auto":
        failed = _first_failure(path, wanted, where)
        if failed is None:
            return wanted
        raise InputError(
            f"is not {wanted}: byte {failed} cannot be read",
            where=where,
            remedy="set ingest.source.encoding to the file's encoding, or to auto",
        )
    head = _piece(path, 0, where)
    _check_is_text(head, where)
    failed = _first_failure(path, "utf-8", where)
    for encoding in _guesses(path, head, failed, where):
        if _first_failure(path, encoding, where) is None:
            return encoding
    what = (
        f"is in no encoding that could be recognised; as UTF-8, byte {failed or 0} cannot be read"
    )
    raise InputError(
        what,
        where=where,
        remedy="set ingest.source.encoding to the file's encoding (gb18030, big5, cp1252, …), "
        "or mend that byte",
    )


def _guesses(
    path: Path,
    head: bytes,
    failed: int | None,
    where: str,
) -> list[str]:
    """Return the encodings to try, best first.

    Args:
        path: of the file.
        head: its first bytes.
        failed: position of the first byte that is not UTF-8; None: there is none.
        where: name of the file in error messages.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return [encoding]
    # Every other byte of Latin text in UTF-16 is zero.
    if head.count(0) * 4 > len(head):
        return ["utf-16-be" if head[:1] == b"\0" else "utf-16-le"]
    if failed is not None and (wide := _utf_16(head)):
        return [wide]
    if failed is None:
        return ["utf-8"]
    sample = _piece(path, max(0, failed - _SAMPLE // 2), where)
    if _damaged(sample) or b"\0" in sample:
        return []
    from charset_normalizer import from_bytes

    ranked = [match.encoding for match in from_bytes(sample, cp_isolation=list(CANDIDATES))]
    # Few such bytes, or few among English, are detected as accents. But accents do not come in the
    # pairs of gb2312.
    doubtful = sum(byte > 127 for byte in sample) < _FEW or (ranked and ranked[0] in _SINGLE)
    if not ranked:
        return []
    if doubtful and _decodes(_whole_lines(sample), "gb2312"):
        ranked.insert(0, "gb18030")
    return list(dict.fromkeys(ranked))


def _utf_16(head: bytes) -> str | None:
    """Return the byte order of UTF-16 without a mark, where line ends and characters show it.

    Of Chinese few bytes are zero, and on both sides: 一 is 4E 00.
    """
    if b"\0" not in head or (len(head) % 2 and len(head) < _SAMPLE):
        return None
    for encoding in ("utf-16-le", "utf-16-be"):
        text = head[: len(head) // 2 * 2].decode(encoding, "replace")
        # A line end in the other byte order is the unassigned U+0A00.
        ends = text.count("\n") + text.count("\r")
        strange = sum(map(_is_strange, text))
        if ends > text.count("\u0a00") and strange * 100 <= len(text):
            return encoding
    return None


def _is_strange(character: str) -> bool:
    """Return whether a character is rare in texts."""
    return unicodedata.category(character) in _STRANGE and not character.isspace()


def _check_is_text(head: bytes, where: str) -> None:
    """Refuse files that are of another kind than their names say.

    Raises:
        InputError: an archive, a workbook, a picture, a pointer of Git LFS.
    """
    for magic, kind, remedy in _OTHER_KINDS:
        if head.startswith(magic):
            raise InputError(f"is no text: it is {kind}", where=where, remedy=remedy)


def _damaged(sample: bytes) -> bool:
    """Return whether bytes are UTF-8 with a few broken bytes.

    Other encodings would read them without an error, as wrong characters.
    """
    text = sample.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    whole = sum(char > "\x7f" for char in text) - broken
    return whole > 4 * broken


def _whole_lines(sample: bytes) -> bytes:
    """Return a sample without its first and last line, whose characters may be cut."""
    if len(sample) < _SAMPLE:
        return sample
    return sample[sample.find(b"\n") + 1 : sample.rfind(b"\n")]


def _decodes(data: bytes, encoding: str) -> bool:
    """Return whether bytes can be decoded."""
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _piece(path: Path, start: int, where: str) -> bytes:
    """Return some bytes from an offset on; a compressed file is read up to it."""
    with open_bytes(path, where) as stream:
        if stream.seekable():
            stream.seek(start)
            start = 0
        while start > 0:
            skipped = len(stream.read(min(start, _CHUNK)))
            if not skipped:
                return b""
            start -= skipped
        return stream.read(_SAMPLE)


def _first_failure(path: Path, encoding: str, where: str) -> int | None:
    """Return the offset of the first byte that cannot be read; None if all can."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    with open_bytes(path, where) as stream:
        while True:
            chunk = stream.read(_CHUNK)
            pending = len(decoder.getstate()[0])  # bytes kept from the chunk before
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                return read - pending + getattr(error, "start", 0)
            read += len(chunk)
            if not chunk:
                return None
