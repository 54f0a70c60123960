"""Cards and files that were altered are refused in a sentence, before anything is parsed."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.bundles import CARD, Card, add_to_profile, read_bundle, write_bundle
from components.core.errors import BundleError
from components.core.files import sha256

FILES = {"arrays.safetensors": b"\0" * 64, "encoder/tfidf.json": b'{"a": 1}'}
MODEL = Card(
    "some_task", "numpy", "classical", {}, {"classes": ["差评", "好评"]}, 7, "d", "p", ["train"]
)
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    write_bundle(folder, MODEL, FILES)
    return folder


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "bundle")


def raw(content: bytes) -> Change:
    return lambda folder: (folder / CARD).write_bytes(content)


def fields(**changes: Any) -> Change:
    """Change fields of the card; the value `...` removes one."""

    def change(folder: Path) -> None:
        facts = json.loads((folder / CARD).read_text()) | changes
        facts = {key: value for key, value in facts.items() if value is not ...}
        (folder / CARD).write_text(json.dumps(facts))

    return change


def text(old: str, new: str) -> Change:
    """Change the card as text."""

    def change(folder: Path) -> None:
        content = (folder / CARD).read_text()
        assert old in content
        (folder / CARD).write_text(content.replace(old, new, 1))

    return change


def in_place(name: str, make: Callable[[Path], object]) -> Change:
    """Put something else where a file was."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def sparse(size: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return make


def listening(path: Path) -> None:
    # The path of a socket may have 107 characters at most.
    home = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(home)


def outside(path: Path) -> None:
    """A link to an equal file beside the bundle."""
    target = path.parents[1] / "outside"
    target.write_bytes(FILES["arrays.safetensors"])
    path.symlink_to(target)


def folder_outside(folder: Path) -> None:
    (folder / "encoder").rename(folder.parent / "elsewhere")
    (folder / "encoder").symlink_to(folder.parent / "elsewhere")


def without_sizes(then: Change) -> Change:
    def change(folder: Path) -> None:
        fields(sizes=...)(folder)
        then(folder)

    return change


def deep(depth: int, opening: str, closing: str) -> Change:
    return text('"config": {}', f'"config": {{"a": {opening * depth}1{closing * depth}}}')


