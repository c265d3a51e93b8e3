"""The kinds of values that settings have: how each is read, spelled and named.

A kind reads what TOML gives (`read`), and turns the text of an environment variable or a flag into such a value first
(`from_text`). What cannot be meant raises `Unfit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from certes_broker.config.quantities import Unfit, format_duration, format_size, parse_duration, parse_size
from certes_broker.domain.errors import CertesError, Invalid
from certes_broker.domain.open_namespaces import parse_namespace
from certes_broker.domain.uris import parse_event_type

T = TypeVar("T")
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. Port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """`host:port`, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. Of names, only `localhost` is known to."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value. `name` is for the reference; `spell` writes a value as TOML has it."""

    name: str
    read: Callable[[object], T]
    from_text: Callable[[str], object]
    spell: Callable[[T], str]


def _quoted(value: object) -> str:
    return f'"{value}"'


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit(f"wants a text in quotes, not {_shown(value)}")
    return value


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unfit(f"wants true or false, not {_shown(value)}")
    return value


def _flag_from_text(text: str) -> object:
    flag = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    return flag.get(text.strip().lower(), text)


def _read_whole_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit(f"wants a whole number, not {_shown(value)}")
    return value


def _whole_number_from_text(text: str) -> object:
    return int(text) if _WHOLE_NUMBER.fullmatch(text.strip()) else text


def _read_size(value: object) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unfit(f'wants a size such as "10GiB" or a number of bytes, not {_shown(value)}')
    return value


def _read_duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise Unfit(f'wants a duration such as "7d" or a number of seconds, not {_shown(value)}')
    return float(value)


def _read_path(value: object) -> Path:
    text = _read_text(value)
    if not text:
        raise Unfit("wants the path of a directory, not an empty text")
    return Path(text).expanduser()


def _read_address(value: object) -> Address:
    found = _ADDRESS.fullmatch(_read_text(value))
    if found is None:
        raise Unfit(f'wants an address such as "127.0.0.1:9600" or "[::1]:9600", not {_shown(value)}')
    port = int(found["port"])
    if port > 65535:
        raise Unfit(f"wants a port from 0 to 65535, not {port}")
    return Address(found["literal"] or found["host"], port)


def _read_domain(value: object) -> str:
    text = _read_text(value)
    if "/" not in text:
        try:
            return parse_event_type(f"{text}/_/1/event").domain
        except CertesError as error:
            raise Unfit(f"wants a DNS name, not {_shown(value)}: {error.metadata['problem']}") from None
    raise Unfit(f"wants a DNS name without a scheme, port or path, not {_shown(value)}")


def _read_host(value: object) -> str:
    text = _read_text(value)
    if _HOST.fullmatch(text) is None:
        raise Unfit(f'wants host names such as "events.example.com" or "localhost:8080", not {_shown(value)}')
    return text.lower()


def _read_namespace(value: object) -> str:
    try:
        return "/".join(parse_namespace(_read_text(value)))
    except Invalid as error:
        raise Unfit(error.message) from None


def _read_network(value: object) -> Network:
    try:
        return ip_network(_read_text(value))
    except ValueError as error:
        raise Unfit(f'wants networks such as "10.0.0.0/8" or "fd00::/8": {error}') from None


def _list_of(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def read_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Unfit(f"wants a list in brackets, not {_shown(value)}")
        return tuple(read(item) for item in value)

    return read_list


def _list_from_text(text: str) -> object:
    return [item.strip() for item in text.split(",") if item.strip()]


def _spell_list(values: Sequence[object]) -> str:
    return "[" + ", ".join(_quoted(value) for value in values) + "]"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value)[:80]


def choice(*words: str) -> Kind[Any]:
    """Makes the kind of a text that is one of `words`."""

    def read(value: object) -> str:
        if value not in words:
            raise Unfit(f"wants one of {', '.join(_quoted(word) for word in words)}, not {_shown(value)}")
        return str(value)

    return Kind(" or ".join(_quoted(word) for word in words), read, str.strip, _quoted)


_WHOLE_NUMBER: Final = re.compile(r"[+-]?\d+")
_ADDRESS: Final = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d{1,6})")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")

FLAG: Final = Kind("true or false", _read_flag, _flag_from_text, lambda value: "true" if value else "false")
WHOLE_NUMBER: Final = Kind("whole number", _read_whole_number, _whole_number_from_text, str)
SIZE: Final = Kind("size", _read_size, str, lambda value: _quoted(format_size(value)))
DURATION: Final = Kind("duration", _read_duration, str, lambda value: _quoted(format_duration(value)))
PATH: Final = Kind("path", _read_path, str, lambda value: _quoted(f"./{value}"))
ADDRESS: Final = Kind("host:port", _read_address, str.strip, _quoted)
DOMAIN: Final = Kind("DNS name", _read_domain, str.strip, _quoted)
HOSTS: Final = Kind("list of host names", _list_of(_read_host), _list_from_text, _spell_list)
NAMESPACES: Final = Kind("list of namespaces", _list_of(_read_namespace), _list_from_text, _spell_list)
NETWORKS: Final = Kind("list of networks", _list_of(_read_network), _list_from_text, _spell_list)
