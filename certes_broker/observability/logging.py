"""Logs: one structured event for each thing that happened, on standard error.

Rules
-----
* An event has a stable name and its facts as keys, never sentences with values in them: `log.info("lane_opened",
  subscription=name)`. Payloads, secrets and headers are no facts.
* What libraries log by the standard library's `logging` takes the same way out and has the same form.
* Times are UTC, ISO 8601. Tracebacks never show local variables, because those may be payloads or secrets.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import Processor

LogFormat = Literal["auto", "console", "json"]

STRANGERS_REQUESTS: Final = (
    "Invalid HTTP request",
    "Unsupported upgrade request",
    "No supported WebSocket library",
    "Exceeded concurrency limit",
)
"""How uvicorn's lines begin about requests that are no HTTP, ask for another protocol, or find no room."""


def configure_logging(level: str, format: LogFormat = "auto", stream: TextIO | None = None) -> None:  # noqa: A002  the setting's name
    """Sets up logging for the process: `level` is `debug`, `info`, `warning` or `error`.

    `auto` is `console` if the stream is a terminal, else `json`. The stream is standard error unless another is given.
    May be called again; the last call counts.
    """
    stream = sys.stderr if stream is None else stream
    is_terminal = stream.isatty()
    as_json = format == "json" or (format == "auto" and not is_terminal)
    severity = logging.getLevelNamesMapping()[level.upper()]

    # Both ways in, structlog and logging, pass these.
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        # Loggers at module level are made before this is called, and must not keep what was set before.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(as_json=as_json, is_terminal=is_terminal),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(severity)
    _route_libraries(severity)


def _rendering(*, as_json: bool, is_terminal: bool) -> list[Processor]:
    if as_json:
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    return [
        structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=structlog.dev.plain_traceback),
    ]


def _route_libraries(severity: int) -> None:
    """Takes away the handlers that libraries gave themselves, and quiets those that tell of every step."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "grpc", "grpc._cython.cygrpc", "asyncio"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    # One line a request would be a line an event, with the client's address in it; metrics count requests.
    logging.getLogger("uvicorn.access").setLevel(max(severity, logging.WARNING))
    # Anybody can send as many of these as they like, and would fill the log.
    logging.getLogger("uvicorn.error").addFilter(_is_no_stranger_s)
    # grpcio logs each header that is no text, with a traceback and the header itself, which may be a credential: anybody can send
    # as many as they like.
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_stranger_s)
    logging.captureWarnings(capture=True)


def _is_no_stranger_s(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(("Invalid encoding on", *STRANGERS_REQUESTS))
