"""Source `url`: files over HTTP, whole or refused, and fetched once."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EnvironmentFault, InputError, ParamsError
from components.core.params import validate
from components.stages.ingest import downloads
from components.stages.ingest.params import IngestParams
from tests.components.stages.ingest.file_server import FileServer, file_server

Ingest = Callable[..., Any]  # the fixture of conftest.py

TRAIN = b"text,label\n" + b"".join(b"row %d,%d\n" % (row, row % 2) for row in range(20_000))
TEST = b"text,label\nlast,0\nnewest,1\n"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server with train.csv and test.csv."""
    monkeypatch.setattr(downloads, "_PAUSE_S", 0.01)
    (tmp_path / "LICENSE").write_text("CC0")
    with file_server() as state:
        yield state


def source(files: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A `url` source."""
    return {"kind": "url", "path": "LICENSE", "files": files, **more}


def _parts(root: Path) -> list[str]:
    """Names of what an ended download has left."""
    folder = root / "data" / ".state" / "downloads"
    return sorted(path.name for path in folder.rglob("*.part*"))


def test_several_files_with_their_splits_are_fetched_once(
    ingest: Ingest, server: FileServer
) -> None:
    files = {
        "train.csv.gz": server.put("/a/train", gzip.compress(TRAIN)),
        "test.csv": server.put("/test.csv", TEST),
    }
    result = ingest(source=source(files))
    assert result.splits == {"train": 20_000, "test": 2}
    assert len(server.requests) == 2
    server.files.clear()
    again = ingest(source=source(files), out="again")
    assert again.rows == result.rows
    assert len(server.requests) == 2


def test_folders_in_names_are_targets(ingest: Ingest, server: FileServer) -> None:
    files = {
        "good/1.txt": server.put("/1", b"fine"),
        "bad/1.txt": server.put("/2", b"poor"),
        "bad/2.txt": server.put("/3", b"worse"),
    }
    result = ingest(source=source(files, format="folders"))
    assert result.classes == {"good": 1, "bad": 2}


def test_a_cut_connection_is_resumed(ingest: Ingest, server: FileServer) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    server.cuts["/train.csv"] = 1000
    assert len(ingest(source=source(files)).rows) == 20_000
    assert server.requests == [("/train.csv", ""), ("/train.csv", "bytes=1000-")]


def test_a_later_run_resumes(tmp_path: Path, ingest: Ingest, server: FileServer) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    server.cuts["/train.csv"] = 5000
    server.refusals_after_cut = [503] * 3
    with pytest.raises(EnvironmentFault, match=r"status 503.*5,000 bytes are there") as error:
        ingest(source=source(files))
    assert error.value.where == "ingest.source.files.train.csv"
    assert _parts(tmp_path) == ["train.csv.part", "train.csv.part.version"]
    server.requests.clear()
    assert len(ingest(source=source(files)).rows) == 20_000
    assert server.requests == [("/train.csv", "bytes=5000-")]
    assert _parts(tmp_path) == []


def test_a_new_file_at_the_address_is_fetched_whole(
    tmp_path: Path, ingest: Ingest, server: FileServer
) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    server.etag = '"two"'
    folder = tmp_path / "data" / ".state" / "downloads" / files["train.csv"]["sha256"]
    folder.mkdir(parents=True)
    (folder / "train.csv.part").write_bytes(b"of the file before")
    (folder / "train.csv.part.version").write_text('"one"')
    assert len(ingest(source=source(files)).rows) == 20_000
    assert [asked for _, asked in server.requests] == ["bytes=18-"]


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_a_server_without_range_sends_all_again(
    ingest: Ingest, server: FileServer, etag: str
) -> None:
    server.has_ranges = False
    server.etag = etag
    server.cuts["/train.csv"] = 1000
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    assert len(ingest(source=source(files)).rows) == 20_000


def test_bytes_of_another_file_are_not_continued(
    tmp_path: Path, ingest: Ingest, server: FileServer
) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    server.etag = ""
    folder = tmp_path / "data" / ".state" / "downloads" / files["train.csv"]["sha256"]
    folder.mkdir(parents=True)
    (folder / "train.csv.part").write_bytes(b"something else")
    assert len(ingest(source=source(files)).rows) == 20_000
    assert [asked for _, asked in server.requests] == ["bytes=14-", ""]
    (folder / "train.csv.part").write_bytes(TRAIN + b"too long")
    (folder / "train.csv").write_bytes(b"edited")
    assert len(ingest(source=source(files), out="again").rows) == 20_000


def test_another_content_is_refused_with_its_hash(
    tmp_path: Path, ingest: Ingest, server: FileServer
) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    page = server.put("/train.csv", b"<!DOCTYPE html><p>Log in</p>")
    with pytest.raises(InputError, match="a web page, 28 bytes with SHA-256 " + page["sha256"]):
        ingest(source=source(files))
    assert _parts(tmp_path) == []


def test_a_missing_file_is_refused(ingest: Ingest, server: FileServer) -> None:
    files = {"train.csv": {"url": server.url("/gone.csv"), "sha256": "0" * 64}}
    with pytest.raises(InputError, match=r"/gone.csv is answered with status 404"):
        ingest(source=source(files))
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(ingest: Ingest, server: FileServer) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    server.refusals["/train.csv"] = [503, 429]
    assert len(ingest(source=source(files)).rows) == 20_000


def test_a_server_that_does_not_answer(ingest: Ingest, server: FileServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        files = {"a.csv": {"url": f"http://127.0.0.1:{port}/a.csv", "sha256": "0" * 64}}
        with pytest.raises(EnvironmentFault, match=r"cannot be fetched \(ReadTimeout\); 0 bytes"):
            ingest(source=source(files, timeout_s=0.1))


@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_without_end_is_cut_off(
    tmp_path: Path, ingest: Ingest, server: FileServer, has_length: bool
) -> None:
    server.has_length = has_length
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    with pytest.raises(InputError, match=r"larger than 1,000 bytes\n.*ingest.source.max_bytes"):
        ingest(source=source(files, max_bytes=1000))
    assert _parts(tmp_path) == []


def test_a_slow_server_is_left_and_continued(ingest: Ingest, server: FileServer) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    with pytest.raises(EnvironmentFault, match=r"bytes in 0 s\n.*to go on"):
        ingest(source=source(files, download_s=1e-9))
    assert len(ingest(source=source(files)).rows) == 20_000
    assert server.requests[-1][1].startswith("bytes=")


def test_redirects(ingest: Ingest, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"train.csv": {**server.put("/train.csv", TRAIN), "url": server.url("/old")}}
    server.redirects["/old"] = "/train.csv?token=secret"
    # The given address is a private one, too.
    assert len(ingest(source=source(files)).rows) == 20_000
    files["train.csv"]["sha256"] = "0" * 64
    for target, message in [
        ("file:///etc/passwd", "an address of 'file'"),
        ("/old", "more than 5 times"),
        ("javascript:alert(1)", "redirected to"),
        ("http://xn--a/", "redirected to none"),
        ("http://xn--0/", "redirected to none"),
        (f"http://{'a' * 64}.invalid/", "redirected to none"),
    ]:
        server.redirects["/old"] = target
        with pytest.raises(InputError, match=message):
            ingest(source=source(files))
    server.redirects["/old"] = server.url("/train.csv")
    # The address that is asked first passes for a public one.
    answers = [True, False]
    monkeypatch.setattr(downloads, "_is_private", lambda host: answers.pop(0))
    with pytest.raises(InputError, match=r"redirected to a private address: '127.0.0.1'"):
        ingest(source=source(files))


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("${URL_KEY}", "http://user:S3CRET/x@h.invalid/"),
        ("${URL_KEY}", "file:///S3CRET"),
        ("${URL_KEY}", "S3CRET"),
        ("http://${URL_KEY}/x", "h.invalid:S3CRET"),
        ("http://${URL_KEY}/x", "xn--a"),
        ("http://${URL_KEY}/x", "S3CRET" * 11),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_at_once(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, url: str, value: str
) -> None:
    monkeypatch.setattr(downloads, "_ATTEMPTS", 1)
    monkeypatch.setenv("URL_KEY", value)
    with pytest.raises(InputError, match="is no address of http or https") as error:
        ingest(source=source({"a.csv": {"url": url, "sha256": "0" * 64}}))
    assert "S3CRET" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:S3CRET@127.0.0.1:1080"),
        ("ALL_PROXY", "socks://127.0.0.1:1080"),
        ("ALL_PROXY", "http://127.0.0.1:S3CRET"),
        ("SSL_CERT_FILE", "/gone/S3CRET.pem"),
    ],
)
def test_a_proxy_or_certificate_that_cannot_be_used(
    ingest: Ingest, server: FileServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFault, match=f"{name}.*: http.* cannot be fetched with") as error:
        ingest(source=source({"train.csv": server.put("/train.csv", TRAIN)}))
    assert "S3CRET" not in str(error.value)


def test_a_range_of_too_many_digits_is_no_range(
    tmp_path: Path, ingest: Ingest, server: FileServer
) -> None:
    files = {"train.csv": server.put("/train.csv", TRAIN)}
    server.content_ranges = [f"bytes {'9' * 5000}-1/*"]
    folder = tmp_path / "data" / ".state" / "downloads" / files["train.csv"]["sha256"]
    folder.mkdir(parents=True)
    (folder / "train.csv.part").write_bytes(TRAIN[:14])
    assert len(ingest(source=source(files)).rows) == 20_000
    assert [asked for _, asked in server.requests] == ["bytes=14-", ""]


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("169.254.169.254", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1", True),
        ("0.0.0.0", True),
        ("localhost", True),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
    ],
)
def test_private_addresses(host: str, private: bool) -> None:
    assert downloads._is_private(host) is private


def test_a_file_of_another_type_is_refused(ingest: Ingest, server: FileServer) -> None:
    files = {"train.xlsx": server.put("/a", b"%PDF-1.7 no workbook")}
    with pytest.raises(InputError, match=r"train.xlsx: is no"):
        ingest(source=source(files))
    files = {"train.pdf": server.put("/a", b"%PDF-1.7 no table")}
    with pytest.raises(InputError, match=r"unknown suffix '.pdf'"):
        ingest(source=source(files))


def test_a_secret_stays_in_the_environment(
    ingest: Ingest, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = server.put("/train.csv", TRAIN)
    files = {"train.csv": {**good, "url": good["url"] + "?token=${URL_KEY}"}}
    with pytest.raises(EnvironmentFault, match="export URL_KEY"):
        ingest(source=source(files))
    monkeypatch.setenv("URL_KEY", "sesame&1")
    assert len(ingest(source=source(files)).rows) == 20_000
    assert server.requests[-1][0] == "/train.csv?token=sesame%261"
    files["train.csv"] |= {"url": server.url("/gone?token=${URL_KEY}"), "sha256": "1" * 64}
    with pytest.raises(InputError) as error:
        ingest(source=source(files))
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "url", "sha256", "message"),
    [
        ("a.csv", "ftp://host/a.csv", "0" * 64, "must look like https://host/file.csv"),
        ("a.csv", "file:///etc/passwd", "0" * 64, "must look like https://host/file.csv"),
        ("a.csv", "https://me:word@host/a.csv", "0" * 64, "must hold no password"),
        ("a.csv", "https://host/a.csv?api_key=word", "0" * 64, "must hold no password"),
        ("a.csv", "https://host/a.csv", "0" * 63, "sha256"),
        ("../a.csv", "https://host/a.csv", "0" * 64, "must stay inside the source"),
        ("a\x00.csv", "https://host/a.csv", "0" * 64, "no control characters"),
        ("./a.csv", "https://host/a.csv", "0" * 64, "must be written plainly"),
        ("b//a.csv", "https://host/a.csv", "0" * 64, "must be written plainly"),
        (".", "https://host/a.csv", "0" * 64, "must be written plainly"),
        ("a" * 250, "https://host/a.csv", "0" * 64, "at most 200"),
    ],
)
def test_params_that_are_refused(name: str, url: str, sha256: str, message: str) -> None:
    section = {"source": source({name: {"url": url, "sha256": sha256}})}
    with pytest.raises(ParamsError, match=message) as error:
        validate(IngestParams, section, "params.yaml")
    assert "word" not in str(error.value).replace("password", "")
