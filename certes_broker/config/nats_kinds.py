"""The kinds of values that say which engine keeps everything, and how it gets at its servers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from certes_broker.config.kinds import Kind
from certes_broker.config.quantities import Unfit

EMBEDDED: Final = "sqlite"
_PORT: Final = 4222
_SCHEMES: Final = ("nats", "tls")
_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Which engine: the embedded one without `urls`, else that on the NATS servers at these."""

    urls: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded engine."""
        return not self.urls

    def __str__(self) -> str:
        if self.is_embedded:
            return EMBEDDED
        scheme = self.urls[0].partition("://")[0]
        return f"{scheme}://" + ",".join(url.partition("://")[2] for url in self.urls)


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is never shown."""

    text: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.text and "…"


def _read_engine(value: object) -> EngineAddress:
    text = _text(value, "an engine")
    if text == EMBEDDED:
        return EngineAddress()
    if "@" in text:
        raise Unfit("holds a user: name a file of credentials, or a token, in [nats] instead, where it is not shown")
    scheme, _, servers = text.partition("://")
    if scheme not in _SCHEMES or not servers:
        raise Unfit(f'wants "sqlite", or NATS servers such as "nats://a.example.com,b.example.com:4222", not {text!r}')
    found: list[str] = []
    for server in servers.rstrip("/").split(","):
        named = server.strip().removeprefix(f"{scheme}://")
        if _SERVER.fullmatch(named) is None:
            raise Unfit(f"wants host names with or without a port, separated by commas, not {named!r}")
        port = urlsplit(f"//{named}").port
        found.append(f"{scheme}://{named}" if port else f"{scheme}://{named}:{_PORT}")
    return EngineAddress(tuple(found))


def _read_prefix(value: object) -> str:
    text = _text(value, "a prefix")
    if _PREFIX.fullmatch(text) is None:
        raise Unfit(f"wants 1 to 32 letters, digits, hyphens and underscores, not {text!r}")
    return text


def _read_file(value: object) -> Path | None:
    text = _text(value, "the path of a file")
    return Path(text).expanduser() if text else None


def _read_secret(value: object) -> Secret:
    if not isinstance(value, str):
        raise Unfit("wants a text in quotes")
    return Secret(value)


def _read_monitoring(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Unfit("wants a list in brackets")
    found = []
    for item in value:
        text = _text(item, "an address").removeprefix("http://").rstrip("/")
        if "@" in text:
            raise Unfit("holds a user: servers that are monitored ask for none")
        if _SERVER.fullmatch(text) is None:
            raise Unfit(f'wants addresses such as "http://127.0.0.1:8222", not {item!r}')
        found.append(f"http://{text}")
    return tuple(found)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Unfit(f"wants {what} in quotes, not {value!r:.80}")
    return value


def _quoted(value: object) -> str:
    return f'"{value}"'


def _items(text: str) -> object:
    return [item.strip() for item in text.split(",") if item.strip()]


ENGINE: Final = Kind("engine", _read_engine, str.strip, _quoted)
PREFIX: Final = Kind("name", _read_prefix, str.strip, _quoted)
FILE: Final[Kind[Path | None]] = Kind("path", _read_file, str, lambda value: _quoted("" if value is None else value))
SECRET: Final = Kind("text", _read_secret, str, lambda value: _quoted(value.text))
MONITORING: Final = Kind(
    "list of addresses", _read_monitoring, _items, lambda values: "[" + ", ".join(map(_quoted, values)) + "]"
)
