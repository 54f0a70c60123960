"""The `ingest` section of params.yaml: where raw data comes from."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from components.core.params import Strict
from components.fields.moment import DateOrder

Format = Literal[
    "auto",
    "csv",
    "tsv",
    "jsonl",
    "json",
    "xlsx",
    "parquet",
    "arrow",
    "text",
    "fasttext",
    "folders",
]
FORMATS: tuple[str, ...] = tuple(name for name in get_args(Format) if name != "auto")
# A name of an environment variable, which stands for its value.
_VARIABLE = re.compile(r"\$\{\w+\}")
_WEB_URL = re.compile(r"https?://[^\s/?#]+\S*")
_SECRET_OPTION = re.compile(
    r"pass(?!file)|pwd|secret|token|credential|api_?key",
    re.IGNORECASE,
)


def _texts(value: Any) -> Any:
    """Return a mapping with YAML's integers as text: a name such as 1 is text here."""
    if not isinstance(value, Mapping):
        return value
    return {_text(key): _text(item) for key, item in value.items()}


def _text(value: Any) -> Any:
    """Return an integer as text, anything else unchanged."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _check_unique(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("two columns cannot have one name")
    return names


def _codec(name: str) -> str:
    """Return Python's name of an encoding; `auto` stays."""
    if name == "auto":
        return name
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(
            "is no encoding that Python knows; use auto, utf-8, gb18030, big5, cp1252, utf-16, …"
        ) from None
    return codecs.lookup(name).name


def _check_inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError("must stay inside the source: no leading /, no .., no backslash")
    if not path.isprintable():
        raise ValueError("must have no control characters")
    return path


def _check_plain(path: str) -> str:
    if path in ("", ".") or str(PurePosixPath(path)) != path:
        raise ValueError("must be written plainly: no ./, no // and no / at its end")
    return path


# Arrow counts characters in 32 bits.
_MOST_CHARACTERS = 2**31 - 1


def whole_text(pattern: str) -> str:
    """Return the regular expression of texts that match a pattern from end to end.

    Args:
        pattern: of RE2. A dot of it matches line breaks, too.
    """
    return f"^(?s:{pattern})$"


def _check_pattern(pattern: str) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), whole_text(pattern))
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no regular expression of RE2: {error}") from None
    return pattern


def _check_part_name(name: str) -> str:
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError("must have letters, digits, - and _ alone: origins of rows begin with it")
    return name


def secrets_of(option: str, value: str) -> list[str]:
    """Return the secret values in an option of a database URL.

    Args:
        option: its name.
        value: its value. An option of ODBC holds other options: `a=b;c=d`.
    """
    pairs = [(option, value), *re.findall(r"(\w+)\s*=\s*([^;]*)", value)]
    return [text for name, text in pairs if text and _SECRET_OPTION.search(name)]


def _check_no_secret(url: str) -> str:
    # Not a ValueError: its message would show the text that is refused.
    if "://" not in url and not _VARIABLE.fullmatch(url):
        raise PydanticCustomError(
            "secret",
            "must look like dialect+driver://user:${PASSWORD}@host/database, "
            "or be all of it in the environment: ${NAME}",
        )
    if any(not _VARIABLE.fullmatch(secret) for secret in _secrets_of_url(url)):
        raise PydanticCustomError(
            "secret",
            "must hold no password: write ${NAME} in its place and put it into the environment",
        )
    return url


def _check_web_url(url: str) -> str:
    if not _WEB_URL.fullmatch(url) and not _VARIABLE.fullmatch(url):
        raise ValueError("must look like https://host/file.csv, or be ${NAME}")
    return _check_no_secret(url)


def _secrets_of_url(url: str) -> list[str]:
    """Return the password and the secret options of a database URL."""
    secrets: list[str] = []
    # SQLAlchemy takes all text up to an @ for the password.
    login = re.search(r"://[^:/]*:([^/?]*|[^@]*)@", url)
    if login and login[1]:
        secrets.append(login[1])
    for option, value in parse_qsl(url.partition("?")[2]):
        secrets += secrets_of(option, value)
    return secrets


def _check_distinct(files: dict[str, str]) -> dict[str, str]:
    if len(set(files.values())) < len(files):
        raise ValueError("each class needs a file of its own")
    return files


