"""Collecting what is wrong with a request."""

from __future__ import annotations

import pytest

from certes_broker.domain.errors import Invalid, NotFound, Reason
from certes_broker.gateway.faults import Faults


def test_nothing_noted_raises_nothing() -> None:
    Faults().check()


def test_one_fault_is_raised_as_it_is() -> None:
    faults = Faults()
    faults.add(Reason.FIELD_INVALID, "a.b", "is wrong", limit="3")
    with pytest.raises(Invalid) as raised:
        faults.check()
    assert str(raised.value) == "a.b: is wrong"
    assert raised.value.metadata == {"field": "a.b", "limit": "3"}


def test_all_faults_are_raised_together_under_the_first_ones_reason() -> None:
    faults = Faults()
    faults.required("a")
    faults.invalid("b", "is wrong")
    with pytest.raises(Invalid) as raised:
        faults.check()
    assert raised.value.reason is Reason.FIELD_REQUIRED
    assert [violation.field for violation in raised.value.violations] == ["a", "b"]


def test_a_refusal_within_is_noted_of_the_field_with_its_facts_and_hint() -> None:
    faults = Faults()
    with faults.at("pattern"):
        raise Invalid(Reason.MALFORMED_PATTERN, "no", metadata={"position": "3"}, hint="Mend it.")
    with pytest.raises(Invalid) as raised:
        faults.check()
    assert (raised.value.reason, str(raised.value)) == (Reason.MALFORMED_PATTERN, "pattern: no. Mend it.")
    assert raised.value.metadata == {"position": "3", "field": "pattern"}


def test_a_refusal_that_knows_its_field_is_noted_below_the_field_around_it() -> None:
    faults = Faults()
    with faults.within("subscription"):
        raise Invalid.field(Reason.FIELD_INVALID, "retry_policy.jitter", "is wrong")
    with pytest.raises(Invalid) as raised:
        faults.check()
    assert str(raised.value) == "subscription.retry_policy.jitter: is wrong"
    assert [violation.field for violation in raised.value.violations] == ["subscription.retry_policy.jitter"]


def test_what_is_no_fault_of_the_request_goes_through() -> None:
    with pytest.raises(NotFound), Faults().at("field"):
        raise NotFound(Reason.EVENT_NOT_FOUND, "gone")


def test_a_missing_field_is_raised_with_what_was_noted_before() -> None:
    faults = Faults()
    faults.invalid("a", "is wrong")
    error = faults.missing("b")
    assert [violation.field for violation in error.violations] == ["a", "b"]
