"""Flags of predict that are read as text."""

import pytest

from segjax.commands.predict import _numbers
from segjax.errors import UserError


def test_pages_are_numbers_and_ranges():
    assert _numbers("7, 2-4,3") == [7, 2, 3, 4]


@pytest.mark.parametrize("text", ["0", "a", "4-2", "1,,2", "1-99999999", "1-", "-1"])
def test_what_names_no_pages_is_reported(text):
    with pytest.raises(UserError, match="is no list of pages"):
        _numbers(text)