ARRAY = "arrays.safetensors"
HASHES = dict.fromkeys(FILES, "0" * 64)
SIZES = {name: len(content) for name, content in FILES.items()}
CONTENTS: dict[str, Change] = {
    "empty": raw(b""),
    "no UTF-8": raw(b"\xff\xfe{}"),
    "a byte order mark": lambda folder: (folder / CARD).write_bytes(
        b"\xef\xbb\xbf" + (folder / CARD).read_bytes()
    ),
    "a list": raw(b"[]"),
    "null": raw(b"null"),
    "a string": raw(b'"bundle"'),
    "a number": raw(b"1"),
    "nothing in it": raw(b"{}"),
    "only a format": raw(b'{"format": 1}'),
    "cut off": lambda folder: os.truncate(folder / CARD, 100),
    "something behind it": lambda folder: (folder / CARD).write_bytes(
        (folder / CARD).read_bytes() + b"{}"
    ),
    "a comment": text("{", "{ // mine\n"),
    "a pickle": raw(b"cos\nsystem\n(S'touch /tmp/x'\ntR."),
    "a zip": raw(b"PK\x03\x04" + bytes(100)),
    "a gzip": raw(b"\x1f\x8b\x08" + bytes(100)),
    "the task twice": text('"task"', '"task": "other", "task"'),
    "the task twice, once escaped": text('"task"', '"t\\u0061sk": "other", "task"'),
    "files twice": text('"files"', '"files": {}, "files"'),
    "a file twice": text(f'"{ARRAY}"', f'"{ARRAY}": "{"0" * 64}", "{ARRAY}"'),
    "seed NaN": text('"seed": 7', '"seed": NaN'),
    "seed infinite": text('"seed": 7', '"seed": Infinity'),
    "config -Infinity": text('"config": {}', '"config": {"a": -Infinity}'),
    "config 1e999": text('"config": {}', '"config": {"a": 1e999}'),
    "seed of 5,000 digits": text('"seed": 7', f'"seed": {"9" * 5000}'),
    "lists 20 deep": deep(20, "[", "]"),
    "mappings 20 deep": deep(20, '{"a":', "}"),
    "lists 100,000 deep": deep(100_000, "[", "]"),
    "mappings 100,000 deep": deep(100_000, '{"a":', "}"),
    "half a pair in a class": text('"差评"', '"\\ud800"'),
    "half a pair in the config": text('"config": {}', '"config": {"\\ud800": 1}'),
    "half a pair in the profile": text('"profile": {}', '"profile": {"a": "\\udfff"}'),
    "a missing card": lambda folder: (folder / CARD).unlink(),
    "a folder": in_place(CARD, lambda path: path.mkdir()),
    "a FIFO": in_place(CARD, os.mkfifo),
    "a socket": in_place(CARD, listening),
    "a dangling link": in_place(CARD, lambda path: path.symlink_to("nowhere")),
    "a circle of links": in_place(CARD, lambda path: path.symlink_to(CARD)),
    "a link to a device": in_place(CARD, lambda path: path.symlink_to("/dev/zero")),
    "nine megabytes": in_place(CARD, sparse(9 << 20)),
    "a sparse terabyte": in_place(CARD, sparse(1 << 40)),
}
FORMATS = {
    f"format {value!r}": fields(format=value)
    for value in (True, 1.0, "1", 2, 0, -1, None, [1], {"a": 1}, ...)
}
WRONG: dict[str, list[Any]] = {
    "task": [None, True, 3, ["x"], {}, "", "../../x", "a\nb", "x" * 65],
    "runtime": [None, True, 3, ["torch"], {}, "", "pickle", "TORCH", "keras"],
    "architecture": [None, True, 3, ["x"], {}, "", "../x", "a\0b", "x" * 65],
    "config": [None, True, 3, "x", [], [["a", 1]]],
    "classes": [None, True, 3, "差评", {}, [], [None], [""], ["a", "a"], ["x" * 10_001]],
    "seed": [None, True, "7", 7.0, [7], {}, 2**63, -(2**63) - 1],
    "data_hash": [None, True, 3, ["d"], {}, "d" * 65, "D", "../x"],
    "params_hash": [None, True, 3, ["p"], {}, "p" * 65, "P", "a b"],
    "origin": [None, True, 3, "train", {}, [], [1], [""], ["a"] * 65, ["a\x1b[31m"]],
    "profile": [None, True, 3, "x", [], [["a", 1]]],
    "versions": [None, True, 3, "x", [], {"torch": 2}, {"torch": "x" * 65}, {"": "1"}],
    "files": [None, True, 3, "x", [], {}, [[1, "x"]], {ARRAY: None}, {ARRAY: "0" * 63}],
    "sizes": [True, 3, "x", [], {}, {ARRAY: 64}, SIZES | {"b": 1}],
}
WRONG["sizes"] += [SIZES | {ARRAY: size} for size in (-1, "64", 64.0, True, 1 << 40)]
TYPES = {
    f"{name} {str(value)[:40]!r} ({number})": fields(**{name: value})
    for name, values in WRONG.items()
    for number, value in enumerate(values)
}
OPTIONAL = {"profile", "versions", "sizes"}
# In one order: parallel workers must collect equal tests.
MISSING = {f"no {name}": fields(**{name: ...}) for name in sorted(WRONG.keys() - OPTIONAL)}
NAMES = {
    f"a file {name[:40]!r}": fields(files={name: "0" * 64}, sizes=...)
    for name in (
        "",
        ".",
        "..",
        "/etc/passwd",
        "../outside",
        "encoder/../../outside",
        "encoder\\..\\x",
        "a//b",
        "./a",
        "a/",
        ".hidden",
        "a\0b",
        "a\nb",
        "\ud800",
        "x" * 300,
        CARD,
    )
}
ODD_FILES: dict[str, Change] = {
    "an unknown key": fields(odd=1),
    "entries below targets": fields(targets={"classes": ["a", "b"]}),
    "entries below targets beside an unknown key": fields(targets={"classes": ["a"]}, odd=1),
    "a hash in capitals": fields(files=HASHES | {ARRAY: "A" * 64}),
    "65 files": fields(files={f"f{number}": "0" * 64 for number in range(65)}, sizes=...),
    "missing": lambda folder: (folder / ARRAY).unlink(),
    "one bit": lambda folder: (folder / ARRAY).write_bytes(b"\1" + bytes(63)),
    "one byte less": lambda folder: os.truncate(folder / ARRAY, 63),
    "one byte more": lambda folder: os.truncate(folder / ARRAY, 65),
    "emptied": lambda folder: os.truncate(folder / ARRAY, 0),
    "another size in the card": fields(sizes=SIZES | {ARRAY: 63}),
    "a folder for a file": in_place(ARRAY, lambda path: path.mkdir()),
    "a FIFO for a file": in_place(ARRAY, os.mkfifo),
    "a socket for a file": in_place(ARRAY, listening),
    "a dangling link for a file": in_place(ARRAY, lambda path: path.symlink_to("nowhere")),
    "a circle for a file": in_place(ARRAY, lambda path: path.symlink_to(ARRAY)),
    "an equal file outside": in_place(ARRAY, outside),
    "a link to zeros": in_place(ARRAY, lambda path: path.symlink_to("/dev/zero")),
    "a link to a system file": in_place(ARRAY, lambda path: path.symlink_to("/etc/passwd")),
    "a folder outside": folder_outside,
    "a file where a folder was": lambda folder: (
        shutil.rmtree(folder / "encoder"),
        (folder / "encoder").write_bytes(b"x"),
    ),
    "a sparse terabyte for a file": in_place(ARRAY, sparse(1 << 40)),
    "a sparse terabyte without sizes": without_sizes(in_place(ARRAY, sparse(1 << 40))),
    "sparse megabytes without sizes": without_sizes(in_place(ARRAY, sparse(1 << 28))),
    "one bit without sizes": without_sizes(
        lambda folder: (folder / ARRAY).write_bytes(b"\1" + bytes(63))
    ),
    "a FIFO without sizes": without_sizes(in_place(ARRAY, os.mkfifo)),
}
ALL = CONTENTS | FORMATS | TYPES | MISSING | NAMES | ODD_FILES


