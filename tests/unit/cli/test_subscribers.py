"""`certes subscribers erase`: it asks first, and says what went and what remains."""

from __future__ import annotations

import pytest

ANSWER = {"subscriptions": "2", "events": "7", "deadLetters": "3", "remains": ["Backups\x1b[2J."]}


def test_it_says_what_went_and_what_remains(certes, gateway):
    gateway.answer("DeleteSubscriberData", ANSWER)
    result = certes("subscribers", "erase", "org_1", "--yes", "--broker", gateway.address)
    assert gateway.requests("DeleteSubscriberData") == [{"name": "subscribers/org_1"}]
    assert "events         7\ndead letters   3\n" in result.stdout
    assert "Backups\ufffd[2J." in result.stdout


@pytest.mark.parametrize("typed", ["org_2", "y"])
def test_who_does_not_type_the_subscriber_erases_nothing(certes, gateway, typed):
    result = certes("subscribers", "erase", "org_1", "--broker", gateway.address, stdin=f"{typed}\n")
    assert result.exit_code == 2
    assert gateway.calls == []


def test_who_types_the_subscriber_erases_it(certes, gateway):
    gateway.answer("DeleteSubscriberData", ANSWER)
    result = certes("subscribers", "erase", "org_1", "--broker", gateway.address, stdin="org_1\n")
    assert result.exit_code == 0
