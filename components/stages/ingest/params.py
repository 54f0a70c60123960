"""The `ingest` section of params.yaml: where raw data comes from."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from components.core.params import Strict

FORMATS = ("csv", "tsv", "jsonl", "json", "xlsx", "parquet", "text", "fasttext", "folders")
_NAME = re.compile(r"\$\{\w+\}")


def _words(value: Any) -> Any:
    """YAML reads a label such as 1 as a number; labels are words here."""
    if not isinstance(value, Mapping):
        return value
    return {_word(key): _word(each) for key, each in value.items()}


def _word(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _label_words(value: Any) -> Any:
    """Return a map of labels with YAML's numbers and booleans as words; null stays null."""
    if not isinstance(value, Mapping):
        return value
    return {_label_word(key): _label_word(new) for key, new in value.items()}


def _label_word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("two columns cannot have one name")
    return names


def _codec(name: str) -> str:
    if name == "auto":
        return name
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(
            "is no encoding that Python knows; use auto, utf-8, gb18030, big5, cp1252, utf-16, …"
        ) from None
    return codecs.lookup(name).name


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError("must stay inside the source: no leading /, no .., no backslash")
    return path


def secrets_of(option: str, value: str) -> list[str]:
    """What nobody should read of an option of a URL; one of ODBC holds others, `a=b;c=d`."""
    pairs = [(option, value), *re.findall(r"(\w+)\s*=\s*([^;]*)", value)]
    return [
        each
        for name, each in pairs
        if each
        and re.search(r"pass(?!file)|pwd|secret|token|credential|api_?key", name, re.IGNORECASE)
    ]


def _no_secret(url: str) -> str:
    # Errors of another kind than ValueError: the text that they refuse is not shown.
    if "://" not in url and not _NAME.fullmatch(url):
        raise PydanticCustomError(
            "secret",
            "must look like dialect+driver://user:${PASSWORD}@host/database, or be all of it in the environment: ${NAME}",
        )
    login = re.search(r"://[^:/]*:([^/?]*|[^@]*)@", url)  # SQLAlchemy takes all up to an @ for it
    given = [login[1]] if login and login[1] else []
    given += [
        each for name, value in parse_qsl(url.partition("?")[2]) for each in secrets_of(name, value)
    ]
    if any(not _NAME.fullmatch(each) for each in given):
        raise PydanticCustomError(
            "secret",
            "must hold no password: write ${NAME} in its place and put it into the environment",
        )
    return url


def _distinct(files: dict[str, str]) -> dict[str, str]:
    if len(set(files.values())) < len(files):
        raise ValueError("each class needs a file of its own")
    return files


Path = Annotated[str, Field(min_length=1)]
Inside = Annotated[str, Field(min_length=1), AfterValidator(_inside)]
Words = BeforeValidator(_words)


class Files(Strict):
    """Files of your own.

    `path` is one file or one folder, relative to the repository's root or absolute.
    """

    kind: Literal["files"]
    path: Path
    glob: Inside = "**/*"  # which files of a folder
    format: Literal[
        "auto", "csv", "tsv", "jsonl", "json", "xlsx", "parquet", "text", "fasttext", "folders"
    ] = "auto"
    encoding: Annotated[str, AfterValidator(_codec)] = "auto"
    # Of a table: whether its first line names the columns.
    header: Literal["auto", True, False] = "auto"
    # Of a table without a header, from left to right; empty: column_1, column_2, …
    column_names: Annotated[list[Annotated[str, Field(min_length=1)]], AfterValidator(_unique)] = (
        Field(default_factory=list)
    )
    # Of a workbook: the sheet to read; null: the only one with rows, or with the columns.
    sheet: Annotated[str, Field(min_length=1), BeforeValidator(_word)] | None = None
    # Of a table with a column of 0 and 1 for each class: these columns; label: one_hot names the one with a 1.
    one_hot: Annotated[list[Annotated[str, Field(min_length=1)]], AfterValidator(_unique)] = Field(
        default_factory=list
    )
    # text: file name or stem -> label; folders: folder -> label; else the name itself.
    # tables: file name or stem -> file_label, a column that is added to its rows.
    classes: Annotated[dict[str, str], Words] = Field(default_factory=dict)


class Package(Strict):
    """Text files inside an installed Python package, one per class, one row a line. The package is never imported."""

    kind: Literal["package"]
    path: Path  # the file that pins the package's version
    package: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    files: Annotated[
        dict[str, Inside], Field(min_length=2), AfterValidator(_distinct), Words
    ]  # label -> file
    encoding: Annotated[str, AfterValidator(_codec)] = "auto"


class Sklearn(Strict):
    """A data set that scikit-learn ships."""

    kind: Literal["sklearn"]
    path: Path  # the file that pins scikit-learn's version
    dataset: Literal["digits"]


class Sql(Strict):
    """A table that grows. `gristmill pull` appends its new rows to a folder, as Parquet shards; ingest reads the folder and never asks the database."""

    kind: Literal["sql"]
    path: Path  # the folder of shards
    url: Annotated[
        str, AfterValidator(_no_secret)
    ]  # as SQLAlchemy writes it; ${NAME} stands for what the environment holds
    table: str | None = None  # or schema.table
    query: str | None = None  # a SELECT instead
    cursor: Annotated[
        str, Field(min_length=1)
    ]  # the column, a time or an id, by which new rows are known

    @model_validator(mode="after")
    def _one_of_both(self) -> Sql:
        if (self.table is None) == (self.query is None):
            raise ValueError("takes one of table and query")
        return self


class IngestParams(Strict):
    """What is read, and how its columns are named."""

    source: Annotated[Files | Package | Sklearn | Sql, Field(discriminator="kind")]
    columns: Annotated[dict[str, str], Words] = Field(
        default_factory=dict
    )  # role (text, label, image, id, group, split) -> column of a table; else the role's own name
    # A label of the source -> the label that it becomes; null: the row has none.
    labels: Annotated[dict[str, str | None], BeforeValidator(_label_words)] = Field(
        default_factory=dict
    )
    # fold: labels that differ only in capital letters are one.
    label_case: Literal["keep", "fold"] = "keep"
    feedback: Path | None = (
        None  # a folder of JSON lines with the source's names for input and target; a retrain reads its accepted-*.jsonl behind the source
    )
    seen: str | None = (
        None  # what a retrain found there, without which none of it is read: DVC looks at the source only, and at these params
    )
    # A longer value goes to quarantine. null: 200,000 bytes of a text, 100 MB of a picture.
    max_bytes_per_value: Annotated[int, Field(ge=1)] | None = None
