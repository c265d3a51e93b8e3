"""The kinds of values that say how callers prove who they are."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from certes_broker.config.kinds import Kind
from certes_broker.config.nats_kinds import Secret
from certes_broker.config.quantities import Unfit
from certes_broker.domain.api_keys import read_key


def check_key(text: str) -> str:
    """Returns a text that is an API key. Raises `Unfit`, without showing it."""
    if read_key(text) is None:
        raise Unfit("wants a key of the form certes_{id}_{secret}; `certes keys generate` prints one")
    return text


def _read_key(value: object) -> Secret:
    if not isinstance(value, str):
        raise Unfit("wants a key in quotes")
    return Secret(check_key(value) if value else "")


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit(f"wants a text in quotes, not {value!r:.80}")
    return value


def _read_url(value: object) -> str:
    text = _read_text(value)
    if "@" in text:
        raise Unfit("holds credentials: keys are published for everybody, and no address of theirs has an @")
    parts = urlsplit(text)
    is_local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if text and not (parts.hostname and (parts.scheme == "https" or is_local)):
        raise Unfit(
            f'wants an address such as "https://id.example.com/jwks.json", with http for loopback only, not {text!r:.80}'
        )
    return text


def _quoted(value: object) -> str:
    return f'"{value}"'


KEY: Final = Kind("text", _read_key, str.strip, lambda value: _quoted(value.text))
TEXT: Final = Kind("text", _read_text, str.strip, _quoted)
KEYS_URL: Final = Kind("URL", _read_url, str.strip, _quoted)
