"""Reads the `[[sources]]` tables, and their secrets from the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from certes_broker.config.problems import Problem, nearest
from certes_broker.config.quantities import Unfit
from certes_broker.config.toml_places import KeyPath
from certes_broker.domain.errors import CertesError, Invalid
from certes_broker.domain.signature_schemes import SignatureScheme, credential_header, needs_secret
from certes_broker.domain.source_secrets import check_source_secret
from certes_broker.domain.sources import (
    CUSTOM,
    MAXIMUM_SOURCE_SECRETS,
    PayloadSubscriber,
    Source,
    SourceSecret,
    parse_audience,
    parse_source_name,
)
from certes_broker.schemas.providers import shipped_providers
from certes_broker.schemas.webhook_tables import Table, read_mapping, read_signature

T = TypeVar("T")

SOURCE_KEYS: Final[Mapping[str, str]] = {
    "name": "The source's name, the last segment of its URL `/events/NAME`: 1 to 63 of a-z, 0-9, `-` and `_`. Required.",
    "provider": 'Who sends: a provider of the community catalogue, such as `"github"`, or `"custom"`. Required.',
    "audience": 'Whom its events are for: `"everyone"`, `"subscribers/ID"`, or `"subscriber_in_payload"`: the subscriber whose id '
    "stands in the webhook, where the mapping says. Required.",
    "secrets": "The secrets that the provider signs with, newest first, at most 4; each of them verifies. Required here or by "
    "`CERTES_SOURCE_<NAME>_SECRETS` (commas between them), which replaces them; without signatures there are none.",
    "keep_rejected": "Whether payloads that are refused are kept, to be inspected and ingested again. `false` by default.",
    "signature": 'How requests are signed, such as `{ scheme = "hmac", header = "X-Signature", prefix = "sha256=" }`; see '
    "[sources](../guide/sources.md). As the provider does by default; required for `custom`.",
    "mapping": 'How a webhook becomes an event, such as `{ type = "events.meetly.com/shop/1/{event}", event = { header = '
    '"X-Topic" } }`; see [sources](../guide/sources.md). Required for `custom`, and for it alone.',
}
"""The keys of one table, and what they mean."""


def secrets_variable(name: str) -> str:
    """Returns the environment variable that holds a source's secrets: `CERTES_SOURCE_GITHUB_SECRETS`."""
    return f"CERTES_SOURCE_{name.upper().replace('-', '_')}_SECRETS"


def is_secrets_variable(variable: str) -> bool:
    """Says whether an environment variable is meant to hold a source's secrets."""
    return variable.startswith("CERTES_SOURCE_") and variable.endswith("_SECRETS")