# Columns that are added to a table: the name of the column that is 1 in a row, and the value of
# the target in `ingest.source.classes` for the file of the row.
ONE_HOT = "one_hot"
FILE_TARGET = "file_label"
# Key of params.yaml with the value of the target of files and folders.
FILE_TARGETS_KEY = "ingest.source.classes"
Path = Annotated[str, Field(min_length=1)]
Inside = Annotated[str, Field(min_length=1), AfterValidator(_check_inside)]
# Two names of one file would be one file.
PlainName = Annotated[Inside, Field(max_length=200), AfterValidator(_check_plain)]
Texts = BeforeValidator(_texts)
ColumnNames = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    AfterValidator(_check_unique),
]
# Declared once for all kinds of sources that are text.
Encoding = Annotated[
    str,
    AfterValidator(_codec),
    Field(description="Encoding of the text, such as utf-8 or gb18030 (auto: detected)."),
]


class Source(Strict):
    """Where raw data comes from."""

    kind: str
    path: Path

    @property
    def place(self) -> str:
        """Return the place of the data, for messages."""
        return self.path


class FileParams(Source):
    """How files are read, wherever they come from."""

    format: Format = Field(
        "auto", description="Format of the files (auto: from their names and content)."
    )
    encoding: Encoding = "auto"
    header: Literal["auto", True, False] = Field(
        "auto", description="Whether the first line of a table names its columns."
    )
    column_names: ColumnNames = Field(
        default_factory=list,
        description="Columns of a table without a header, in order ([]: column_1, column_2, …).",
    )
    sheet: Annotated[str, Field(min_length=1), BeforeValidator(_text)] | None = Field(
        None, description="Sheet of a workbook (null: the only one with rows or with the columns)."
    )
    one_hot: ColumnNames = Field(
        default_factory=list,
        description="Columns of 0 and 1, one per class, which `label: one_hot` then reads.",
    )
    classes: Annotated[dict[str, str], Texts] = Field(
        default_factory=dict,
        description="Label by file name, stem or folder; of a table, the value of file_label.",
    )

    @property
    def file_targets(self) -> dict[str, str]:
        """Return the value of the target by file name, stem or folder."""
        return self.classes


class Files(FileParams):
    """Files of your own: tables, JSON, workbooks, text or folders of images."""

    kind: Literal["files"] = Field(
        description="Your own tables, JSON, workbooks, text or image folders."
    )
    path: Path = Field(
        description="File or folder that DVC watches, absolute or relative to the root."
    )
    glob: Inside = Field("**/*", description="Files of the folder that are read.")


class RemoteFile(Strict):
    """A file on a web server."""

    url: Annotated[str, AfterValidator(_check_web_url)] = Field(
        description="URL of http or https; ${NAME} stands for an environment variable."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the file; another content is refused."
    )


class Url(FileParams):
    """Files on web servers, fetched once and known by their SHA-256."""

    kind: Literal["url"] = Field(description="Files on web servers, known by their SHA-256.")
    path: Path = Field(
        description="File that DVC watches, such as the license; the hashes pin the content."
    )
    files: Annotated[dict[PlainName, RemoteFile], Field(min_length=1, max_length=1000)] = Field(
        description="Files by the name under which they are read, such as train.csv."
    )
    max_bytes: int = Field(
        10_000_000_000, ge=1, description="Largest file that is fetched, in bytes."
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="Most seconds without an answer or a byte of the server."
    )
    download_s: float = Field(
        3600.0, gt=0, description="Most seconds to fetch one file; the next run goes on from there."
    )

    @property
    def place(self) -> str:
        """Return the place of the data, for messages."""
        return "ingest.source.files"


class Package(Source):
    """Files inside an installed Python package: a table, or a text file or folder per class.

    Each line of a text file is a row, and each file of a folder. The package is never imported.
    """

    kind: Literal["package"] = Field(
        description="A table inside an installed Python package, or a text file per class."
    )
    path: Path = Field(description="File that DVC watches: the one that pins the package.")
    package: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the package, which is never imported."
    )
    files: Annotated[dict[str, Inside], AfterValidator(_check_distinct), Texts] = Field(
        default_factory=dict,
        description="File in the package by label; each line is a row ({}: table is read).",
    )
    # Params without it have the hash that they had before.
    first_line: bool = Field(
        False,
        exclude_if=lambda chosen: not chosen,
        description="In files, names are of folders, and the first line of each file is a row.",
    )
    other_lines: bool = Field(
        False,
        exclude_if=lambda chosen: not chosen,
        description="With first_line: the other lines are rows without a target, "
        "in the file's group.",
    )
    table: Inside | None = Field(
        None, description="Table in the package, such as data/prices.csv (null: files are read)."
    )
    encoding: Encoding = "auto"

    @model_validator(mode="after")
    def _check_files_or_table(self) -> Package:
        if bool(self.files) == bool(self.table):
            raise ValueError("takes one of files and table")
        if len(self.files) == 1:
            raise ValueError("files needs two classes or more")
        if self.other_lines and not self.first_line:
            raise ValueError("other_lines needs first_line: true")
        return self


