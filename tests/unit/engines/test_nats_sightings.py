"""How members count each other's silence: only what was seen, and nothing while nobody could be heard."""

from __future__ import annotations

import pytest

from certes_broker.engines.nats.sightings import Pace, Sightings
from certes_broker.ports.cluster import MemberId

A, B = MemberId("a"), MemberId("b")
PACE = Pace()


class Looks:
    """Looks that are answered at once, at times that are told."""

    def __init__(self) -> None:
        self.sightings = Sightings(PACE)
        self.now = 0.0

    def look(self, after: float = PACE.renewal, **sequences: int) -> list[str]:
        self.now += after
        found = {MemberId(member): sequence for member, sequence in sequences.items()}
        return list(self.sightings.take(self.now, self.now, found))

    def look_without(self, *unconnected: str, is_answered: bool = True, **sequences: int) -> list[str]:
        """Looks half a renewal later, when it was heard that some have no connection."""
        at = self.now + PACE.renewal / 2
        self.sightings.miss(at, at, [MemberId(member) for member in unconnected])
        if is_answered:
            return self.look(PACE.renewal / 2, **sequences)
        self.now = at
        self.sightings.lose()
        return []


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_who_is_not_renewed_for_six_seconds_is_silent_for_too_long(looks: Looks) -> None:
    silent = [looks.look(a=1, b=10 + second) for second in range(8)]
    assert silent == [[]] * 6 + [["a"]] * 2


def test_a_renewal_gives_all_of_the_time_again(looks: Looks) -> None:
    assert [looks.look(a=1) for _ in range(6)] == [[]] * 6
    assert looks.look(a=2) == []
    assert [looks.look(a=2) for _ in range(6)] == [[]] * 5 + [["a"]]


def test_an_older_message_of_a_server_that_lags_is_no_silence(looks: Looks) -> None:
    assert [looks.look(a=2) for _ in range(6)] == [[]] * 6
    assert looks.look(a=1) == []
    assert looks.look(a=2) == []


def test_a_look_that_comes_late_counts_as_one_renewal(looks: Looks) -> None:
    looks.look(a=1)
    assert looks.look(after=5.5, a=1) == []
    assert looks.look(after=3_600.0, a=1) == []
    assert [looks.look(a=1) for _ in range(4)] == [[]] * 3 + [["a"]]


def test_silence_begins_when_the_look_is_answered_that_found_the_message_and_ends_when_the_last_began() -> None:
    sightings = Sightings(PACE)
    assert list(sightings.take(0.0, 0.75, {A: 1})) == []
    assert [list(sightings.take(at, at + 0.75, {A: 1})) for at in range(1, 8)] == [[]] * 6 + [[A]]


def test_when_the_servers_do_not_answer_all_have_all_of_their_time_again(looks: Looks) -> None:
    assert [looks.look(a=1, b=2) for _ in range(6)] == [[]] * 6
    looks.sightings.lose()
    assert looks.sightings.sequences == {A: 1, B: 2}
    assert [looks.look(a=1, b=2) for _ in range(7)] == [[]] * 6 + [["a", "b"]]


def test_who_has_ended_is_not_there_any_more(looks: Looks) -> None:
    looks.look(a=1, b=2)
    looks.sightings.remove(A)
    assert looks.sightings.sequences == {B: 2}
    looks.look(b=2)
    assert looks.sightings.sequences == {B: 2}


def test_who_has_no_connection_for_longer_than_it_can_be_current_is_silent_for_too_long_sooner(looks: Looks) -> None:
    assert PACE.current < PACE.unconnected < PACE.ended
    looks.look(a=1, b=2)
    assert [looks.look_without("a", a=1, b=2) for _ in range(10)] == [[]] * 9 + [["a"]]


def test_time_without_a_connection_counts_while_the_servers_do_not_answer_and_two_renewals_are_waited_for(
    looks: Looks,
) -> None:
    looks.look(a=1, b=2)
    for _ in range(20):
        looks.look_without("a", is_answered=False)
    assert [looks.look_without("a", a=1, b=2) for _ in range(5)] == [[]] * 4 + [["a"]]


def test_who_is_connected_again_has_all_of_that_time_again(looks: Looks) -> None:
    looks.look(a=1)
    assert [looks.look_without("a", a=1) for _ in range(9)] == [[]] * 9
    assert looks.look_without(a=1) == []
    assert looks.look_without("a", a=1) == []


def test_who_was_renewed_meanwhile_has_all_of_that_time_again(looks: Looks) -> None:
    looks.look(a=1)
    assert [looks.look_without("a", a=1) for _ in range(9)] == [[]] * 9
    assert [looks.look_without("a", a=2) for _ in range(5)] == [[]] * 5
