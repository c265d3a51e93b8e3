"""What comes in is counted, by labels whose number is bounded."""

from __future__ import annotations

from collections import Counter

import pytest

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.observability.arrivals import OTHER_SOURCES, SOURCES, Arrivals, refusals


def test_of_sources_so_many_have_a_number_of_their_own_and_the_rest_have_one_together() -> None:
    arrivals = Arrivals()
    for _ in range(2):
        for number in range(SOURCES + 50):
            arrivals.took_webhook(f"source-{number}")
    assert arrivals.webhooks["source-0"] == arrivals.webhooks[f"source-{SOURCES - 1}"] == 2
    assert arrivals.webhooks[OTHER_SOURCES] == 100
    assert len(arrivals.webhooks) == SOURCES + 1


def test_what_is_refused_is_counted_and_raised_and_a_fault_is_not_a_refusal() -> None:
    counts: Counter[str] = Counter()
    with pytest.raises(Invalid), refusals(counts):
        raise Invalid(Reason.MALFORMED_REQUEST, "no")
    with pytest.raises(ZeroDivisionError), refusals(counts):
        raise ZeroDivisionError
    assert counts == {"MALFORMED_REQUEST": 1}
