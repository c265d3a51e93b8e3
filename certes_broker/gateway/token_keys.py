"""The public keys of an issuer of tokens: read from a file, or from where the issuer publishes them.

Rules
-----
* A key is good for one algorithm, which follows from what kind of key it is: RS256 for RSA of 2048 bits or more, EdDSA for
  Ed25519. What a token's header says can choose among keys, never how one is used; symmetric keys are no public keys.
* Published keys are read again when they are older than `FRESH`, and at once for a token signed with a key that is not among
  them, as an issuer may begin to use a key the moment it publishes it. Anybody can make up ids of keys, so that is done at most
  every `PATIENCE`, whatever comes.
* If they cannot be read, or not within `READ_TIMEOUT`, those that were read last go on serving. A token whose key is not among these cannot be judged then,
  nor can any where none ever were read: callers are told to try again, and not that their token is bad.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from certes_broker.domain.errors import Invalid, Reason, Unavailable
from certes_broker.ports.clock import Clock

FRESH: Final = 600.0
PATIENCE: Final = 30.0
FETCH_TIMEOUT: Final = 10.0
"""Seconds that each step of a fetch may take."""
READ_TIMEOUT: Final = 15.0
"""Seconds for which anybody waits for a fetch. One that answers byte by byte goes on, and no other begins beside it."""
LARGEST_SET: Final = 1 << 20
LEAST_RSA_BITS: Final = 2048

PublicKey = RSAPublicKey | Ed25519PublicKey

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A public key. `id` is its `kid`, empty where it has none."""

    id: str
    algorithm: str
    key: PublicKey


def read_keys(text: str) -> tuple[TokenKey, ...]:
    """Returns the usable keys of a JSON Web Key Set, or of public keys in PEM.

    Raises `ValueError` if there are none, or the text is neither.
    """
    keys = tuple(_from_pem(text) if text.lstrip().startswith("-----BEGIN") else _from_set(text))
    if not keys:
        raise ValueError("there is none for RS256 (RSA of 2048 bits or more) or EdDSA (Ed25519)")
    return keys