class Sklearn(Source):
    """A data set that scikit-learn ships."""

    kind: Literal["sklearn"] = Field(description="A data set that scikit-learn ships.")
    path: Path = Field(description="File that DVC watches: the one that pins scikit-learn.")
    dataset: Literal["digits"] = Field(description="Name of the data set.")


class Sql(Source):
    """A database table that grows.

    `gristmill pull` appends its new rows to a folder, as Parquet shards. Ingest reads the folder
    and never asks the database.
    """

    kind: Literal["sql"] = Field(
        description="A database table that grows; `gristmill pull` fetches its new rows."
    )
    path: Path = Field(description="Folder of Parquet shards that DVC watches and `pull` fills.")
    url: Annotated[str, AfterValidator(_check_no_secret)] = Field(
        description="Database URL of SQLAlchemy; ${NAME} stands for an environment variable."
    )
    table: str | None = Field(
        None, description="Table, or schema.table, that is read (null: query is used)."
    )
    query: str | None = Field(
        None, description="SELECT statement whose rows are read (null: table is used)."
    )
    cursor: Annotated[str, Field(min_length=1)] = Field(
        description="Column, a time or an id, by which new rows are known."
    )

    @model_validator(mode="after")
    def _check_table_or_query(self) -> Sql:
        if (self.table is None) == (self.query is None):
            raise ValueError("takes one of table and query")
        return self


class HuggingFace(Source):
    """A dataset of the Hugging Face hub, or a folder that `datasets` has written."""

    kind: Literal["huggingface"] = Field(
        description="A dataset of the Hugging Face hub, or a folder of the library `datasets`."
    )
    path: Path = Field(
        description="Folder of save_to_disk or of Parquet files; with dataset, any file to watch."
    )
    dataset: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")] | None = Field(
        None, description="Id of the dataset on the hub, such as owner/name (null: path is read)."
    )
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        None, description="Commit of the dataset, which pins its content."
    )
    config: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Configuration of the dataset (null: the only one)."
    )

    @model_validator(mode="after")
    def _check_pinned(self) -> HuggingFace:
        if (self.dataset is None) != (self.revision is None):
            raise ValueError("takes dataset and revision together")
        if self.config and self.dataset is None:
            raise ValueError("config needs dataset; for a folder, set path to that of a config")
        return self

    @property
    def place(self) -> str:
        """Return the place of the data, for messages."""
        return self.dataset or self.path


class Mlflow(Source):
    """The table that ingest wrote in an earlier run, as MLflow has it.

    `gristmill pull` copies it to a folder and verifies it. Ingest reads the folder.
    """

    kind: Literal["mlflow"] = Field(
        description="The table of an earlier run of ingest, which MLflow knows."
    )
    path: Path = Field(description="Folder that DVC watches and `pull` fills.")
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        None, description="Id of the run in MLflow (null: dataset is used)."
    )
    dataset: Annotated[str, Field(pattern=r"^[\w-]+$")] | None = Field(
        None, description="Name of the dataset, a pipeline's, whose newest run is taken."
    )

    @model_validator(mode="after")
    def _check_run_or_dataset(self) -> Mlflow:
        if (self.run is None) == (self.dataset is None):
            raise ValueError("takes one of run and dataset")
        return self


