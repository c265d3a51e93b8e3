"""Reads settings out of a file, the environment and the command line, and judges them as a whole."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from certes_broker.config.auth_places import auth_contradictions, exposure
from certes_broker.config.certificate_tables import PATH as CERTIFICATES
from certes_broker.config.certificate_tables import read_certificates
from certes_broker.config.problems import Problem, nearest, refusal
from certes_broker.config.quantities import Unfit
from certes_broker.config.setting import Setting
from certes_broker.config.settings import Config, Origin, known_settings
from certes_broker.config.source_tables import is_secrets_variable, read_sources
from certes_broker.config.toml_places import KeyPath, Place, find, places
from certes_broker.domain.errors import Invalid, Reason

ENVIRONMENT_PREFIX: Final = "CERTES_"
OTHER_VARIABLES: Final = frozenset(
    {
        "CERTES_APP",
        "CERTES_BROKER",
        "CERTES_CALLBACK_URL",
        "CERTES_CERTIFICATE",
        "CERTES_CERTIFICATE_KEY",
        "CERTES_CONFIG",
        "CERTES_TOKEN",
    }
)
"""Variables of ours that are no settings of the broker: the CLI and the SDKs read them."""

_NEAR_MISS: Final = 0.85


class Document:
    """One configuration file as it was read. `name` is how errors call it."""

    def __init__(self, text: str, name: str) -> None:
        """Parses the text. Raises `Invalid` / `SETTINGS_INVALID` if it is no TOML."""
        self.name = name
        try:
            self.values: dict[str, object] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Invalid(Reason.SETTINGS_INVALID, f"{name} is no valid TOML: {error}.") from None
        self._places: dict[KeyPath, Place] = places(text)

    @classmethod
    def read(cls, path: Path | None) -> Document:
        """Reads a file; None is an empty one."""
        if path is None:
            return cls("", "no file")
        try:
            return cls(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            raise Invalid(
                Reason.SETTINGS_INVALID,
                f"The configuration file {path} does not exist.",
                hint="Name another with --config, or leave it out to run with defaults.",
            ) from None
        except UnicodeDecodeError:
            raise Invalid(Reason.SETTINGS_INVALID, f"The configuration file {path} is not UTF-8.") from None
        except OSError as error:
            raise Invalid(
                Reason.SETTINGS_INVALID, f"The configuration file {path} cannot be read: {error.strerror}."
            ) from None

    def locate(self, path: KeyPath) -> str:
        """Returns where a key stands: `certes.toml:3:1`."""
        place = find(self._places, path)
        return f"{self.name}:{place.line}:{place.column}"


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Config:
    """See `Config.load`."""
    return assemble(Document.read(path), path, environ, overrides)


def assemble(
    document: Document, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Config:
    """Makes the settings of a document that has been read; otherwise like `Config.load`."""
    problems: list[Problem] = []
    settings = {setting.path: setting for setting in known_settings()}
    given = dict(overrides)
    ready_json = bool(given.pop("ready_json", False))

    values: dict[tuple[str, ...], object] = {}
    origins: dict[tuple[str, ...], str] = {}
    for found, value, where in (
        *_from_file(document, settings, problems),
        *_from_environment(environ, settings, problems),
        *_from_command_line(given, settings, problems),
    ):
        setting = settings[found]
        try:
            values[found] = _within_bounds(setting, setting.kind.read(value))
            origins[found] = where
        except Unfit as error:
            problems.append(Problem(where, setting.key, str(error)))

    sources = read_sources(document.values.get("sources", []), environ, document.locate, problems)
    config = replace(
        _build(values), sources=sources, ready_json=ready_json, origin=Origin(path, dict(environ), dict(overrides))
    )
    auth = document.values.get("auth")
    if isinstance(auth, dict) and "certificates" in auth:
        origins[CERTIFICATES] = document.locate(CERTIFICATES)
        certificates = read_certificates(auth["certificates"], document.locate, problems)
        config = replace(config, auth=replace(config.auth, certificates=certificates))
    problems += _contradictions(config, origins)
    if problems:
        raise refusal(problems)
    return config


_Given = tuple[tuple[str, ...], object, str]
_Known = Mapping[tuple[str, ...], Setting[Any]]


def _from_file(document: Document, settings: _Known, problems: list[Problem]) -> Iterator[_Given]:
    sections = {path[:1] for path in settings if len(path) > 1}
    for key, value in document.values.items():
        if key == "sources":
            continue
        if (key,) in sections and isinstance(value, dict):
            inner: list[tuple[tuple[str, ...], object]] = [((key, name), item) for name, item in value.items()]
        elif (key,) in sections:
            problems.append(Problem(document.locate((key,)), key, f"is a section: write [{key}] and its keys below"))
            continue
        else:
            inner = [((key,), value)]
        for path, item in inner:
            if path == CERTIFICATES:
                continue
            where = document.locate(path)
            if path in settings:
                yield path, item, where
            else:
                problems.append(Problem(where, ".".join(path), f"is no known key.{_meant(path, settings)}"))


def _from_environment(environ: Mapping[str, str], settings: _Known, problems: list[Problem]) -> Iterator[_Given]:
    known = {setting.variable: setting for setting in settings.values()}
    for variable, text in sorted(environ.items()):
        where = f"the environment variable {variable}"
        if variable in known:
            yield known[variable].path, known[variable].kind.from_text(text), where
        elif variable.startswith(ENVIRONMENT_PREFIX) and not is_secrets_variable(variable):
            # Not every stranger is a mistake: Kubernetes puts CERTES_SERVICE_HOST there if the service is called
            # "certes". One that nearly spells a key is.
            meant = _near_miss(variable, known)
            if meant is not None and variable not in OTHER_VARIABLES:
                problems.append(Problem(where, "", f"is no setting. Did you mean {meant}?"))


def _from_command_line(overrides: Mapping[str, object], settings: _Known, problems: list[Problem]) -> Iterator[_Given]:
    for key, value in overrides.items():
        path = tuple(key.split("."))
        if path not in settings:
            problems.append(Problem("the command line", key, f"is no known key.{_meant(path, settings)}"))
        else:
            yield path, settings[path].kind.from_text(value) if isinstance(value, str) else value, "the command line"


def _meant(path: tuple[str, ...], settings: _Known) -> str:
    """Returns the question after a key that is unknown, with a leading blank; empty if there is nothing to ask."""
    keys = {setting.key: setting for setting in settings.values()}
    same_name = [key for key, setting in keys.items() if setting.path[-1] == path[-1]]
    sections = {setting.path[0] for setting in settings.values() if len(setting.path) > 1} | {"sources"}
    meant = same_name[0] if len(same_name) == 1 else nearest(".".join(path), [*keys, *sections])
    if meant is None:
        return ""
    if len(path) > 1 and "." not in meant and meant in keys:
        return f" Did you mean {meant}? It belongs above the first [section]."
    return f" Did you mean {meant}?"


def _near_miss(variable: str, known: Mapping[str, Setting[Any]]) -> str | None:
    names = [name.removeprefix(ENVIRONMENT_PREFIX) for name in known]
    meant = nearest(variable.removeprefix(ENVIRONMENT_PREFIX), names, cutoff=_NEAR_MISS)
    return ENVIRONMENT_PREFIX + meant if meant else None


def _within_bounds(setting: Setting[Any], value: Any) -> object:
    spell = setting.kind.spell
    if setting.minimum is not None and value < setting.minimum:
        raise Unfit(f"is at least {spell(setting.minimum)}, not {spell(value)}")
    if setting.maximum is not None and value > setting.maximum:
        raise Unfit(f"is at most {spell(setting.maximum)}, not {spell(value)}")
    return value


def _build(values: Mapping[tuple[str, ...], object]) -> Config:
    given: dict[str, Any] = {path[0]: value for path, value in values.items() if len(path) == 1}
    for section in sorted({path[0] for path in values if len(path) > 1}):
        inner: dict[str, Any] = {path[1]: value for path, value in values.items() if path[0] == section and path[1:]}
        given[section] = replace(getattr(Config(), section), **inner)
    return Config(**given)


def _contradictions(config: Config, origins: Mapping[tuple[str, ...], str]) -> Iterator[Problem]:
    """Finds what is wrong with values that are fine each by itself."""
    yield from exposure(config, origins)
    yield from auth_contradictions(config, origins)
    if config.http.listen == config.grpc.listen and config.http.listen.port != 0:
        where = origins.get(("http", "listen")) or origins["grpc", "listen"]
        yield Problem(where, "http.listen", f"and grpc.listen are both {config.http.listen}; each needs its own port")
    limits = config.limits
    for smaller, larger in (("event_bytes", "request_bytes"), ("request_bytes", "in_flight_bytes")):
        if getattr(limits, smaller) > getattr(limits, larger):
            where = origins.get(("limits", larger)) or origins["limits", smaller]
            yield Problem(where, f"limits.{larger}", f"is smaller than limits.{smaller}, so that one could never pass")
    for section, pair in (("nats", config.nats), ("tls", config.tls)):
        if (pair.certificate is None) != (pair.key is None):
            given, lacking = ("certificate", "key") if pair.key is None else ("key", "certificate")
            yield Problem(origins[section, given], f"{section}.{given}", f"is of no use without {section}.{lacking}")
    if config.tls.client_ca is not None and config.tls.certificate is None:
        yield Problem(
            origins["tls", "client_ca"], "tls.client_ca", "is of no use without tls.certificate: only TLS asks for one"
        )
    nats = config.nats
    if nats.credentials is not None and nats.token.text:
        yield Problem(
            origins["nats", "token"], "nats.token", "and nats.credentials are both set: a client has one of them"
        )
