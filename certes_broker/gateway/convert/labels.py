"""Labels of resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import MAXIMUM_LABELS


def read_labels(faults: Faults, field: str, labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Returns labels by key; none if there are too many."""
    if len(labels) > MAXIMUM_LABELS:
        faults.invalid(field, f"has {len(labels)} labels; {MAXIMUM_LABELS} are allowed")
        return ()
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            faults.invalid(f"{field}[{key[:_VALUE_LENGTH]!r}]", "a key is 1 to 63 characters of a-z, 0-9, _ and -")
        elif len(value) > _VALUE_LENGTH:
            faults.invalid(f"{field}[{key!r}]", f"has {len(value)} characters; {_VALUE_LENGTH} are allowed")
    return tuple(sorted(labels.items()))


_KEY: Final = re.compile(r"[a-z0-9_-]{1,63}")
_VALUE_LENGTH: Final = 63