@pytest.mark.parametrize("name", ALL)
def test_an_altered_bundle_is_refused_in_a_sentence(bundle: Path, name: str) -> None:
    ALL[name](bundle)
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    error = caught.value
    assert error.exit_code == 2
    assert error.what and error.what.isprintable() and len(error.what) < 600
    assert error.where.startswith(str(bundle)) and error.remedy


def test_what_is_registered_is_compared_first(bundle: Path, tmp_path: Path) -> None:
    registered = sha256(bundle / CARD)
    assert read_bundle(bundle, registered) == read_bundle(bundle)
    changes = [
        fields(classes=["好评", "差评"]),
        fields(seed=8),
        fields(profile={"rows": 3}),
        fields(sizes=...),
        text("{", "{ "),
        raw(b"{"),
    ]
    for number, change in enumerate(changes):
        other = shutil.copytree(bundle, tmp_path / str(number))
        change(other)
        with pytest.raises(BundleError, match="not the card that was registered"):
            read_bundle(other, registered)
    with pytest.raises(BundleError, match="not the card that was registered"):
        read_bundle(bundle, "")


def test_dvc_may_link_to_its_cache(whole: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(whole, tmp_path / "data" / "models" / "bundle")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    shared = tmp_path / "shared"
    for cache, settings in ((".dvc/cache", ""), ("shared", f"[cache]\n    dir = {shared}\n")):
        (tmp_path / ".dvc" / "config.local").write_text(settings)
        target = tmp_path / cache / "files" / "md5" / "ab"
        target.mkdir(parents=True)
        for name in FILES:
            (target / Path(name).name).write_bytes(FILES[name])
            (bundle / name).unlink()
            (bundle / name).symlink_to(target / Path(name).name)
        assert read_bundle(bundle)[1] == FILES
    (tmp_path / ".dvc" / "config.local").write_text("no configuration")
    with pytest.raises(BundleError, match="out of the bundle"):
        read_bundle(bundle)


def test_bundles_from_before_sizes_open(bundle: Path) -> None:
    fields(sizes=...)(bundle)
    card, files = read_bundle(bundle)
    assert files == FILES and card.targets == MODEL.targets


def test_a_bundle_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    card = Card("t", "numpy", "classical", {}, {"classes": ["a", "a"]}, 7, "d", "p", ["train"])
    with pytest.raises(BundleError, match="twice"):
        write_bundle(tmp_path / "bundle", card, FILES)
    assert not (tmp_path / "bundle").exists()


def test_a_card_that_would_be_too_large_is_not_written(bundle: Path) -> None:
    before = (bundle / CARD).read_bytes()
    with pytest.raises(BundleError, match="more than the"):
        add_to_profile(bundle, {"known": "x" * (9 << 20)})
    with pytest.raises(BundleError, match="nested"):
        add_to_profile(bundle, {"a": json.loads("[" * 20 + "]" * 20)})
    assert (bundle / CARD).read_bytes() == before


def test_the_profile_grows_also_in_bundles_from_before_sizes(bundle: Path) -> None:
    fields(sizes=...)(bundle)
    add_to_profile(bundle, {"a": None, "b": [1.5]})
    assert read_bundle(bundle)[0].profile == {"a": None, "b": [1.5]}


def test_there_are_many() -> None:
    assert len(ALL) >= 150
