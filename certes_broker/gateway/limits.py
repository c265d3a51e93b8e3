"""Bounds of the public contract, which every door keeps."""

from __future__ import annotations

from typing import Final

MAXIMUM_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""The longest request message."""
MAXIMUM_EVENTS: Final = 1_000
"""Events in one request."""
MAXIMUM_SELECTORS: Final = 1_000
MAXIMUM_OPTIONS: Final = 16
"""Options of one selector."""
MAXIMUM_FILTER: Final = 4_096
"""Characters of a filter."""
MAXIMUM_LABELS: Final = 64
MAXIMUM_URL_LENGTH: Final = 2_048
MAXIMUM_ORDINAL_RANGES: Final = 10_000
"""Ranges in one acknowledgement."""
MAXIMUM_NACK_REASON_BYTES: Final = 1_024
MAXIMUM_REQUEST_ID_BYTES: Final = 128

DEFAULT_PAGE_SIZE: Final = 100
MAXIMUM_PAGE_SIZE: Final = 1_000
DEFAULT_OUTSTANDING: Final = 1_000
MAXIMUM_OUTSTANDING: Final = 100_000
MAXIMUM_OUTSTANDING_BYTES: Final = 64 * 1024 * 1024

SECOND: Final = 1.0
MINUTE: Final = 60.0
HOUR: Final = 3_600.0
DAY: Final = 86_400.0
