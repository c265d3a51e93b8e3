"""Reads the `[[sources]]` tables, and their secrets from the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from certes_broker.config.problems import Problem, nearest
from certes_broker.config.quantities import Unfit
from certes_broker.config.toml_places import KeyPath
from certes_broker.domain.errors import CertesError
from certes_broker.domain.sources import Source, SourceSecret, parse_audience, parse_source_name

T = TypeVar("T")

PROVIDERS: Final = ("github",)
SOURCE_KEYS: Final[Mapping[str, str]] = {
    "name": "The source's name, the last segment of its URL `/events/NAME`: 1 to 63 of a-z, 0-9, `-` and `_`. Required.",
    "provider": 'Who sends. `"github"`. Required.',
    "audience": 'Whom its events are for: `"everyone"` or `"subscribers/ID"`. Required.',
    "secrets": "The secrets that the provider signs with, newest first; each of them verifies. Required here or by "
    "`CERTES_SOURCE_<NAME>_SECRETS` (commas between them), which replaces them.",
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
        secrets = self._secrets(name)
        if name is None or provider is None or audience is None or len(self._problems) > before:
            return None
        return Source(name, provider, audience, tuple(map(SourceSecret, secrets)), configured=True)

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

    def _secrets(self, name: str | None) -> tuple[str, ...]:
        variable = secrets_variable(name) if name is not None else ""
        listed: object = self._table.get("secrets", [])
        if variable in self._environ:
            listed = [secret.strip() for secret in self._environ[variable].split(",")]
        if not isinstance(listed, list) or not all(isinstance(secret, str) and secret for secret in listed):
            # The value stays out of the message: it is, or was meant to be, a secret.
            self._add("secrets", "wants a list of texts in quotes, none of them empty")
        elif not listed and name is not None:
            self._add("secrets", f"is missing, here and as {variable}. Without one, anybody could send events")
        else:
            return tuple(listed)
        return ()

    def _add(self, key: str, what: str) -> None:
        self._problems.append(
            Problem(self._locate(("sources", self._index, key)), f"sources[{self._index}].{key}", what)
        )


def _parse_provider(text: str) -> str:
    if text not in PROVIDERS:
        known = ", ".join(f'"{provider}"' for provider in PROVIDERS)
        raise Unfit(f"is no provider that this broker knows: {text!r}. It knows {known}")
    return text


def _suggestion(word: str, known: Mapping[str, object]) -> str:
    meant = nearest(word, known)
    return f" Did you mean {meant}?" if meant else f" Known are: {', '.join(known)}." if known else ""
