"""Personal data are found by validated rules, and near-misses are left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.fields.personal_data import find, placeholder, replace


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("电话13812345678，尽快", "电话<phone>，尽快"),
        ("电话 138-1234-5678 或 138 1234 5678", "电话 <phone> 或 <phone>"),
        ("+86 13812345678, 8613812345678x", "<phone>, 8613812345678x"),
        ("１３８１２３４５６７８", "<phone>"),
        ("总机(010)62345678、0755-1234567", "总机<phone>、0755-1234567"),
        ("传真：0311-86911999。", "传真：<phone>。"),
        ("call +44 (0)20 7946 0958 now", "call <phone> now"),
        ("(212) 555-0187 or 212.555.0187", "<phone> or <phone>"),
        ("身份证11010519491231002x，", "身份证<idcard>，"),
        ("身份证110105 19491231 002X", "身份证<idcard>"),
        ("卡号 6222 0212 3456 7890 128 到期", "卡号 <bankcard> 到期"),
        ("4111-1111-1111-1111", "<bankcard>"),
        ("写信到zhang.san+x@mail.example.com.cn谢谢", "写信到<email>谢谢"),
        ("ＺＨＡＮＧ＠ＳＯＨＵ．ＣＯＭ", "<email>"),
        ("服务器192.168.10.7:8080不通", "服务器<ip>:8080不通"),
        ("地址：2001:db8::8a2e:370:7334 IP:fe80::1", "地址：<ip> IP:<ip>"),
        ("车牌京A12345、粤B·D12345和沪A12345F", "车牌<plate>、<plate>和<plate>"),
        ("京A1234警 挡路", "<plate> 挡路"),
    ],
)
def test_personal_data_are_replaced_by_their_kind(text: str, masked: str) -> None:
    assert replace(text, placeholder) == masked


@pytest.mark.parametrize(
    "text",
    [
        "房间很大，住了3晚，每晚358元，2024-01-05 12:30:45再来",
        "订单号：13812345678，单号 6222021234567890128",
        # wrong check digits, an unknown province and a day that does not exist
        "110105194912310021 and 4111 1111 1111 1112",
        "990105194912310024 110105194902300019",
        "ISBN 978-7-111-12345-6, 9787111123459",
        "v1.2.3.4，版本 10.0.1.2，256.1.1.1，1.2.3.4.5",
        "icon@2x.png, 3@5.5, @张三, a@b",
        "a::b std::vector ::1 127.0.0.1 00:1a:2b:3c:4d:5e",
        "JD13812345678 1.13812345678 13812345678.50",
        "粤X60 新T400 华硕EPC900",
        "400-820-6666",
    ],
)
def test_near_misses_stay(text: str) -> None:
    assert find(text) == []


def test_ways_to_write_the_same_data_have_the_same_value() -> None:
    texts = ["13812345678", "+86 138-1234-5678", "１３８ １２３４ ５６７８"]
    assert {match.value for text in texts for match in find(text)} == {"+8613812345678"}
    (match,) = find("写信到 Li@Example.COM ")
    assert (match.kind, match.start, match.end, match.value) == ("email", 4, 18, "li@example.com")


@given(st.text("0123456789@.:-+() xX京AＡ１ab/", max_size=60))
def test_a_replaced_text_has_no_personal_data(text: str) -> None:
    assert find(replace(text, placeholder)) == []


def test_a_long_text_made_to_be_slow_is_not() -> None:
    began = time.process_time()
    for text in ("1" * 20_000, "1 " * 10_000, "a@" + "a." * 10_000, "1:" * 10_000, "+1-" * 7000):
        find(text)
    # Quadratic time would be minutes.
    assert time.process_time() - began < 5
