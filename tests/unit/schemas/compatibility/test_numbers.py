from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certes_broker.schemas.compatibility.numbers import holds, merged, spell, without

ranges = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair))), max_size=6)


def numbers(some):
    return {number for first, last in some for number in range(first, last + 1)}


@given(ranges, ranges)
def test_what_is_left_are_the_numbers_of_one_and_not_of_the_other(some, taken):
    left = without(some, taken)
    assert numbers(left) == numbers(some) - numbers(taken)
    assert left == merged(left)
    assert all(holds(left, number) == (number in numbers(left)) for number in range(-25, 30))


def test_ranges_are_spelled_as_files_have_them():
    assert [spell(numbers) for numbers in ((5, 5), (5, 9), (100, 2**29 - 1), (-3, 2**31 - 1))] == [
        "5",
        "5 to 9",
        "100 to max",
        "-3 to max",
    ]


def test_many_ranges_are_compared_in_one_sweep():
    """Whoever sends a schema says how many there are: a comparison of each with each would take minutes."""
    odd, even = ([(number, number) for number in range(first, 40_000, 2)] for first in (1, 0))
    assert len(without(odd, even)) == 20_000
    assert without(odd, [(0, 40_000)]) == ()