class MixedPart(Strict):
    """One source of a mix."""

    source: Annotated[Files | HuggingFace | Url, Field(discriminator="kind")] = Field(
        description="Where the rows of the part come from."
    )
    columns: Annotated[dict[str, str], Texts] | None = Field(
        None, description="Column of the part by role (null: ingest.columns)."
    )
    targets: Annotated[dict[str, str | None], Texts] = Field(
        default_factory=dict,
        description="Name in the mix of a value of the part's target, such as {5: good, 3: null}.",
    )
    rows: int | None = Field(
        None, ge=1, description="Number of rows that are drawn (null: by weight, or all)."
    )
    weight: float | None = Field(
        None,
        ge=1e-6,
        le=1e6,
        description="Share of the rows, relative to the other weights (null: all rows).",
    )

    @model_validator(mode="after")
    def _check_rows_or_weight(self) -> MixedPart:
        if self.rows and self.weight:
            raise ValueError("takes one of rows and weight")
        return self


class Mixed(Source):
    """Several sources as one."""

    kind: Literal["mixed"] = Field(description="Several sources as one.")
    path: Path = Field(description="Folder around the paths of the parts, which DVC watches.")
    seed: int = Field(0, ge=0, description="Seed of the draw of rows.")
    parts: Annotated[
        dict[Annotated[str, AfterValidator(_check_part_name)], MixedPart],
        Field(min_length=2, max_length=100),
    ] = Field(description="Sources by a name for messages and origins of rows.")

    @model_validator(mode="after")
    def _check_watched(self) -> Mixed:
        for name, part in self.parts.items():
            path = PurePosixPath(part.source.path)
            if ".." in path.parts or not path.is_relative_to(self.path):
                raise ValueError(
                    f"{part.source.path!r} of part {name!r} must lie in {self.path!r}, "
                    "or DVC sees no change of it"
                )
        return self


AnySource = Files | HuggingFace | Mixed | Mlflow | Package | Sklearn | Sql | Url


class ColumnRules(Strict):
    """What the values of one column of the raw table must be."""

    required: bool = Field(False, description="Whether each row must have a value.")
    type: Literal["integer", "number"] | None = Field(
        None, description="Kind of the values, also of texts (null: any)."
    )
    min: float | str | None = Field(None, description="Least number or time (null: no bound).")
    max: float | str | None = Field(None, description="Greatest number or time (null: no bound).")
    min_length: int | None = Field(
        None, ge=0, le=_MOST_CHARACTERS, description="Fewest characters of a text (null: no bound)."
    )
    max_length: int | None = Field(
        None, ge=0, le=_MOST_CHARACTERS, description="Most characters of a text (null: no bound)."
    )
    allowed: Annotated[list[str | float] | None, Field(min_length=1)] = Field(
        None, description="Values that are allowed, by their new names (null: all)."
    )
    pattern: Annotated[str, AfterValidator(_check_pattern)] | None = Field(
        None, description="Regular expression (RE2) that a whole text matches (null: any text)."
    )
    unique: bool = Field(False, description="Whether no two rows may have one value.")


class Contract(Strict):
    """What the rows of the source must be."""

    columns: Annotated[dict[str, ColumnRules], Field(min_length=1)] = Field(
        description="Rules by column of the raw table, a role such as text or id."
    )
    on_break: Literal["quarantine", "stop"] = Field(
        "quarantine", description="What is done with rows that break a rule (stop: the run ends)."
    )


class IngestParams(Strict):
    """What is read, and how its columns are named."""

    source: Annotated[AnySource, Field(discriminator="kind")] = Field(
        description="Where raw data comes from; its kind says which keys it has."
    )
    columns: Annotated[dict[str, str], Texts] = Field(
        default_factory=dict,
        description="Column of the source by role, such as {text: review, label: stars}.",
    )
    time_order: DateOrder = Field(
        "ymd",
        description="Order of day, month and year in the column `time` (ymd, dmy or mdy).",
    )
    # A file without them has the hash that it had before.
    contract: Contract | None = Field(
        None,
        exclude_if=lambda contract: contract is None,
        description="What the rows must be (null: what the task wants alone).",
    )
    sample: float = Field(
        1.0,
        gt=0,
        le=1,
        exclude_if=lambda share: share == 1,
        description="Share of the rows that is read, drawn by a hash of their position (1: all).",
    )
    feedback: Path | None = Field(
        None,
        description="Folder whose accepted-*.jsonl a retrain adds, such as data/feedback/NAME.",
    )
    seen: str | None = Field(
        None,
        description="State of the feedback, written by a retrain (null: none is read).",
    )
    max_bytes_per_value: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Larger values go to quarantine (null: 200,000 for texts, 100 MB for images).",
    )
