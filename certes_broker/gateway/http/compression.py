"""Compressed bodies: gzip, undone within a limit.

A body of a few kilobytes can say that it is gigabytes, so never more is made of it than the limit and one byte, and that in
steps, between which the event loop has its turn.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from certes_broker.domain.errors import Invalid, Reason

GZIP: Final = (b"gzip", b"x-gzip")
"""Names of the content coding. "A recipient SHOULD consider "x-gzip" to be equivalent to "gzip"" (RFC 9110, 8.4.1.3)."""


async def decompress(body: bytes, limit: int) -> bytes | None:
    """Undoes gzip; returns None as soon as it is known to be more than `limit` bytes.

    Raises `Invalid` (PAYLOAD_MALFORMED) if the body is not one whole gzip member.
    """
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    pieces, size, rest = [], 0, body
    while not inflater.eof:
        try:
            piece = inflater.decompress(rest, min(_STEP, limit + 1 - size))
        except zlib.error as error:
            raise _malformed(str(error)) from error
        if not piece and not inflater.eof:
            raise _malformed("it ends too soon")
        size += len(piece)
        if size > limit:
            return None
        pieces.append(piece)
        rest = inflater.unconsumed_tail
        if len(piece) == _STEP:
            await asyncio.sleep(0)
    if inflater.unused_data:
        raise _malformed("something follows it")
    return b"".join(pieces)


_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_STEP: Final = 256 * 1024


def _malformed(problem: str) -> Invalid:
    return Invalid(Reason.PAYLOAD_MALFORMED, f"the body is declared as gzip, and is none: {problem}.")
