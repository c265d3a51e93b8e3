"""What a receiver's answer means to the question whether it consents, and when it is asked again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certes_broker.domain.consent import (
    ALLOWED_ORIGIN,
    ALLOWED_RATE,
    MINIMUM_ASKED,
    NOT_REQUIRED,
    UNASKED,
    Consent,
    Granted,
    NotRequired,
    Unasked,
    Withheld,
    after_answer,
    asked_anew,
    carried_over,
    is_given_up,
    is_missing,
    read_consent,
    wait_to_ask,
)
from certes_broker.domain.events import Micros
from certes_broker.domain.subscriptions import RateLimit, StoredSecret, WebhookDelivery

ORIGIN = "events.example.com"
NOW = Micros(1_700_000_000_000_000)
DAY = 86_400.0
WITHHELD = Withheld(Micros(5), "HTTP 405")
GRANTED = Granted(ORIGIN, Micros(7), 60)


def read(status: int | None = 200, error: str = "", **headers: str) -> Withheld | Granted:
    names = {"origin": ALLOWED_ORIGIN, "rate": ALLOWED_RATE}
    return read_consent(status, {names[key]: value for key, value in headers.items()}, error, ORIGIN, NOW)


@pytest.mark.parametrize("status", [200, 204, 302, 404, 405, 500])
def test_the_headers_alone_are_consent_whatever_the_status(status: int) -> None:
    assert read(status, origin=ORIGIN, rate="*") == Granted(ORIGIN, NOW)
    assert isinstance(read(status), Withheld)


@pytest.mark.parametrize("allowed", ["*", ORIGIN, ORIGIN.upper()])
def test_an_answer_must_allow_this_origin_or_any(allowed: str) -> None:
    assert read(origin=allowed) == Granted(ORIGIN, NOW)


@pytest.mark.parametrize("allowed", ["", "example.com", f"{ORIGIN}.evil.example", f"{ORIGIN}, other.example", "**"])
def test_an_answer_that_allows_another_origin_is_no_consent_and_says_which(allowed: str) -> None:
    answer = read(origin=allowed)
    assert isinstance(answer, Withheld)
    assert repr(allowed) in answer.reason
    assert ORIGIN in answer.reason


@pytest.mark.parametrize(("rate", "per_minute"), [("*", None), ("1", 1), ("120", 120), ("007", 7), ("9" * 30, None)])
def test_a_rate_is_requests_a_minute_or_any(rate: str, per_minute: int | None) -> None:
    assert read(origin="*", rate=rate) == Granted(ORIGIN, NOW, per_minute)


@pytest.mark.parametrize("rate", ["", "0", "000", "-1", "1.5", "1e3", "ten", "٣", "1 2"])
def test_an_answer_with_a_rate_that_is_none_is_no_consent(rate: str) -> None:
    answer = read(origin="*", rate=rate)
    assert isinstance(answer, Withheld)
    assert repr(rate) in answer.reason


def test_no_answer_is_no_consent_and_its_error_the_reason() -> None:
    assert read(None, "connection refused") == Withheld(NOW, "connection refused")


def test_of_a_long_answer_little_is_quoted() -> None:
    answer = read(origin="x" * 1000)
    assert isinstance(answer, Withheld)
    assert len(answer.reason) < 300


@pytest.mark.parametrize(
    ("consent", "missing"), [(NotRequired(), False), (Unasked(), True), (WITHHELD, True), (GRANTED, False)]
)
def test_nothing_may_be_sent_while_a_consent_that_is_required_is_missing(consent: Consent, missing: bool) -> None:
    assert is_missing(consent) is missing


@pytest.mark.parametrize("stored", [NOT_REQUIRED, UNASKED, WITHHELD, GRANTED])
def test_consent_is_for_one_url_and_for_as_long_as_it_is_required(stored: Consent) -> None:
    assert carried_over(stored, required=False, same_url=True) == NOT_REQUIRED
    assert carried_over(stored, required=True, same_url=False) == UNASKED
    kept = carried_over(stored, required=True, same_url=True)
    assert kept == (UNASKED if stored == NOT_REQUIRED else stored)


def test_who_is_asked_anew_must_be_asked_only_if_it_was_required() -> None:
    assert [asked_anew(one) for one in (NOT_REQUIRED, UNASKED, WITHHELD, GRANTED)] == [
        NOT_REQUIRED,
        UNASKED,
        UNASKED,
        UNASKED,
    ]


def test_who_goes_on_withholding_has_done_so_since_the_first_answer() -> None:
    later = Withheld(NOW, "HTTP 500")
    assert after_answer(WITHHELD, later, NOW) == replace(later, since=WITHHELD.since)
    assert after_answer(UNASKED, later, NOW) == after_answer(GRANTED, later, NOW) == later
    assert after_answer(WITHHELD, GRANTED, NOW) == GRANTED
    assert after_answer(NOT_REQUIRED, GRANTED, NOW) == NOT_REQUIRED


def test_an_answer_that_comes_after_that_to_a_later_question_counts_for_nothing() -> None:
    late = Withheld(NOW, "HTTP 503")
    assert after_answer(GRANTED, late, Micros(GRANTED.time - 1)) == GRANTED
    assert after_answer(GRANTED, late, GRANTED.time) == late


def test_a_receiver_is_asked_ever_more_seldom_and_at_last_once_an_hour() -> None:
    waits = [wait_to_ask(times, 0.0) for times in range(1, 200)]
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert waits == sorted(waits)
    assert waits[-1] == 3600.0
    assert wait_to_ask(1, 0.999) <= 6.0


def test_a_receiver_can_ask_to_be_asked_later_and_not_sooner() -> None:
    assert wait_to_ask(1, 0.0, 600.0) == 600.0
    assert wait_to_ask(5, 0.0, 1.0) == wait_to_ask(5, 0.0)


def test_a_receiver_is_given_up_after_days_in_which_it_was_asked_often_enough() -> None:
    since = Withheld(Micros(NOW - int(5 * DAY * 1_000_000)), "no")
    assert is_given_up(since, MINIMUM_ASKED, 5 * DAY, NOW)
    assert not is_given_up(since, MINIMUM_ASKED, 5 * DAY, Micros(NOW - 1))
    assert not is_given_up(since, MINIMUM_ASKED - 1, 5 * DAY, NOW)
    assert not is_given_up(UNASKED, MINIMUM_ASKED, 0.0, NOW)
    assert not is_given_up(GRANTED, MINIMUM_ASKED, 0.0, NOW)


@pytest.mark.parametrize(
    ("limit", "per_minute", "pace"),
    [
        (None, None, None),
        (RateLimit(5), None, RateLimit(5)),
        (None, 60, RateLimit(60, 60.0)),
        (RateLimit(5), 60, RateLimit(60, 60.0)),
        (RateLimit(5), 600, RateLimit(5)),
        (RateLimit(1, 3600.0), 1, RateLimit(1, 3600.0)),
        (None, 60_000, RateLimit(1000)),
        (None, 999_999_999, RateLimit(10_000)),
    ],
)
def test_the_smaller_of_the_wanted_and_the_allowed_rate_holds(
    limit: RateLimit | None, per_minute: int | None, pace: RateLimit | None
) -> None:
    consent = Granted(ORIGIN, NOW, per_minute)
    assert WebhookDelivery("https://a/", (StoredSecret("s"),), rate_limit=limit, consent=consent).pace == pace
