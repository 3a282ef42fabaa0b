"""Sizes: exact, with units, rounded down; every wrong one gets a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.builders import caught

from kvtier_ops.units import (
    AUTO,
    UNITS,
    Share,
    Size,
    format_bytes,
    parse_amount,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64GiB", 64 << 30),
        ("64GB", 64 * 10**9),
        ("1.5KiB", 1536),
        ("64 MiB", 64 << 20),
        ("2kB", 2000),
        ("2MB", 2_000_000),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 << 40),
        ("2PB", 2 * 10**15),
        ("2PiB", 2 << 50),
        ("0GiB", 0),
        ("0.3B", 0),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == Size(count)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("64", "write `64GiB`"),
        ("64G", "`64GiB` (powers of 1024) or `64GB`"),
        ("64gb", "`64GiB`"),
        ("64GiBs", "is not a unit"),
        ("-1GiB", "a number and a unit"),
        ("", "a number and a unit"),
        ("٣GiB", "a number and a unit"),
        ("99999999PiB", "more bytes than"),
        ("10%", "a percentage"),
        ("auto", "a number and a unit"),
        (".5GiB", "write `0.5GiB`, not `.5GiB`"),
        ("5.GiB", "write `5GiB`"),
        ("1,5GiB", "write `1.5GiB`"),
        ("1_000MB", "write `1000MB`"),
        ("64  GiB", "write `64GiB`"),
        ("1,000MB", "a number and a unit, such as `64GiB`, not `1,000MB`"),
        ("_GiB", "a number and a unit"),
    ],
)
def test_wrong_sizes_say_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"unit|percentage|bytes|write") as raised:
        parse_size(text)
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["0%", "101%", "5 percent"])
def test_wrong_percentages(text: str) -> None:
    with pytest.raises(ValueError, match=r"percent|unit"):
        parse_amount(text)


def test_amounts() -> None:
    assert parse_amount("auto") is AUTO
    share = parse_amount("12.5%")
    assert isinstance(share, Share)
    assert share.of(1001) == 125
    assert str(share) == "12.5%"


@given(st.integers(0, (1 << 63) - 1))
def test_printed_sizes_read_back(count: int) -> None:
    assert parse_size(str(Size(count))) == Size(count)


@given(st.integers(0, (1 << 63) - 1))
def test_shown_sizes_never_promise_more(count: int) -> None:
    number, unit = format_bytes(count).split()
    assert float(number) * UNITS[unit] <= count or count >= 1 << 53  # floats end there


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_a_sentence(text: str) -> None:
    error = caught(ValueError, lambda: parse_amount(text))
    assert error is None or str(error)
