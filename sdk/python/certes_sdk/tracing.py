"""Trace context, taken from and put into OpenTelemetry's API.

The API is no dependency: where nobody in the process has imported it, no span can be current, and nothing is asked of it.
"""

from __future__ import annotations

import sys
from contextvars import Context
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_API: Final = "opentelemetry.trace"


def is_present() -> bool:
    """Says whether anything can be current at all."""
    return _API in sys.modules


def current() -> tuple[str, str]:
    """Returns `traceparent` and `tracestate` of the current span; empty where there is none. Only where the API is present."""
    trace: Any = sys.modules[_API]
    if not trace.get_current_span().get_span_context().is_valid:
        return "", ""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent", ""), carrier.get("tracestate", "")


def continue_in(context: Context, traceparent: str, tracestate: str) -> None:
    """Makes a trace context the current one of a context."""
    if not is_present():
        return
    carrier = {"traceparent": traceparent}
    if tracestate:
        carrier["tracestate"] = tracestate
    attach = import_module("opentelemetry.context").attach
    context.run(attach, _propagator().extract(carrier))


def _propagator() -> Any:
    module: ModuleType = import_module("opentelemetry.trace.propagation.tracecontext")
    return module.TraceContextTextMapPropagator()
