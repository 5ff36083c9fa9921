"""Amounts of memory in words, and what is free."""

import psutil
import pytest

from selfseg.core.errors import UsageError
from selfseg.core.machine import free_memory, parse_bytes, resident_memory


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2GB", 2 * 10**9),
        ("2g", 2 * 10**9),
        (" 1.5 GiB ", 3 * 2**29),
        ("500MB", 5 * 10**8),
        ("64KiB", 65536),
        ("1T", 10**12),
        ("1024", 1024),
        ("12B", 12),
    ],
)
def test_amounts_are_understood(text, wanted):
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "much", "-2GB", "2XB", "0", "0.1", "GB", "1e9", "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(UsageError, match="2GB or 500MB"):
        parse_bytes(text)


def test_free_memory_is_within_the_machine():
    assert 0 < free_memory() <= psutil.virtual_memory().total
    assert 10**6 < resident_memory() < psutil.virtual_memory().total
