"""Names belong to members evenly, and move only where they must."""

from __future__ import annotations

from collections import Counter

from certes_broker.domain.placement import owner_of

NAMES = [f"subscribers/org_{number}/subscriptions/hook" for number in range(3000)]


def test_names_are_spread_over_the_members() -> None:
    owned = Counter(owner_of(name, ["a", "b", "c"]) for name in NAMES)
    assert set(owned) == {"a", "b", "c"}
    assert min(owned.values()) > len(NAMES) / 4


def test_the_order_of_the_members_changes_nothing() -> None:
    assert [owner_of(name, ["a", "b", "c"]) for name in NAMES] == [owner_of(name, ["c", "a", "b"]) for name in NAMES]


def test_when_a_member_goes_only_what_it_had_moves() -> None:
    for name in NAMES:
        before = owner_of(name, ["a", "b", "c"])
        if before != "b":
            assert owner_of(name, ["a", "c"]) == before


def test_when_a_member_comes_only_what_it_gets_moves() -> None:
    for name in NAMES:
        after = owner_of(name, ["a", "b", "c"])
        if after != "c":
            assert owner_of(name, ["a", "b"]) == after