def read_sources(
    tables: object, environ: Mapping[str, str], locate: Callable[[KeyPath], str], problems: list[Problem]
) -> tuple[Source, ...]:
    """Returns the sources that are sound, and adds what is wrong with the others to `problems`."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(Problem(locate(("sources",)), "sources", "wants [[sources]] tables, one for each source"))
        return ()
    sources = []
    variables: dict[str, str] = {}
    for index, table in enumerate(tables):
        source = _Table(table, index, environ, locate, problems).read()
        if source is None:
            continue
        variable = secrets_variable(source.name)
        if variable in variables:
            taken = f"is taken: {variables[variable]!r} is declared above"
            problems.append(Problem(locate(("sources", index, "name")), f"sources[{index}].name", taken))
        variables.setdefault(variable, source.name)
        sources.append(source)
    declared = {secrets_variable(str(table.get("name", ""))): None for table in tables}
    problems += [
        Problem(f"the environment variable {variable}", "", f"belongs to no source.{_suggestion(variable, declared)}")
        for variable in sorted(environ)
        if is_secrets_variable(variable) and variable not in declared
    ]
    return tuple(sources)


class _Table:
    """One `[[sources]]` table being read."""

    def __init__(
        self,
        table: Mapping[str, object],
        index: int,
        environ: Mapping[str, str],
        locate: Callable[[KeyPath], str],
        problems: list[Problem],
    ) -> None:
        self._table = table
        self._index = index
        self._environ = environ
        self._locate = locate
        self._problems = problems

    def read(self) -> Source | None:
        """Returns the source, or None if something is wrong with it."""
        before = len(self._problems)
        for key in self._table.keys() - SOURCE_KEYS.keys():
            self._add(key, f"is no key of a source.{_suggestion(key, SOURCE_KEYS)}")
        name = self._parsed("name", parse_source_name)
        provider = self._parsed("provider", _parse_provider)
        audience = self._parsed("audience", parse_audience)
        signature, mapping = self._inner("signature", read_signature), self._inner("mapping", read_mapping)
        keep_rejected = self._table.get("keep_rejected", False)
        if not isinstance(keep_rejected, bool):
            self._add("keep_rejected", f"wants true or false, not {keep_rejected!r}")
        if name is None or provider is None or audience is None or len(self._problems) > before:
            return None
        source = Source(
            name, provider, audience, (), signature, mapping, keep_rejected=bool(keep_rejected), configured=True
        )
        scheme, subscriber = self._agreed(source)
        if scheme and mapping and credential_header(scheme) in mapping.headers:
            self._add("mapping", f"reads {credential_header(scheme)}, which is the credential and is never kept")
        if isinstance(audience, PayloadSubscriber) and not subscriber:
            self._add(
                "audience", f"cannot be used: the mapping of {provider!r} has no place where the subscriber stands"
            )
        secrets = self._secrets(name, scheme) if scheme is not None else ()
        return replace(source, secrets=secrets) if len(self._problems) == before else None

    def _agreed(self, source: Source) -> tuple[SignatureScheme | None, bool]:
        """Returns the scheme that the source has by its own settings or its provider's, and whether it maps a subscriber."""
        shipped = shipped_providers().get(source.provider)
        if shipped is not None:
            if source.mapping is not None:
                self._add("mapping", f"is for custom sources; {source.provider!r} has its own")
            return source.signature or shipped.signature, shipped.mapping.subscriber is not None
        for key in ("signature", "mapping"):
            if key not in self._table:
                self._add(key, f"is missing. {SOURCE_KEYS[key]}")
        return source.signature, source.mapping is not None and source.mapping.subscriber is not None

    def _parsed(self, key: str, parse: Callable[[str], T]) -> T | None:
        text = self._table.get(key)
        if text is None:
            self._add(key, f"is missing. {SOURCE_KEYS[key]}")
        elif not isinstance(text, str):
            self._add(key, f"wants a text in quotes, not {text!r}")
        else:
            try:
                return parse(text)
            except CertesError as error:
                self._add(key, f"cannot be used: {error.message}")
            except Unfit as error:
                self._add(key, str(error))
        return None

    def _inner(self, key: str, read: Callable[[Table], T]) -> T | None:
        """Reads a table within this one; None if it is not there, or something is wrong with it."""
        if key not in self._table:
            return None
        try:
            return read(Table(self._table[key], key))
        except Invalid as error:
            (violation,) = error.violations
            self._add(violation.field, violation.description)
            return None

    def _secrets(self, name: str, scheme: SignatureScheme) -> tuple[SourceSecret, ...]:
        variable = secrets_variable(name)
        listed: object = self._table.get("secrets", [])
        if variable in self._environ:
            listed = [secret.strip() for secret in self._environ[variable].split(",")]
            if not all(listed):
                self._add_of_variable(variable, "holds an empty secret; secrets have commas between them")
                return ()
        if not isinstance(listed, list) or not all(isinstance(secret, str) and secret for secret in listed):
            # The value stays out of the message: it is, or was meant to be, a secret.
            self._add("secrets", "wants a list of texts in quotes, none of them empty")
        elif not listed and needs_secret(scheme):
            self._add("secrets", f"is missing, here and as {variable}. Without one, anybody could send events")
        elif len(listed) > MAXIMUM_SOURCE_SECRETS:
            self._add("secrets", f"has {len(listed)} entries; at most {MAXIMUM_SOURCE_SECRETS} verify")
        else:
            for number, secret in enumerate(listed):
                try:
                    check_source_secret(scheme, secret)
                except Invalid as error:
                    what = f"cannot be used: {error.violations[0].description}"
                    if variable in self._environ:
                        self._add_of_variable(variable, f"secret {number + 1} {what}")
                    else:
                        self._add(f"secrets[{number}]", what)
            return tuple(SourceSecret(secret) for secret in listed)
        return ()

    def _add_of_variable(self, variable: str, what: str) -> None:
        """Notes what is wrong with an environment variable."""
        self._problems.append(Problem(f"the environment variable {variable}", "", what))

    def _add(self, key: str, what: str) -> None:
        """Notes what is wrong with a key: `secrets`, or one further in, such as `mapping.id.path`."""
        place: KeyPath = ("sources", self._index, *key.replace("[", ".[").split("."))
        self._problems.append(Problem(self._locate(place), f"sources[{self._index}].{key}", what))


def _parse_provider(text: str) -> str:
    known = (*shipped_providers(), CUSTOM)
    if text not in known:
        raise Unfit(
            f"is no provider that this broker knows: {text!r}. It knows {', '.join(map(repr, known))}".replace("'", '"')
        )
    return text


def _suggestion(word: str, known: Mapping[str, object]) -> str:
    meant = nearest(word, known)
    return f" Did you mean {meant}?" if meant else f" Known are: {', '.join(known)}." if known else ""
