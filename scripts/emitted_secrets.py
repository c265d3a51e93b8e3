"""Looks for secrets in what a broker tells: by their shape, and by name where one knows what the broker was given.

Rules
-----
* What has the shape of a secret is one, wherever it comes from: nothing that a broker tells has use for an example.
* What is found is told with the line that it stands in, and never shown.
* Secrets are told only by the answers of the methods in `TELLING`. What such an answer tells is a secret everywhere else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from certes_broker.config.nats_kinds import Secret
from certes_broker.config.settings import known_settings
from certes_broker.config.source_tables import is_secrets_variable

SHORTEST: Final = 6
"""Characters of what is looked for by name. Shorter ones are in other words, too."""
SHOWN: Final = 300
TELLING: Final = frozenset(
    {"CreateApiKey", "CreateSource", "GetSigningSecrets", "RotateSecret", "RotateSourceSecret", "UpdateSource"}
)
"""Methods whose answers are there to tell a secret, or tell one that they have made."""

# Each begins with a letter or two of its own, so that a text without it is passed over quickly.
_SHAPES: Final = {
    "a webhook's secret": r"whs(?:ec|k)_[A-Za-z0-9+/=_-]{8,}",
    "an API key": r"certes_[a-z0-9][a-z0-9-]{0,62}_[A-Za-z0-9_-]{32,}",
    "a token": r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "a credential": r"B(?:earer|asic) +[A-Za-z0-9._~+/=-]{12,}",
    "a password in a URL": r"://[^/\s:@\"'\x00-\x1f]*:[^/\s@\"'\x00-\x1f]+@",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a seed of NATS": r"S[UAO][A-Z2-7]{56}\b",
}
_SHAPED: Final = [(kind, re.compile(shape)) for kind, shape in _SHAPES.items()]
_TOLD: Final = re.compile(r"""\b(?:secret|key)"?: *"(?!whpk_)([^"]+)\"""")
"""As JSON and protobuf's text format spell it. Of a key pair the public half is told, which is no secret."""
_PREFIXES: Final = ("whsec_", "whsk_")
_SETTINGS: Final = [setting for setting in known_settings() if isinstance(setting.default, Secret)]


class SecretEmitted(AssertionError):
    """A broker has told a secret."""


def find_secrets(text: str, given: Iterable[str]) -> list[str]:
    """Returns what is wrong with a text: for each line with a secret, what it is and the line without it."""
    named = _named(frozenset(given))
    kinds = [("a secret that it was given", named), *_SHAPED] if named else _SHAPED
    if not any(shape.search(text) for _, shape in kinds):
        return []
    found = []
    for line in text.splitlines():
        masked, told = line, []
        for kind, shape in kinds:
            masked, count = shape.subn("…", masked)
            if count:
                told.append(kind)
        if told:
            found.append(f"{' and '.join(told)} in: {masked[:SHOWN]}")
    return found


def secrets_told(answer: str) -> set[str]:
    """Returns what an answer tells that is there to tell a secret."""
    return set(_TOLD.findall(answer))


def secrets_given(config: Path | None, environ: Mapping[str, str]) -> set[str]:
    """Returns the secrets that a configuration file and an environment hold, however mistaken they are otherwise."""
    try:
        document: dict[str, object] = {} if config is None else tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        document = {}
    found: set[str] = set()
    for setting in _SETTINGS:
        found.update(_texts(_at(document, setting.path)), _texts(environ.get(setting.variable)))
        file = _at(document, (*setting.path[:-1], f"{setting.path[-1]}_file")) or environ.get(
            f"{setting.variable}_FILE"
        )
        if isinstance(file, str) and Path(file).is_file():
            found.update(Path(file).read_text(encoding="utf-8", errors="replace").split())
    sources = document.get("sources")
    for source in sources if isinstance(sources, list) else ():
        found.update(_texts(source.get("secrets") if isinstance(source, dict) else None))
    for variable, value in environ.items():
        if is_secrets_variable(variable):
            found.update(_texts(value))
    return found


@lru_cache
def _named(given: frozenset[str]) -> re.Pattern[str] | None:
    """Returns what finds these secrets and their parts; nothing if there are none long enough."""
    known = {part for secret in given for part in _parts(secret) if len(part) >= SHORTEST}
    return re.compile("|".join(re.escape(one) for one in sorted(known, key=len, reverse=True))) if known else None


def _at(document: object, path: Iterable[str]) -> object:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield from (part.strip() for part in value.split(","))


def _parts(secret: str) -> Iterator[str]:
    """Yields a secret, and what of it is one without the rest."""
    yield secret
    for prefix in _PREFIXES:
        if secret.startswith(prefix):
            yield secret.removeprefix(prefix)
    if secret.startswith("certes_"):
        yield secret.rpartition("_")[2]
