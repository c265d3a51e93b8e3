"""What the answer to a webhook means."""

from __future__ import annotations

import pytest

from certes_broker.domain.answers import DISABLE_REASON, GONE_REASON, Abort, Delivered, Disable, Failed, read_answer
from certes_broker.domain.retry import MAXIMUM_ASKED


def control(word: str) -> dict[str, str]:
    return {"webhook-delivery": word}


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize("headers", [{}, control("abort"), control("whatever"), {"retry-after": "7"}])
def test_every_2xx_is_delivered(status, headers):
    assert read_answer(status, headers, 0.0) == Delivered()


@pytest.mark.parametrize("status", [100, 199, 300, 301, 400, 404, 500, 599])
@pytest.mark.parametrize("headers", [{}, control(""), control("abort it"), {"retry-after": "7"}])
def test_every_other_status_has_failed(status, headers):
    assert read_answer(status, headers, 0.0) == Failed()


@pytest.mark.parametrize("headers", [{}, control("abort")])
def test_who_is_gone_wants_nothing_more(headers):
    assert read_answer(410, headers, 0.0) == Disable(GONE_REASON, delivered=False)


@pytest.mark.parametrize("word", ["disable", " Disable ", "DISABLE"])
@pytest.mark.parametrize(("status", "delivered"), [(200, True), (204, True), (410, False), (500, False)])
def test_who_says_disable_wants_nothing_more_whatever_the_status(word, status, delivered):
    assert read_answer(status, control(word), 0.0) == Disable(DISABLE_REASON, delivered)


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_who_says_abort_will_never_take_it(status):
    assert read_answer(status, control("abort") | {"retry-after": "7"}, 0.0) == Abort()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "asked"), [("7", 7.0), ("0", 0.0), ("999999999999", MAXIMUM_ASKED), ("soon", None), ("-7", None)]
)
def test_who_says_when_is_heard_within_bounds(status, value, asked):
    assert read_answer(status, {"retry-after": value}, 0.0) == Failed(asked)
