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
