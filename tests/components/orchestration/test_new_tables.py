"""`gristmill new` on tables: the task, the kind of each column, and what is refused."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from new_checkout import make_checkout, sentence
from typer.testing import CliRunner

from components.cli.main import app
from components.core.errors import GristmillError
from components.core.params import read_yaml
from components.orchestration.creation.create_pipeline import create
from components.orchestration.creation.pipeline_draft import NewOptions

REGRESSION = "tabular_regression"
CLASSIFICATION = "tabular_classification"
ROWS = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of the files that new reads."""
    return make_checkout(tmp_path)


def table(
    path: Path,
    columns: dict[str, Sequence[Any]],
    encoding: str = "utf-8",
    delimiter: str = ",",
) -> Path:
    """A file with these columns."""
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def homes(rows: int = ROWS) -> dict[str, Sequence[Any]]:
    """Columns of homes: an area, a city, and a price that neither gives away."""
    drawn = random.Random(1)
    area = [round(drawn.uniform(20, 200), 1) for _ in range(rows)]
    return {
        "area": area,
        "city": [drawn.choice(["Lyon", "Paris", "Nice"]) for _ in range(rows)],
        "price": [round(1_000 * x + drawn.uniform(0, 90_000)) for x in area],
    }


def made(root: Path, data: Path, target: str = "price", **options: Any) -> dict[str, Any]:
    """The section `ingest` of a new pipeline."""
    create(root, "p", None, data, target=target, options=NewOptions(**options))
    ingest: dict[str, Any] = read_yaml(root / "pipelines/p/params.yaml")["ingest"]
    return ingest


def test_a_number_to_predict_makes_a_regression(root: Path, tmp_path: Path) -> None:
    lines = create(root, "p", None, table(tmp_path / "a.csv", homes()), target="price")
    assert any(
        line.startswith(f"  task: {REGRESSION}: 'price' holds numbers, 60 different ones")
        for line in lines
    )
    text = (root / "pipelines/p/params.yaml").read_text()
    assert "    city: category  # 3 names" in text
    params = read_yaml(root / "pipelines/p/params.yaml")
    assert params["task"] == REGRESSION
    assert params["ingest"]["inputs"] == {"area": "number", "city": "category"}
    assert params["ingest"]["columns"] == {"target": "price"}


