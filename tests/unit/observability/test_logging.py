from __future__ import annotations

import io
import json
import logging
import warnings
from inspect import getsource

import pytest
import structlog
from uvicorn.protocols.http import httptools_impl

from certes_broker.observability.logging import STRANGERS_REQUESTS, configure_logging


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Logging belongs to the process; what these tests set up must not outlive them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream():
    return io.StringIO()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_a_utc_time(stream):
    configure_logging("info", "json", stream)
    structlog.get_logger("certes.lanes").info("lane_opened", subscription="é", outstanding=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "lane_opened",
        "level": "info",
        "logger": "certes.lanes",
        "subscription": "é",
        "outstanding": 3,
    }


def test_what_libraries_log_takes_the_same_way(stream):
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(io.StringIO()))
    configure_logging("info", "json", stream)
    logging.getLogger("uvicorn.error").warning("It is %s", "late")
    logging.getLogger("asyncio").error("late")
    first, second = lines(stream)
    assert (first["event"], first["level"], first["logger"]) == ("It is late", "warning", "uvicorn.error")
    assert second["logger"] == "asyncio"


def test_what_is_below_the_level_is_not_logged(stream):
    configure_logging("warning", "json", stream)
    structlog.get_logger("x").info("quiet")
    logging.getLogger("x").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_headers_that_are_no_text_are_not_logged_one_by_one(stream):
    configure_logging("info", "json", stream)
    # grpcio logs these as errors, with what the stranger sent.
    logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on %s", b"\xffsecret")
    logging.getLogger("grpc._cython.cygrpc").error("Something else")
    assert [line["event"] for line in lines(stream)] == ["Something else"]


def test_requests_that_are_none_are_not_logged_one_by_one(stream):
    configure_logging("info", "json", stream)
    for line in STRANGERS_REQUESTS:
        # A server that words it otherwise is not taken unseen.
        assert f'"{line}' in getsource(httptools_impl)
        logging.getLogger("uvicorn.error").warning(line)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    assert [line["event"] for line in lines(stream)] == ["Exception in ASGI application"]


def test_requests_are_not_logged_one_by_one(stream):
    configure_logging("info", "json", stream)
    logging.getLogger("uvicorn.access").info("GET /")
    assert lines(stream) == []


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(stream, form):
    configure_logging("info", form, stream)
    secret = "hush"
    try:
        raise KeyError(len(secret))
    except KeyError:
        structlog.get_logger("x").exception("lane_failed")
    assert "KeyError: 4" in stream.getvalue()
    assert "hush" not in stream.getvalue()


def test_auto_is_json_where_there_is_no_terminal(stream):
    configure_logging("info", "auto", stream)
    structlog.get_logger("x").info("started")
    assert lines(stream)[0]["event"] == "started"


def test_the_console_is_for_reading(stream):
    configure_logging("info", "console", stream)
    structlog.get_logger("x").info("started", port=1)
    assert "started" in stream.getvalue()
    assert "port=1" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_loggers_made_before_take_up_what_is_set_now(stream):
    log = structlog.get_logger("x")
    configure_logging("info", "json", io.StringIO())
    log.info("first")
    configure_logging("info", "json", stream)
    log.info("second")
    assert [line["event"] for line in lines(stream)] == ["second"]


def test_warnings_of_python_are_logged(stream):
    configure_logging("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "old" in lines(stream)[0]["event"]
