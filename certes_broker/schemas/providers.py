"""The providers of the community catalogue: who sends webhooks, and how they come in.

A provider is data: `certes/community/<provider>/provider.toml`, beside the protos of its event types. Its name is that of
the folder. The format is written down in CONTRIBUTING.md, and read here as strictly as the configuration is: a key that
is not known is a mistake, and refused with the file and the key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.sources import CUSTOM, Provider, parse_source_name
from certes_broker.schemas.webhook_tables import Table, read_challenge, read_mapping, read_signature

PROVIDER_FILE: Final = "provider.toml"
CATALOGUE: Final = "certes.community"


@cache
def shipped_providers() -> Mapping[str, Provider]:
    """Returns the providers that this broker is shipped with, by name."""
    return read_providers(files(CATALOGUE))


def read_providers(catalogue: Traversable) -> Mapping[str, Provider]:
    """Returns the providers of a catalogue, by name: each folder with a `provider.toml` is one.

    Raises `Invalid` / `SETTINGS_INVALID`, with the file and the key at fault.
    """
    providers = {}
    for folder in sorted(catalogue.iterdir(), key=lambda folder: folder.name):
        file = folder / PROVIDER_FILE
        if file.is_file():
            providers[folder.name] = read_provider(folder.name, file.read_text(encoding="utf-8"))
    return MappingProxyType(providers)


def read_provider(name: str, text: str) -> Provider:
    """Reads the definition of one provider. Raises `Invalid` / `SETTINGS_INVALID`, with the file and the key at fault."""
    try:
        return _read(name, text)
    except (Invalid, tomllib.TOMLDecodeError) as error:
        violations = error.violations if isinstance(error, Invalid) else ()
        raise Invalid(
            Reason.SETTINGS_INVALID, f"{name}/{PROVIDER_FILE}: {error}", violations=violations, metadata={"file": name}
        ) from None


def _read(name: str, text: str) -> Provider:
    if parse_source_name(name) == CUSTOM:
        raise Invalid(Reason.SETTINGS_INVALID, f"{CUSTOM!r} is the provider of sources that bring their own mapping")
    table = Table(tomllib.loads(text))
    table.check_keys(_KEYS)
    title, documentation = table.text("title"), table.text("documentation", "")
    signature, mapping, challenge = table.table("signature"), table.table("mapping"), table.table("challenge")
    if signature is None or mapping is None:
        raise table.refusal("signature" if signature is None else "mapping", "is missing")
    secret_is_ours, secret_where = table.flag("secret_is_ours", default=True), table.text("secret_where", "")
    if not secret_is_ours and not secret_where:
        raise table.refusal("secret_where", "is missing: a sentence that says where the provider shows the secret")
    return Provider(
        name=name,
        title=title,
        signature=read_signature(signature),
        mapping=read_mapping(mapping),
        kept_headers=frozenset(header.lower() for header in table.texts("kept_headers")),
        kept_prefixes=tuple(prefix.lower() for prefix in table.texts("kept_prefixes")),
        challenge=None if challenge is None else read_challenge(challenge),
        secret_is_ours=secret_is_ours,
        secret_where=secret_where,
        retries_differ=table.flag("retries_differ", default=False),
        documentation=documentation,
    )


_KEYS: Final = (
    "title",
    "documentation",
    "secret_is_ours",
    "secret_where",
    "retries_differ",
    "kept_headers",
    "kept_prefixes",
    "signature",
    "mapping",
    "challenge",
)
