"""clean, run as a stage: balanced books, no leak, nothing lost without a reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_runner import IMAGE, StageRunner, pictures, png, sentences

from components.core.errors import InputError
from components.fields.image import decode
from components.fields.text import comparable
from components.stages.clean import unique_rows

Rows = list[dict[str, Any]]


def dirty() -> Rows:
    """200 good rows and every kind of bad one."""
    rows = sentences(200)
    repeated = [{"text": f"  {row['text'].upper()} .", "label": row["label"]} for row in rows[:20]]
    conflicting = [
        {"text": rows[i]["text"] + "。", "label": "好评" if rows[i]["label"] == "差评" else "差评"}
        for i in range(20, 25)
    ]
    near = [
        {"text": row["text"] + "x", "label": row["label"]} for row in rows if len(row["text"]) > 60
    ][:15]
    furniture = [{"text": "此用户没有填写评论内容", "label": "好评"}] * 10
    bad: Rows = [{"text": text, "label": "好评"} for text in ("", "!!!", "好", "<br>", None)] + [
        {"text": "没有标签的一行 here", "label": None},
        {"text": "another without one", "label": " "},
    ]
    return rows + repeated + conflicting + near + furniture + bad


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> StageRunner:
    """The dirty rows after clean."""
    return StageRunner.make(tmp_path_factory.mktemp("dirty"), dirty()).clean()


def test_the_books_balance_and_say_why(cleaned: StageRunner) -> None:
    books, reasons = cleaned.manifest()["books"], cleaned.manifest()["reasons"]
    assert reasons == {
        "boilerplate": 10,
        "conflicting_labels": 10,
        "empty": 3,
        "no_label": 2,
        "not_text": 1,
        "too_short": 1,
    }
    assert books == {
        "rows_in": len(dirty()),
        "rows_out": len(cleaned.rows("clean")),
        "deduplicated": 20,
        "filtered": 10,
        "quarantined": 17,
    }
    assert books["rows_in"] == sum(
        books[name] for name in ("rows_out", "deduplicated", "filtered", "quarantined")
    )


def test_quarantine_names_each_row_with_its_reason(cleaned: StageRunner) -> None:
    rows = cleaned.rows("clean/quarantine")
    assert Counter(row["reason"] for row in rows) == cleaned.manifest()["reasons"]
    assert {row["excerpt"] for row in rows if row["reason"] == "boilerplate"} == {
        "此用户没有填写评论内容"
    }
    last = next(row for row in rows if row["reason"] == "not_text")
    assert last["origin"] == f"made.csv:{int(last['id'][1:]) + 2}"


def test_equal_texts_stand_once_and_in_one_split(cleaned: StageRunner) -> None:
    keys = comparable([row["text"] for row in cleaned.rows("clean")])
    assert len(set(keys)) == len(keys)
    assert not set(comparable([row["text"] for row in dirty()[20:25]])) & set(
        keys
    )  # the label is not known: neither stays


def test_near_duplicates_share_a_group_and_a_split(cleaned: StageRunner) -> None:
    by_text = {row["text"]: row for row in cleaned.rows("clean")}
    pairs = [(by_text[text], by_text[text + "x"]) for text in by_text if text + "x" in by_text]
    assert len(pairs) == 15 == cleaned.manifest()["near_duplicate_pairs"]
    for one, two in pairs:
        assert one["group"] == two["group"]
        assert one["split"] == two["split"]
    assert len({row["group"] for row in cleaned.rows("clean")}) == len(by_text) - 15


def test_each_shard_holds_its_split_and_every_class(cleaned: StageRunner) -> None:
    for split, counts in cleaned.manifest()["splits"].items():
        rows = cleaned.rows("clean", split)
        assert {row["split"] for row in rows} == {split}
        assert Counter(row["label"] for row in rows) == counts
        assert set(counts) == {"好评", "差评"}
        assert list(rows[0]) == ["id", "text", "title", "label", "split", "group"]


def test_the_naive_view_keeps_duplicates_for_the_comparison(cleaned: StageRunner) -> None:
    keys = comparable([row["text"] for row in cleaned.rows("audit", "naive")])
    assert len(keys) == len(dirty()) - 7
    assert len(set(keys)) < len(keys)


def test_the_same_rows_give_the_same_bytes_in_pieces_of_any_size(
    cleaned: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique_rows, "ROWS_PER_TASK", 7)
    again = StageRunner.make(tmp_path, dirty()).clean()
    assert (again.root / "clean" / "manifest.json").read_bytes() == (
        cleaned.root / "clean" / "manifest.json"
    ).read_bytes()


def test_majority_keeps_the_label_that_most_have(tmp_path: Path) -> None:
    rows = sentences(60)
    votes = [{"text": "服务 一般 房间 还行", "label": label} for label in ("好评", "差评", "好评")]
    kept = {
        comparable([row["text"]])[0]: row["label"]
        for row in StageRunner.make(tmp_path, rows + votes, clean={"conflicts": "majority"})
        .clean()
        .rows("clean")
    }
    assert kept["服务一般房间还行"] == "好评"


def test_boilerplate_can_be_kept(tmp_path: Path) -> None:
    rows = sentences(60) + [{"text": "此用户没有填写评论内容", "label": "好评"}] * 12
    kept = StageRunner.make(tmp_path, rows, clean={"boilerplate": 0}).clean()
    assert kept.manifest()["books"]["filtered"] == 0
    assert "此用户没有填写评论内容" in {row["text"] for row in kept.rows("clean")}


def test_the_sources_own_group_stays_together(tmp_path: Path) -> None:
    rows = [{**row, "group": f"user{i % 25}"} for i, row in enumerate(sentences(200))]
    cleaned = StageRunner.make(tmp_path, rows).clean().rows("clean")
    splits: dict[int, str] = {}
    groups: dict[int, str] = {}
    for row in cleaned:
        user = int(row["id"][1:]) % 25
        assert splits.setdefault(user, row["split"]) == row["split"]
        assert groups.setdefault(user, row["group"]) == row["group"]
    assert set(splits.values()) == {"train", "validation", "test"}
    assert len(set(groups.values())) == 25


def canonical(validation: bool) -> Rows:
    """Rows with splits of their own; train repeats some of the others, and so does test itself."""
    rows = sentences(160)
    for i, row in enumerate(rows):
        row["split"] = (
            "test"
            if i < 30
            else ("dev" if validation else "train")
            if i < 50
            else ("Train", None)[i % 2]
        )
    rows += [{"text": rows[0]["text"], "label": rows[0]["label"], "split": "test"}]  # twice in test
    rows += [
        {"text": rows[i]["text"] + "!", "label": "好评" if i % 4 else "差评", "split": "train"}
        for i in range(1, 9)
    ]  # some say otherwise
    rows += [
        {"text": row["text"] + "x", "label": row["label"], "split": "train"}
        for row in rows[:30]
        if len(row["text"]) > 60
    ]
    return rows


def ids(rows: Rows, *splits: str) -> set[str]:
    """Ids that `StageRunner.make` gives to rows of a split."""
    return {f"r{i:05d}" for i, row in enumerate(rows) if row["split"] in splits}


@pytest.mark.parametrize("validation", [True, False])
def test_canonical_evaluation_splits_never_change(tmp_path: Path, validation: bool) -> None:
    rows = canonical(validation)
    cleaned = StageRunner.make(tmp_path, rows).clean()
    assert {row["id"] for row in cleaned.rows("clean", "test")} == ids(rows, "test")
    if validation:
        assert {row["id"] for row in cleaned.rows("clean", "validation")} == ids(rows, "dev")
    held = [row for split in ("validation", "test") for row in cleaned.rows("clean", split)]
    train = cleaned.rows("clean", "train")
    assert not {row["group"] for row in held} & {row["group"] for row in train}
    held_keys = comparable([row["text"] for row in held])
    assert not set(held_keys) & set(comparable([row["text"] for row in train]))
    books = cleaned.manifest()["books"]
    near = sum(len(row["text"]) > 60 for row in rows[:30])
    assert near > 3
    assert books["deduplicated"] == 8 + near
    assert books["quarantined"] == 0  # a label that train disputes takes nothing from test


def test_a_validation_row_that_equals_a_test_row_goes(tmp_path: Path) -> None:
    rows = canonical(True)
    rows.append({"text": rows[2]["text"], "label": rows[2]["label"], "split": "dev"})
    cleaned = StageRunner.make(tmp_path, rows).clean()
    assert f"r{len(rows) - 1:05d}" not in {row["id"] for row in cleaned.rows("clean")}
    assert {row["id"] for row in cleaned.rows("clean", "test")} == ids(rows, "test")


def test_canonical_rows_are_not_boilerplate(tmp_path: Path) -> None:
    rows = canonical(True) + [
        {"text": "default review text", "label": "好评", "split": split}
        for split in ["test"] + ["train"] * 12
    ]
    cleaned = StageRunner.make(tmp_path, rows).clean()
    assert [
        row["split"] for row in cleaned.rows("clean") if row["text"] == "default review text"
    ] == ["test"]
    assert cleaned.manifest()["books"]["filtered"] == 12


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (lambda row, i: "train" if i % 2 else "dev", "names no test rows"),
        (lambda row, i: "test", "no train row is left"),
        (
            lambda row, i: "test" if row["label"] == "差评" else "train",
            "no train row is left of: 差评",
        ),
    ],
)
def test_splits_that_cannot_be_used_are_refused(tmp_path: Path, splits: Any, message: str) -> None:
    rows = [{**row, "split": splits(row, i)} for i, row in enumerate(sentences(60))]
    with pytest.raises(InputError, match=message) as caught:
        StageRunner.make(tmp_path, rows).clean()
    assert "split" in caught.value.where


def test_an_unknown_split_is_quarantined(tmp_path: Path) -> None:
    rows = [
        *canonical(True),
        {"text": "a row of nowhere at all", "label": "好评", "split": "holdout"},
    ]
    assert StageRunner.make(tmp_path, rows).clean().manifest()["reasons"] == {"unknown_split": 1}


def with_small_classes() -> Rows:
    rows = sentences(80)
    return rows + [
        {"text": f"{row['text']} {name}", "label": name}
        for name, some in (("中评", rows[:4]), ("neutral", rows[4:12]))
        for row in some
    ]


def test_small_classes_are_refused_with_their_counts(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"fewer than 10 usable rows: \{'neutral': 8, '中评': 4\}"
    ) as caught:
        StageRunner.make(tmp_path, with_small_classes(), clean={"near_duplicates": 1.0}).clean()
    assert "merge" in caught.value.remedy


def test_small_classes_are_merged_by_rule_and_said_so(tmp_path: Path) -> None:
    runner = StageRunner.make(
        tmp_path, with_small_classes(), clean={"small_classes": "merge", "near_duplicates": 1.0}
    ).clean()
    assert runner.manifest()["merged_classes"] == {"中评": "other", "neutral": "other"}
    assert runner.manifest()["classes"] == ["other", "好评", "差评"]
    assert sum(counts["other"] for counts in runner.manifest()["splits"].values()) == 12
    assert (
        "2 small classes are merged"
        in (tmp_path / ".state" / "clean" / "journal.jsonl").read_text()
    )


def test_a_class_that_is_small_only_without_its_duplicates_is_merged_too(tmp_path: Path) -> None:
    rows = with_small_classes()
    rows += [
        {"text": row["text"] + "。", "label": row["label"]}
        for row in rows
        if row["label"] == "neutral"
    ]  # 16 rows, 8 texts
    runner = StageRunner.make(
        tmp_path, rows, clean={"small_classes": "merge", "near_duplicates": 1.0}
    ).clean()
    assert runner.manifest()["classes"] == ["other", "好评", "差评"]


def test_merging_that_does_not_suffice_does_not_advise_to_merge(tmp_path: Path) -> None:
    rows = sentences(80) + [
        {"text": f"nothing like the rest {i}", "label": "odd"} for i in range(4)
    ]
    with pytest.raises(InputError, match="'other': 4") as caught:
        StageRunner.make(
            tmp_path, rows, clean={"small_classes": "merge", "near_duplicates": 1.0}
        ).clean()
    assert "merge" not in caught.value.remedy


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [row for row in sentences(80) if row["label"] == "好评"],
            "only one class is left after cleaning: 好评",
        ),
        ([{"text": "!!!", "label": "好评"}] * 5, r"no row can be used: \{'empty': 5\}"),
        ([], "no row can be used"),
        (
            [{"text": "the same", "label": label} for label in "ab"],
            r"no row is left after cleaning\n +2 of 2 rows dropped: equal but for case, .*, with different labels \(a and b: 1; for example 'the same'\): clean.conflicts",
        ),
        (
            [{"text": f"text {i}", "label": "a", "id": "one"} for i in range(3)],
            "id 'one' stands more than once",
        ),
    ],
)
def test_what_no_classifier_can_learn_from_is_an_input_error(
    tmp_path: Path, rows: Rows, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        StageRunner.make(tmp_path, rows).clean()
    assert not (tmp_path / "clean").exists()


def test_pictures_equal_by_pixels_stand_once_and_noise_stays_with_its_picture(
    tmp_path: Path,
) -> None:
    rng, rows = np.random.default_rng(0), pictures(100)
    repeated = [
        {"image": png(np.repeat(decode(row["image"], 1), 3, axis=2)), "label": row["label"]}
        for row in rows[:10]
    ]
    noisy = [
        {
            "image": png(
                np.clip(
                    decode(row["image"], 1)[:, :, 0].astype(int) + rng.integers(-2, 3, (8, 8)),
                    0,
                    255,
                ).astype(np.uint8)
            ),
            "label": row["label"],
        }
        for row in rows[:40]
    ]
    bad = [
        {"image": b"no picture", "label": "lies"},
        {"image": png(np.full((8, 8), 9, np.uint8)), "label": "lies"},
    ]
    runner = StageRunner.make(tmp_path, rows + noisy + repeated + bad, IMAGE).clean()
    assert runner.manifest()["books"] == {
        "rows_in": 152,
        "rows_out": 140,
        "deduplicated": 10,
        "filtered": 0,
        "quarantined": 2,
    }
    assert runner.manifest()["reasons"] == {"blank": 1, "not_an_image": 1}
    by_id = {row["id"]: row for row in runner.rows("clean")}
    assert (
        sum(by_id[f"r{i:05d}"]["group"] == by_id[f"r{100 + i:05d}"]["group"] for i in range(40))
        >= 39
    )


def test_clean_holds_its_shards_a_manifest_the_quarantine_and_nothing_else(
    cleaned: StageRunner,
) -> None:
    assert {path.name for path in (cleaned.root / "clean").iterdir()} == {
        "manifest.json",
        "quarantine",
        *(f"{split}-00000.parquet" for split in ("train", "validation", "test")),
    }


def test_rows_without_a_label_are_kept_as_text_if_that_is_asked_for(tmp_path: Path) -> None:
    rows = [
        *dirty(),
        {"text": "没有标签的一行 HERE.", "label": ""},
        {"text": dirty()[3]["text"], "label": None},
        {"text": "to be judged", "label": None, "split": "test"},
        {"text": "!", "label": None},
    ]
    runner = StageRunner.make(
        tmp_path, rows, clean={"unlabelled": "keep"}, tokenize={"vocabulary_size": 600}
    ).clean()
    kept = runner.rows("clean", "unlabelled")
    assert [row["text"] for row in kept] == [
        "没有标签的一行 here",
        "another without one",
    ]  # once each, none that has a label elsewhere
    assert {(row["label"], row["split"]) for row in kept} == {(None, "unlabelled")}
    books, plain = runner.manifest()["books"], StageRunner.make(tmp_path / "plain", dirty()).clean()
    assert books["rows_in"] == sum(
        books[name] for name in ("rows_out", "deduplicated", "filtered", "quarantined")
    )
    assert runner.manifest()["reasons"]["no_label"] == 1  # the row that was to be judged
    assert all(
        runner.rows("clean", split) == plain.rows("clean", split)
        for split in ("train", "validation", "test")
    )
    runner.augment().tokenize()
    assert [row["target"] for row in runner.rows("tokens", "unlabelled")] == [-1, -1]
    assert min(row["target"] for row in runner.rows("tokens", "train")) == 0


def test_rows_without_a_label_stay_out_of_the_groups_of_held_out_rows(tmp_path: Path) -> None:
    rows = [{**row, "group": f"g{number}"} for number, row in enumerate(sentences(200))]
    others = [
        {
            "text": f"a further line of document number {number}",
            "label": None,
            "group": f"g{number}",
        }
        for number in range(200)
    ]
    alone = {"text": "a line of no document", "label": None, "group": None}
    runner = StageRunner.make(
        tmp_path, [*rows, *others, alone], clean={"unlabelled": "keep"}
    ).clean()
    train = {row["text"] for row in runner.rows("clean", "train")}
    kept = {row["text"] for row in runner.rows("clean", "unlabelled")}
    expected = {
        other["text"] for row, other in zip(rows, others, strict=True) if row["text"] in train
    }
    assert kept == expected | {alone["text"]} and 100 < len(expected) < 200
    manifest = runner.manifest()
    assert manifest["books"]["held_out"] == 200 - len(expected)
    (entry,) = [entry for entry in manifest["account"] if entry["what"] == "held_out"]
    assert entry["message"].startswith(f"{200 - len(expected)} of 201 rows without a target left")


def test_texts_that_differ_in_an_emoji_or_a_question_mark_are_different_rows(
    tmp_path: Path,
) -> None:
    pairs = []
    for number in range(30):
        pairs.append((f"收到第{number}单的毛巾了👍", "正面"))
        pairs.append((f"收到第{number}单的毛巾了😭", "负面"))
    alone = []
    for mark, label in (("😀", "正面"), ("😡", "负面")):
        alone += [(mark * count, label) for count in range(1, 6)]
    asked = [("好吗", "负面"), ("好吗？", "正面"), ("好吗！", "正面")]
    rows = [{"text": text, "label": label} for text, label in pairs + alone + asked]
    runner = StageRunner.make(tmp_path, rows).clean()
    assert {row["text"] for row in runner.rows("clean")} == {
        row["text"].replace("？", "?").replace("！", "!") for row in rows
    }
    assert runner.manifest()["reasons"] == {}


def test_every_change_is_printed_and_stands_in_the_manifest(tmp_path: Path) -> None:
    rows = dirty()
    rows += [
        {"text": f"<p>第{number}条 {'很长的评论' * 60}</p>", "label": "好评"} for number in range(3)
    ]
    rows += [
        {"text": rows[number]["text"] + " once more, with this", "label": "Good"}
        for number in range(60, 72)
    ]
    rows += [
        {"text": rows[number]["text"] + " and other things too", "label": "good"}
        for number in range(75, 87)
    ]
    runner = StageRunner.make(tmp_path, rows, clean={"max_characters": 100}).clean()
    account = {entry["what"]: entry for entry in runner.manifest()["account"]}
    said = (tmp_path / ".state" / "clean" / "journal.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line).get("text", "") for line in said.splitlines()]
    assert all(entry["message"] in lines for entry in account.values())
    usable = len(rows) - 7

    def line(text: str) -> str:
        return f"made.csv:{[row['text'] for row in rows].index(text) + 2}"

    assert account["text_cut"]["message"].startswith(
        f"{account['text_cut']['rows']} of {usable} texts cut at 100 characters ("
    )
    assert (
        account["text_cut"]["rows"]
        == sum(
            len(row["text"]) > 100
            for row in rows
            if row["text"] and not row["text"].startswith("<p>")
        )
        + 3
    )
    assert 0.5 < account["text_cut"]["share_lost"] < 0.7
    assert account["text_tags"]["rows"] == 3
    assert (
        account["too_short"]["message"]
        == f"1 of {len(rows)} rows quarantined as too_short ({line('好')}): clean.min_characters"
    )
    assert account["empty"]["rows"] == 3
    assert account["no_label"]["message"].endswith(
        f"({line('没有标签的一行 here')}, {line('another without one')}): clean.unlabelled"
    )
    assert (
        account["duplicate"]["message"]
        == f"20 of {usable} rows dropped as duplicates of a row that stays (equal but for case, width, spaces and plain punctuation)"
    )
    assert "好评 and 差评: 5; for example" in account["conflicting_labels"]["message"]
    assert "'此用户没有填写评论内容': 10 times" in account["boilerplate"]["message"]
    assert account["near_duplicates"]["rows"] == runner.manifest()["near_duplicate_pairs"]
    assert any("('Good' 12, 'good' 12): ingest.label_case: fold" in line for line in lines)


def test_pictures_made_smaller_are_counted(tmp_path: Path) -> None:
    rows = [
        {**row, "image": png(np.kron(decode(row["image"], 1)[:, :, 0], np.ones((3, 3), np.uint8)))}
        for row in pictures(60)
    ]
    account = {
        entry["what"]: entry
        for entry in StageRunner.make(tmp_path, rows, IMAGE).clean().manifest()["account"]
    }
    assert (
        account["image_shrunk"]["message"]
        == "all 60 pictures shrunk from 24 x 24 to 8 x 8: clean.size"
    )
    assert account["image_shrunk"]["share_lost"] == pytest.approx(8 / 9, abs=1e-6)
    assert "image_gray" not in account


def test_folds_of_texts_test_each_row_once_with_each_class(tmp_path: Path) -> None:
    rows = sentences(90)
    close = [{**row, "text": row["text"] + "!"} for row in rows[:12]]
    tested = []
    for number in (1, 2, 3):
        fold = {"fold": {"count": 3, "number": number}}
        runner = StageRunner.make(tmp_path / str(number), [*rows, *close], clean=fold).clean()
        test = runner.rows("clean", "test")
        assert {row["label"] for row in test} == {"差评", "好评"}
        held_out = {row["group"] for row in test}
        assert not held_out & {row["group"] for row in runner.rows("clean", "train")}
        tested += [row["id"] for row in test]
    assert sorted(tested) == sorted(row["id"] for row in runner.rows("clean"))
    assert len(tested) == len(set(tested))


def test_too_few_groups_of_texts_may_be_near_duplicates(tmp_path: Path) -> None:
    rows = sentences(60)
    text = max((row["text"] for row in rows if row["label"] == "差评"), key=len)
    alike = [{"text": f"{text}{mark}", "label": "差评"} for mark in "甲乙丙丁戊己庚辛壬癸"]
    others = [row for row in rows if row["label"] == "好评"]
    with pytest.raises(InputError, match="independent group") as caught:
        StageRunner.make(tmp_path, [*others, *alike]).clean()
    assert "clean.near_duplicates: 1.0" in caught.value.remedy
