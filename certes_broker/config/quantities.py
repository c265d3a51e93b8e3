"""Sizes and durations as people write them: `"10GiB"`, `"7d"`, `"1h30m"`.

A size is in bytes, a duration in seconds; a bare number is in that unit. Texts are read whole or refused with
`Unfit`, whose message says what was wanted.
"""

from __future__ import annotations

import re
from typing import Final

SIZE_UNITS: Final = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
DURATION_UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Unfit(ValueError):
    """A value that a setting cannot have. The message goes on after the setting's name: "wants a size …"."""


def parse_size(text: str) -> int:
    """Reads a size such as `64 MiB`, `1.5GB` or `1048576` and returns bytes."""
    found = _SIZE.fullmatch(text.strip())
    unit = _SIZE_UNIT_OF.get((found[2] or "B").lower()) if found is not None else None
    if found is None or unit is None:
        raise Unfit(f'wants a size such as "10GiB", "64 MiB" or a number of bytes, not {text!r}')
    size = float(found[1]) * unit if "." in found[1] else int(found[1]) * unit
    return int(size)


def parse_duration(text: str) -> float:
    """Reads a duration such as `7d`, `1h30m`, `500ms` or `20` and returns seconds."""
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped):
        return float(stripped)
    terms = _DURATION_TERM.findall(stripped)
    if not terms or "".join(number + space + unit for number, space, unit in terms) != stripped.replace(" ", ""):
        return _refuse_duration(text)
    order = [list(DURATION_UNITS).index(unit) for _, _, unit in terms]
    if order != sorted(set(order)):
        return _refuse_duration(text)
    return sum(float(number) * DURATION_UNITS[unit] for number, _, unit in terms)


def format_size(size: int) -> str:
    """Spells a size in the largest binary unit that divides it: 4194304 is `4MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def format_duration(seconds: float) -> str:
    """Spells a duration in the largest unit of which it is a whole number: 604800 is `7d`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % DURATION_UNITS[unit] == 0:
            return f"{int(seconds // DURATION_UNITS[unit])}{unit}"
    return f"{seconds:.15g}s"


_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SIZE_UNIT_OF: Final = {unit.lower(): size for unit, size in SIZE_UNITS.items()}
_DURATION_TERM: Final = re.compile(r"(\d+(?:\.\d+)?)()(ms|d|h|m|s)")


def _refuse_duration(text: str) -> float:
    raise Unfit(f'wants a duration such as "7d", "1h30m", "20s" or a number of seconds, not {text!r}')