@pytest.mark.parametrize("option", ["--target", "--label"])
def test_the_command_needs_no_task(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (root / "components/cli").mkdir(parents=True)
    monkeypatch.chdir(root)
    data = table(tmp_path / "a.csv", homes())
    result = CliRunner().invoke(app, ["new", "p", "--data", str(data), option, "price"])
    assert result.exit_code == 0
    assert read_yaml(root / "pipelines/p/params.yaml")["task"] == REGRESSION


def test_few_names_make_a_classification(root: Path, tmp_path: Path) -> None:
    lines = create(root, "p", None, table(tmp_path / "a.csv", homes()), target="city")
    assert any(f"task: {CLASSIFICATION}: 'city' holds names" in line for line in lines)
    params = read_yaml(root / "pipelines/p/params.yaml")
    assert params["ingest"]["columns"] == {"label": "city"}
    assert params["ingest"]["inputs"] == {"area": "number", "price": "number"}


def test_the_task_may_be_named(root: Path, tmp_path: Path) -> None:
    rooms = [number % 4 + 1 for number in range(ROWS)]
    data = table(tmp_path / "a.csv", homes() | {"rooms": rooms})
    lines = create(root, "a", None, data, target="rooms")
    assert any(f"task: {CLASSIFICATION}" in line and REGRESSION in line for line in lines)
    lines = create(root, "b", REGRESSION, data, target="rooms")
    assert any("1, 2, 3, 4; if these are classes: --task" in line for line in lines)
    with pytest.raises(GristmillError, match=f"--task {REGRESSION}"):
        create(root, "c", CLASSIFICATION, data, target="price")


def test_texts_and_a_label_make_a_text_task(root: Path, tmp_path: Path) -> None:
    texts = [sentence(number) for number in range(ROWS)]
    labels = [("good", "bad")[number % 2] for number in range(ROWS)]
    data = table(tmp_path / "a.csv", {"id": range(ROWS), "review": texts, "label": labels})
    lines = create(root, "p", None, data)
    assert any("task: text_classification: 'review' holds texts" in line for line in lines)
    assert read_yaml(root / "pipelines/p/params.yaml")["ingest"]["columns"]["text"] == "review"


def test_without_a_name_that_says_so_no_target_is_guessed(root: Path, tmp_path: Path) -> None:
    columns = homes()
    nameless = {"amount" if name == "price" else name: columns[name] for name in columns}
    with pytest.raises(GristmillError, match="to be predicted cannot be told") as error:
        create(root, "p", None, table(tmp_path / "b.csv", nameless))
    assert "--target COLUMN" in error.value.remedy
    with pytest.raises(GristmillError, match=r"no column 'prize' \(did you mean 'price'\?\)"):
        create(root, "p", None, table(tmp_path / "a.csv", homes()), target="prize")


def test_the_only_column_named_as_people_predict_is_the_target(root: Path, tmp_path: Path) -> None:
    columns = homes()
    lines = create(root, "p", None, table(tmp_path / "a.csv", columns))
    assert any("'price' is taken for the column to predict" in line for line in lines)
    data = table(tmp_path / "b.csv", columns | {"sales": columns["area"]})
    with pytest.raises(GristmillError, match="could be 'price' or 'sales'"):
        create(root, "q", None, data)


def test_texts_with_a_price_stay_texts(root: Path, tmp_path: Path) -> None:
    columns = {
        "comment": [sentence(number) for number in range(ROWS)],
        "sentiment": ["good", "bad"] * (ROWS // 2),
        "price": homes()["price"],
    }
    lines = create(root, "p", None, table(tmp_path / "a.csv", columns))
    assert any("task: text_classification" in line for line in lines)


def test_a_doubtful_target_is_not_guessed(root: Path, tmp_path: Path) -> None:
    columns = homes()
    data = table(tmp_path / "a.csv", columns | {"y": columns["area"]})
    with pytest.raises(GristmillError, match="could be 'y' or 'price'") as error:
        create(root, "p", None, data)
    assert "--target COLUMN" in error.value.remedy
    data = table(tmp_path / "b.csv", {"a": columns["area"], "y": columns["price"]})
    lines = create(root, "p", None, data)
    assert any("'y' is taken for the column to predict" in line and "'a'" in line for line in lines)


def test_the_group_of_a_row_is_no_target(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", homes() | {"group": ["x", "y"] * (ROWS // 2)})
    with pytest.raises(GristmillError, match="is read as the group of a row"):
        create(root, "p", None, data, target="group")


def test_files_are_no_table(root: Path, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        for number in range(12):
            text = sentence(number + 100 * (name == "bad"))
            (tmp_path / "texts" / name / f"{number}.txt").write_text(text)
    lines = create(root, "p", None, tmp_path / "texts")
    assert any("task: text_classification: the files are texts" in line for line in lines)
    with pytest.raises(GristmillError, match="reads tables"):
        create(root, "q", REGRESSION, tmp_path / "texts")


def test_columns_of_no_use_and_leaks_are_left_out(root: Path, tmp_path: Path) -> None:
    columns = homes()
    price = columns["price"]
    columns |= {
        "row": range(ROWS),
        "country": ["France"] * ROWS,
        "nothing": [""] * ROWS,
        "name": [f"home {number}" for number in range(ROWS)],
        "note": [sentence(number) for number in range(ROWS)],
        "copy": [f"{number}.0" for number in price],
        "log": [number**0.5 for number in price],
        "label": [number % 3 for number in range(ROWS)],
    }
    ingest = made(root, table(tmp_path / "a.csv", columns))
    kinds = {"area": "number", "city": "category", "note": "text", "label_column": "number"}
    assert ingest["inputs"] == kinds
    assert ingest["columns"] == {"target": "price", "label_column": "label"}
    text = " ".join((root / "pipelines/p/params.yaml").read_text().replace("#", "").split())
    for reason in (
        "row (numbers the rows: 0 to 59)",
        "country (is 'France' in all 60 rows that were read)",
        "nothing (is empty)",
        "name (an id or a name: nearly all values differ)",
        "copy (a copy of the target)",
        "log (its order is that of the target)",
        "To bring one back, add a line such as NAME: number",
    ):
        assert reason in text


def test_a_column_that_determines_the_class_is_left_out(root: Path, tmp_path: Path) -> None:
    columns = homes()
    columns["code"] = [{"Lyon": 1, "Paris": 2, "Nice": 3}[city] for city in columns["city"]]
    ingest = made(root, table(tmp_path / "a.csv", columns), target="city")
    assert "code" not in ingest["inputs"]


def test_single_inputs_may_be_set(root: Path, tmp_path: Path) -> None:
    columns = homes() | {"row": range(ROWS), "a.b": [number % 7 for number in range(ROWS)]}
    settings = [
        "ingest.inputs.row=number",
        "ingest.inputs.area=null",
        "ingest.inputs.a.b=category",
    ]
    data = table(tmp_path / "a.csv", columns)
    ingest = made(root, data, settings=settings)
    assert ingest["inputs"] == {"city": "category", "row": "number", "a.b": "category"}
    with pytest.raises(GristmillError, match="no column 'rooms'"):
        create(
            root,
            "q",
            None,
            data,
            target="price",
            options=NewOptions(settings=["ingest.inputs.rooms=number"]),
        )
    create(
        root,
        "r",
        None,
        data,
        target="price",
        options=NewOptions(settings=["ingest.inputs={area: number}"]),
    )
    inputs = read_yaml(root / "pipelines/r/params.yaml")["ingest"]["inputs"]
    assert inputs == {"area": "number"}


def test_skipped_steps_may_be_forced(root: Path, tmp_path: Path) -> None:
    settings = ["compress.distill={}", "compress.prune={}", "compress.quantize={}", "tune.trials=8"]
    made(root, table(tmp_path / "a.csv", homes()), settings=settings)
    params = read_yaml(root / "pipelines/p/params.yaml")
    assert params["compress"]["distill"]["architecture"] == "mlp"
    assert params["compress"]["prune"]
    assert params["tune"]["trials"] == 8


def test_numbers_of_many_forms(root: Path, tmp_path: Path) -> None:
    columns = homes()
    drawn = random.Random(2)
    numbers = [drawn.uniform(1_000, 9_000) for _ in range(ROWS)]
    columns |= {
        "thousands": [f"{number:,.2f}" for number in numbers],
        "comma": [f"{number:.2f}".replace(".", ",") for number in numbers],
        "percent": [f"{drawn.uniform(1, 99):.1f}%" for _ in range(ROWS)],
        "currency": [f"€ {drawn.randrange(5, 99)}" for _ in range(ROWS)],
        "missing": [("n/a", "7", "12")[number % 3] for number in range(ROWS)],
        "zip": [f"0{number % 9 + 1000}" for number in range(ROWS)],
    }
    del columns["price"]
    columns["price"] = [f"{drawn.uniform(1_000, 90_000):.2f}".replace(".", ",") for _ in numbers]
    ingest = made(root, table(tmp_path / "a.csv", columns))
    assert ingest["decimal"] == ","
    assert ingest["inputs"] == {
        "area": "number",
        "city": "category",
        "thousands": "number",
        "comma": {"kind": "number", "decimal": ","},
        "percent": "number",
        "currency": "number",
        "missing": "number",
        "zip": "category",
    }


def test_dates_of_many_forms(root: Path, tmp_path: Path) -> None:
    days = [date(2024, 1, 1) + timedelta(days=37 * number % 900) for number in range(ROWS)]
    mixed = [
        day.strftime(("%Y-%m-%d", "%d/%m/%Y", "%b %d, %Y")[number % 3])
        for number, day in enumerate(days)
    ]
    columns = homes() | {
        "iso": [day.isoformat() for day in days],
        "us": [day.strftime("%m/%d/%Y") for day in days],
        "eu": [day.strftime("%d.%m.%Y") for day in days],
        "mixed": mixed,
        "compact": [day.strftime("%Y%m%d") for day in days],
        "excel_date": [(day - date(1899, 12, 30)).days for day in days],
        "count": [(day - date(1899, 12, 30)).days for day in days],
    }
    inputs = made(root, table(tmp_path / "a.csv", columns))["inputs"]
    assert inputs["iso"] == inputs["compact"] == inputs["excel_date"] == "time"
    assert inputs["us"] == {"kind": "time", "order": "mdy"}
    assert inputs["eu"] == inputs["mixed"] == {"kind": "time", "order": "dmy"}
    assert inputs["count"] == "number"


def test_dates_of_a_workbook(root: Path, tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    columns = homes()
    sheet.append([*columns, "sold"])
    for number, row in enumerate(zip(*columns.values(), strict=True)):
        sheet.append([*row, date(2024, 1, 1) + timedelta(days=number * 7)])
    book.save(tmp_path / "a.xlsx")
    inputs = made(root, tmp_path / "a.xlsx")["inputs"]
    assert inputs == {"area": "number", "city": "category", "sold": "time"}


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("gb18030", ","), ("utf-16", ","), ("utf-8-sig", ";")]
)
def test_encodings_and_delimiters(
    root: Path, tmp_path: Path, encoding: str, delimiter: str
) -> None:
    english = homes()
    columns = {"面积": english["area"], "城市": ["北京", "上海", "广州"] * 20}
    columns["价格"] = english["price"]
    data = table(tmp_path / "a.csv", columns, encoding, delimiter)
    ingest = made(root, data, target="价格")
    assert ingest["inputs"] == {"面积": "number", "城市": "category"}


def test_a_table_of_categories(root: Path, tmp_path: Path) -> None:
    drawn = random.Random(5)
    columns = {name: [drawn.choice("abcdef") for _ in range(ROWS)] for name in ("x", "z", "target")}
    ingest = made(root, table(tmp_path / "a.csv", columns), target="target")
    assert ingest["inputs"] == {"x": "category", "z": "category"}


def test_targets_that_nothing_can_be_learned_of(root: Path, tmp_path: Path) -> None:
    constant = table(tmp_path / "constant.csv", homes() | {"price": [7.5] * ROWS})
    with pytest.raises(GristmillError, match=r"7\.5 in all 60 rows with a number"):
        create(root, "p", REGRESSION, constant, target="price")
    few = table(tmp_path / "few.csv", homes(10))
    with pytest.raises(GristmillError, match="a number in 10 rows; 20 are needed"):
        create(root, "p", REGRESSION, few, target="price")
    names = table(tmp_path / "names.csv", homes())
    with pytest.raises(GristmillError, match="none of the 60 rows"):
        create(root, "p", REGRESSION, names, target="city")


def test_a_target_that_is_missing_in_some_rows(root: Path, tmp_path: Path) -> None:
    columns = homes()
    columns["price"] = [
        price if number % 3 else "" for number, price in enumerate(columns["price"])
    ]
    lines = create(root, "p", None, table(tmp_path / "a.csv", columns), target="price")
    assert "  rows without a number: 20" in lines
    params = read_yaml(root / "pipelines/p/params.yaml")
    assert params["clean"]["min_rows"] == 20


def test_thousands_of_columns(root: Path, tmp_path: Path) -> None:
    drawn = random.Random(3)
    columns = homes()
    for number in range(2_000):
        columns[f"c{number}"] = [drawn.randrange(1_000) for _ in range(ROWS)]
    lines = create(root, "p", None, table(tmp_path / "a.csv", columns), target="price")
    assert len(lines) < 80
    assert len(read_yaml(root / "pipelines/p/params.yaml")["ingest"]["inputs"]) == 2_002


def test_a_name_that_two_columns_have(root: Path, tmp_path: Path) -> None:
    columns = homes()
    data = tmp_path / "a.csv"
    rows = zip(columns["area"], columns["area"], columns["city"], columns["price"], strict=True)
    with data.open("w", newline="") as stream:
        csv.writer(stream).writerows([["area", "area", "city", "price"], *rows])
    with pytest.raises(GristmillError, match="2 columns named 'area'"):
        create(root, "p", None, data, target="price")


def test_a_table_may_be_split_by_time(root: Path, tmp_path: Path) -> None:
    first = date(2024, 1, 1)
    columns = homes(90)
    columns["sold"] = [(first + timedelta(days=day)).strftime("%d.%m.%Y") for day in range(90)]
    data = table(tmp_path / "a.csv", columns)
    settings = ["clean.split_by=time", "ingest.columns.time=sold", "ingest.time_order=dmy"]
    create(root, "p", None, data, target="price", options=NewOptions(settings=settings))
    one_day = {**columns, "sold": ["01.01.2024"] * 90}
    data = table(tmp_path / "b.csv", one_day)
    with pytest.raises(GristmillError, match="1 different times in 90 rows"):
        create(root, "q", None, data, target="price", options=NewOptions(settings=settings))


def test_numbers_with_a_unit(root: Path, tmp_path: Path) -> None:
    columns = homes(90)
    drawn = random.Random(4)
    weights = [f"{drawn.randrange(10, 400)} kg" for _ in columns["price"]]
    data = table(tmp_path / "a.csv", {**columns, "weight": weights})
    lines = create(root, "p", None, data, target="price")
    params = read_yaml(root / "pipelines/p/params.yaml")
    assert params["ingest"]["inputs"]["weight"] == {"kind": "number", "unit": "kg"}
    assert not any("refused" in line for line in lines)
    weights[3] = "80 lb"
    data = table(tmp_path / "b.csv", {**columns, "weight": weights})
    options = NewOptions(settings=["ingest.inputs.weight={kind: number, unit: kg}"])
    lines = create(root, "q", None, data, target="price", options=options)
    assert "  refused by ingest: 1 weight_other_unit" in lines
    assert any("'80 lb' is not in kg" in line for line in lines)


def dated(times: int) -> dict[str, Sequence[Any]]:
    """Columns of homes that were sold in turn, at so many different times."""
    columns = homes(90)
    first = date(2024, 1, 1)
    days = [first + timedelta(days=day % times) for day in range(90)]
    return {**columns, "sold": [day.strftime("%d.%m.%Y") for day in days]}


def test_times_of_rows_propose_a_split_by_time(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", dated(90))
    lines = create(root, "p", None, data, target="price")
    assert any("clean.split_by" in line and "sold tells the time" in line for line in lines)
    text = (root / "pipelines/p/params.yaml").read_text()
    assert "# sold tells the time of each row: the latest are test (hash: they are drawn)" in text
    params = read_yaml(root / "pipelines/p/params.yaml")
    assert params["clean"]["split_by"] == "time"
    assert params["ingest"]["columns"] == {"target": "price", "time": "sold"}
    assert params["ingest"]["time_order"] == "dmy"


@pytest.mark.parametrize("setting", ["clean.split_by=hash", "clean.fold={count: 5, number: 1}"])
def test_a_person_who_chooses_a_split_gets_that(root: Path, tmp_path: Path, setting: str) -> None:
    data = table(tmp_path / "a.csv", dated(90))
    assert made(root, data, settings=[setting])["columns"] == {"target": "price"}
    assert read_yaml(root / "pipelines/p/params.yaml")["clean"]["split_by"] == "hash"


def test_a_split_by_time_that_clean_would_refuse_is_not_proposed(
    root: Path, tmp_path: Path
) -> None:
    columns = dated(90)
    columns["city"] = ["Lyon", "Nice"] * 40 + ["Paris"] * 10
    data = table(tmp_path / "a.csv", columns)
    create(root, "p", None, data, target="city")
    clean = read_yaml(root / "pipelines/p/params.yaml")["clean"]
    assert clean["split_by"] == "hash"


def test_inputs_from_which_the_target_nearly_follows_are_named(root: Path, tmp_path: Path) -> None:
    columns = homes(90)
    drawn = random.Random(2)
    tax = [drawn.randrange(900, 90_000) for _ in columns["price"]]
    net = [price - part for price, part in zip(columns["price"], tax, strict=True)]
    data = table(tmp_path / "a.csv", {**columns, "net": net, "tax": tax})
    lines = create(root, "p", None, data, target="price")
    note = (
        "note: 'price' nearly follows from 'net' and 'tax' (their sum, in 100% of the rows). "
        "If that is known only afterwards, leave it out: --set ingest.inputs.net=null"
    )
    assert note in lines
    options = NewOptions(settings=["ingest.inputs.net=null"])
    assert not any(
        "nearly follows" in line
        for line in create(root, "q", None, data, target="price", options=options)
    )


def test_repeated_rows_of_few_inputs_are_cases_of_their_own(root: Path, tmp_path: Path) -> None:
    columns = homes(90)
    columns["price"] = [price + 1000 * (number % 3) for number, price in enumerate([100, 200] * 45)]
    columns["area"] = [10 + number % 2 for number in range(90)]
    columns["city"] = ["Lyon", "Nice", "Paris"] * 30
    lines = create(root, "p", None, table(tmp_path / "a.csv", columns), target="price")
    assert any("all stay, each a case of its own" in line for line in lines)
    lines = create(root, "q", None, table(tmp_path / "b.csv", homes()), target="price")
    assert not any("case of its own" in line for line in lines)


def test_no_param_or_remedy_speaks_of_near_duplicates(root: Path, tmp_path: Path) -> None:
    columns = homes()
    lines = create(root, "p", None, table(tmp_path / "a.csv", columns), target="price")
    text = (root / "pipelines/p/params.yaml").read_text(encoding="utf-8")
    assert "near_duplicates" not in text
    assert not any("near_dup" in line or "near-dup" in line for line in lines)
    columns["group"] = [number % 2 for number in range(ROWS)]
    data = table(tmp_path / "b.csv", columns)
    with pytest.raises(GristmillError, match="only 2 independent group") as caught:
        create(root, "q", None, data, target="price")
    assert "near_duplicates" not in caught.value.remedy