def keys_of_file(file: Path) -> tuple[TokenKey, ...]:
    """Returns the keys in a file. Raises `Invalid` (SETTINGS_INVALID)."""
    try:
        return read_keys(file.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (ValueError, UnsupportedAlgorithm) as error:
        problem = (
            f"holds no public keys: it {error}" if str(error).startswith("has") else f"holds no public keys: {error}"
        )
    raise Invalid(Reason.SETTINGS_INVALID, f"The settings cannot be used: auth.jwt_keys: {file} {problem}.")


class FixedKeys:
    """Keys that stay what they are."""

    def __init__(self, keys: Sequence[TokenKey]) -> None:
        self._keys = tuple(keys)

    async def current(self, key_id: str) -> tuple[TokenKey, ...]:
        """Returns all keys."""
        return self._keys


class PublishedKeys:
    """Keys that an issuer publishes. `fetch` reads them, and may block."""

    def __init__(self, fetch: Callable[[], str], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._turn = asyncio.Lock()
        self._keys: tuple[TokenKey, ...] = ()
        self._tried: float | None = None
        self._looked: float | None = None
        self._has_failed = False
        self._reading: asyncio.Future[tuple[TokenKey, ...]] | None = None

    async def current(self, key_id: str) -> tuple[TokenKey, ...]:
        """Returns all keys, read again if they are old or do not have the one of an id.

        Raises `Unavailable` (TOKEN_KEYS_UNAVAILABLE) if there are none, or if that one is not there and they could not be read.
        """
        if self._is_due(key_id):
            async with self._turn:
                if self._is_due(key_id):
                    await self._read(key_id)
        if not self._keys or (self._has_failed and self._lacks(key_id) and not self._has("")):
            raise Unavailable(
                Reason.TOKEN_KEYS_UNAVAILABLE,
                "The keys that this token would be verified by cannot be read now.",
                hint="Try again later. The broker's log says why.",
                retry_after=PATIENCE,
            )
        return self._keys

    def _is_due(self, key_id: str) -> bool:
        if self._tried is None:
            return True
        if self._reading is not None and not self._reading.done():
            return False
        now = self._clock.monotonic()
        if not self._keys:
            return now - self._tried >= PATIENCE
        if self._lacks(key_id) and (self._looked is None or now - self._looked >= PATIENCE):
            return True
        return now - self._tried >= FRESH

    def _lacks(self, key_id: str) -> bool:
        return bool(key_id) and not self._has(key_id)

    def _has(self, key_id: str) -> bool:
        return any(key.id == key_id for key in self._keys)

    async def _read(self, key_id: str) -> None:
        self._tried = self._clock.monotonic()
        if self._keys and self._lacks(key_id):
            self._looked = self._tried
        reading = asyncio.get_running_loop().run_in_executor(None, lambda: read_keys(self._fetch()))
        self._reading = reading
        reading.add_done_callback(self._take)
        over = asyncio.Event()
        alarm = self._clock.alarm(READ_TIMEOUT, over.set)
        reading.add_done_callback(lambda _: over.set())
        try:
            # Whoever asked may go away meanwhile. What is read counts all the same, or somebody could see to it that nothing ever is.
            await over.wait()
        finally:
            alarm.cancel()
        if not reading.done():
            self._has_failed = True
            log.warning("token_keys_not_read", error=f"not within {READ_TIMEOUT:g} s", serving=len(self._keys))

    def _take(self, reading: asyncio.Future[tuple[TokenKey, ...]]) -> None:
        if reading.cancelled():
            return
        error = reading.exception()
        self._has_failed = error is not None
        if error is None:
            self._keys = reading.result()
        else:
            log.warning("token_keys_not_read", error=str(error) or type(error).__name__, serving=len(self._keys))


def fetch_keys(url: str) -> str:
    """Reads a JSON Web Key Set from where it is published. Raises `OSError` and `ValueError`."""
    with _OPENER.open(url, timeout=FETCH_TIMEOUT) as answer:
        body: bytes = answer.read(LARGEST_SET + 1)
    if len(body) > LARGEST_SET:
        raise ValueError(f"there are more than {LARGEST_SET} bytes")
    return body.decode()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows none: keys come from where the operator said, and by TLS."""

    def redirect_request(self, *_: Any) -> None:
        return None


# Without TLS, keys come from this machine alone, and from no proxy that the environment names for all that is not on it.
_PROXIES: Final = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme == "https"}
_OPENER: Final = urllib.request.build_opener(_NoRedirects(), urllib.request.ProxyHandler(_PROXIES))


def _from_set(text: str) -> Iterator[TokenKey]:
    # Imported here because most brokers take no tokens.
    from jwt import PyJWK  # noqa: PLC0415
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    document = json.loads(text)
    for one in document.get("keys", ()) if isinstance(document, dict) else ():
        # A set may hold what is for others: keys for encryption, of other algorithms, or symmetric ones.
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") not in ("RSA", "OKP"):
            continue
        try:
            key = PyJWK(one).key
        except (PyJWTError, ValueError):
            continue
        yield from _usable(str(one.get("kid", "")), key, one.get("alg"))


def _from_pem(text: str) -> Iterator[TokenKey]:
    for block in text.split(_PEM_END)[:-1]:
        yield from _usable("", load_pem_public_key((block.strip() + _PEM_END).encode()), None)


def _usable(key_id: str, key: object, said: object) -> Iterator[TokenKey]:
    algorithm = ""
    if isinstance(key, RSAPublicKey) and key.key_size >= LEAST_RSA_BITS:
        algorithm = "RS256"
    elif isinstance(key, Ed25519PublicKey):
        algorithm = "EdDSA"
    if algorithm and isinstance(key, RSAPublicKey | Ed25519PublicKey) and said in (None, algorithm):
        yield TokenKey(key_id, algorithm, key)


_PEM_END: Final = "-----END PUBLIC KEY-----"
