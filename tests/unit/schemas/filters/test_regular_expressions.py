"""How large regular expressions are is estimated from above, by their text."""

from __future__ import annotations

import pytest

from certes_broker.schemas.filters.regular_expressions import program_size


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("a", "ab"),
        ("ab", "a."),
        ("[ab]", "[^ab]"),
        ("abc", "(?i)abc"),
        ("abc", "(?si:abc)"),
        ("ab", "éb"),
        ("a", "a{2}"),
        ("a{2}", "a{2,3}"),
        ("a{100}", "(a{100}){2}"),
        (r"\d", r"\pL"),
        ("[ab]", "[[:alpha:]]"),
    ],
)
def test_what_takes_more_instructions_is_larger(small, large):
    assert program_size(small) < program_size(large)


@pytest.mark.parametrize("pattern", ["", "a{", "a{}", "a{,5}", "a{0}", "a{99999999999999999999}", "(", "\\", "[^"])
def test_what_is_malformed_has_a_size_too(pattern):
    assert program_size(pattern) >= 0
