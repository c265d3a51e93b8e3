"""A user's credentials for NATS servers: the file that `nsc` writes, with the user's JWT and the seed of its key.

Rules
-----
* The file is read and judged before a connection is made, and again whenever the servers ask who this is: so it may be
  replaced while the broker runs. Where it cannot be read then, what it said before is used.
* Of what it holds, only the JWT and a signature go to a server; neither is shown to anybody.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import nkeys
import structlog

from certes_broker.domain.errors import FailedPrecondition, Reason

_JWT: Final = "NATS USER JWT"
_SEED: Final = "USER NKEY SEED"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _User:
    """What a file holds."""

    jwt: str = field(repr=False)
    key: nkeys.KeyPair = field(repr=False)


class Credentials:
    """A file of credentials. Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) where it is none, when it is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._user = _read(path)

    def sign(self, nonce: str) -> bytes:
        """Returns the signature of what a server asks to be signed, in base64; and reads the file anew."""
        try:
            self._user = _read(self._path)
        except FailedPrecondition as error:
            log.warning("nats_credentials_kept", error=str(error))
        return base64.b64encode(self._user.key.sign(nonce.encode()))

    def jwt(self) -> bytearray:
        """Returns the JWT that goes with the last signature."""
        return bytearray(self._user.jwt.encode())


def _read(path: Path) -> _User:
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise _unusable(path, f"it cannot be read ({why})") from error
    jwt, seed = _after(_JWT, lines), _after(_SEED, lines)
    for told, found in ((_JWT, jwt), (_SEED, seed)):
        if not found:
            raise _unusable(path, f"nothing follows a line with BEGIN {told}")
    try:
        return _User(jwt, nkeys.from_seed(seed.encode()))
    except (nkeys.NkeysError, ValueError) as error:
        raise _unusable(path, "its seed is no key") from error


def _after(begin: str, lines: list[str]) -> str:
    """Returns the line after the one that begins a part; an empty one where there is none."""
    for line, following in pairwise(lines):
        if f"BEGIN {begin}" in line:
            return following.strip()
    return ""


def _unusable(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.STORAGE_UNAVAILABLE,
        f"The file of credentials for the NATS servers, {path}, cannot be used: {why}.",
        hint="Name the .creds file of a user, as `nsc generate creds` writes it, in nats.credentials.",
    )
