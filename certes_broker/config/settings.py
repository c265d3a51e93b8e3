"""The settings of a broker.

Rules
-----
* This file is the one table: a field of these records is a key of the configuration file, an environment variable and a
  row of docs/reference/configuration.md, with the kind, bounds, default and meaning that stand here.
* What is more specific wins: command line, then environment, then file, then default.
* Durations are seconds, sizes bytes; paths are as given, relative to the directory in which the broker was started.
"""
# ruff: noqa: RUF009  (`_key` is `dataclasses.field` with a setting in it, and as safe to call)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal

from certes_broker.config.auth_kinds import KEY, KEYS_URL, TEXT
from certes_broker.config.kinds import (
    ADDRESS,
    DOMAIN,
    DURATION,
    FLAG,
    HOSTS,
    NAMESPACES,
    NETWORKS,
    PATH,
    SIZE,
    WHOLE_NUMBER,
    Address,
    Network,
    choice,
)
from certes_broker.config.nats_kinds import ENGINE, FILE, MONITORING, PREFIX, SECRET, EngineAddress, Secret
from certes_broker.config.setting import Setting
from certes_broker.config.setting import key as _key
from certes_broker.domain.certificate_grants import CertificateGrant
from certes_broker.domain.sources import Source

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Http:
    """Where HTTP is served: ingress of webhooks, the JSON API, health and discovery."""

    listen: Address = _key(
        ADDRESS,
        Address("127.0.0.1", 9600),
        "Where HTTP is served. Port 0: any free one.",
    )


@dataclass(frozen=True, slots=True)
class Grpc:
    """Where gRPC is served."""

    listen: Address = _key(ADDRESS, Address("127.0.0.1", 9601), "Where gRPC is served. Port 0: any free one.")


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, on both ports. The files are read again when they have changed, without a restart."""

    certificate: Path | None = _key(
        FILE, None, "The certificate that both ports serve with, and the chain that vouches for it (PEM)."
    )
    key: Path | None = _key(FILE, None, "The key of that certificate (PEM, without a passphrase).")
    client_ca: Path | None = _key(
        FILE, None, "The authorities of clients' certificates (PEM). If given, clients must have one."
    )
    http_clients: Literal["required", "optional"] = _key(
        choice("required", "optional"),
        "required",
        "Whether clients of HTTP must have a certificate, too. Services that send webhooks have none: `optional` lets them in.",
    )


@dataclass(frozen=True, slots=True)
class Auth:
    """How callers prove who they are. Where nothing of this is set, nobody is asked. [The guide](../guide/security.md) says more."""

    operator_key: Secret = _key(
        KEY,
        Secret(),
        "The operator's API key, which has every role: with it the others are made. `certes keys generate` prints one. Better given as the environment variable, or as a file.",
    )
    operator_key_file: Path | None = _key(FILE, None, "A file with the operator's API key, instead.")
    jwt_issuer: str = _key(TEXT, "", "Whose tokens (JWT) are taken: their `iss`. Without it, none are.")
    jwt_audience: str = _key(TEXT, "", "For whom tokens must be: this is in their `aud`.")
    jwt_keys: Path | None = _key(FILE, None, "A file with the issuer's public keys: PEM, or a JSON Web Key Set.")
    jwt_keys_url: str = _key(
        KEYS_URL, "", "Where the issuer publishes its keys as a JSON Web Key Set, instead; read again every 10 minutes."
    )
    client_crl: Path | None = _key(
        FILE, None, "The certificates that authorities of `tls.client_ca` have revoked (CRLs, PEM): they let nobody in."
    )
    certificates: tuple[CertificateGrant, ...] = ()

    @property
    def is_configured(self) -> bool:
        """Whether callers are asked who they are."""
        return bool(self.operator_key.text or self.operator_key_file or self.jwt_issuer or self.certificates)


@dataclass(frozen=True, slots=True)
class Secrets:
    """How secrets are kept: those that sign and verify webhooks, their headers, and every other setting that the broker stores."""

    keys: Secret = _key(
        SECRET,
        Secret(),
        "The keys that they are encrypted with (AES-256-GCM): each 32 bytes in base64, as `openssl rand -base64 32` prints them, separated by commas. The first encrypts, all decrypt. Without one they are kept in clear. Better given as the environment variable, or as a file.",
    )
    keys_file: Path | None = _key(FILE, None, "A file with the keys, one a line, instead.")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken in."""

    event_bytes: int = _key(SIZE, MIB, "The largest event.", minimum=KIB, maximum=3 * MIB)
    request_bytes: int = _key(
        SIZE, 4 * MIB, "The largest request. At least the largest event.", minimum=KIB, maximum=4 * MIB
    )
    in_flight_bytes: int = _key(
        SIZE,
        64 * MIB,
        "How much may be on its way to the disk before publishers are told to wait. At least one largest request.",
        minimum=MIB,
        maximum=16 * GIB,
    )
    storage_reserve: int = _key(
        SIZE,
        256 * MIB,
        "How much room is kept free, on the disk or in the account of the NATS servers: with less, events are refused, and deliveries go on. 0: it is not looked at.",
        minimum=0,
        maximum=1024 * GIB,
    )
    delivery_bytes: int = _key(SIZE, GIB, "How much of deliveries is in memory.", minimum=16 * MIB, maximum=1024 * GIB)
    ingress_body_bytes: int = _key(SIZE, MIB, "The largest body of a foreign webhook.", minimum=KIB, maximum=3 * MIB)
    streams_per_caller: int = _key(
        WHOLE_NUMBER, 1_000, "How many streams one caller may have open at once.", minimum=1, maximum=1_000_000
    )
    connections: int = _key(
        WHOLE_NUMBER, 2_048, "How many connections each of both ports has at once.", minimum=16, maximum=1_000_000
    )


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events are kept, and dead letters. Of events, what comes first trims."""

    age: float = _key(DURATION, 7 * DAY, "How long events are kept.", minimum=60, maximum=3650 * DAY)
    bytes: int = _key(SIZE, 10 * GIB, "How much is kept of all events together.", minimum=MIB, maximum=1024**5)
    dead_letters: float = _key(
        DURATION,
        30 * DAY,
        "How long deliveries that were given up on are kept, each with a copy of its event.",
        minimum=60,
        maximum=3650 * DAY,
    )


@dataclass(frozen=True, slots=True)
class Rejected:
    """Payloads that sources refused and kept, to be looked at and ingested again. What comes first trims."""

    retention: float = _key(DURATION, 7 * DAY, "How long they are kept.", minimum=60, maximum=3650 * DAY)
    bytes: int = _key(SIZE, 64 * MIB, "How much is kept of all of them together.", minimum=MIB, maximum=64 * GIB)
    unverified: int = _key(
        WHOLE_NUMBER,
        1000,
        "How many are kept of each source that nothing proves the sender of. Anybody can send those.",
        minimum=0,
        maximum=100_000,
    )


@dataclass(frozen=True, slots=True)
class Dedupe:
    """How long a repeated event is recognised."""

    window: float = _key(
        DURATION,
        DAY,
        "How long an event published again under the same source and id is stored once.",
        minimum=60,
        maximum=30 * DAY,
    )


@dataclass(frozen=True, slots=True)
class Nats:
    """The NATS servers, where `engine` names some. [The guide](../guide/nats.md) says what to run."""

    prefix: str = _key(
        PREFIX,
        "certes",
        "What all streams and subjects begin with, so that a cluster can be shared. Brokers with the same one are one.",
    )
    replicas: int = _key(
        WHOLE_NUMBER,
        0,
        "How many servers keep each stream. 0: three in a cluster, else one, and those that are there as they are.",
        minimum=0,
        maximum=5,
    )
    credentials: Path | None = _key(FILE, None, "A file of credentials (`.creds`), with a user's JWT and seed.")
    token: Secret = _key(SECRET, Secret(), "A token. Better given as the environment variable.")
    ca: Path | None = _key(
        FILE,
        None,
        "The authorities that the servers' certificates are judged by (PEM), instead of the system's. Means TLS.",
    )
    certificate: Path | None = _key(FILE, None, "The client's own certificate (PEM). Means TLS.")
    key: Path | None = _key(FILE, None, "The key of that certificate (PEM).")
    monitoring: tuple[str, ...] = _key(
        MONITORING,
        (),
        "The servers' monitoring addresses (`http:` in their configuration), where the broker sees whether they sync what they acknowledge.",
    )


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an endpoint of webhooks that keeps failing is left alone for a while."""

    failures: int = _key(WHOLE_NUMBER, 70, "How many of a hundred requests must fail for it.", minimum=1, maximum=100)
    minimum: int = _key(WHOLE_NUMBER, 10, "How many requests there must be to judge by.", minimum=1, maximum=10_000)
    window: float = _key(DURATION, 300.0, "How long a request counts.", minimum=1, maximum=DAY)
    pause: float = _key(
        DURATION, 30.0, "How long nothing is sent before one request is tried.", minimum=1, maximum=HOUR
    )


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Webhooks that the broker sends."""

    max_in_flight: int = _key(
        WHOLE_NUMBER,
        256,
        "How many requests may be under way at once, over all subscriptions.",
        minimum=1,
        maximum=10_000,
    )
    disable_after: float = _key(
        DURATION,
        5 * DAY,
        "How long a subscription may go without a success, although it is tried, before it is disabled.",
        minimum=HOUR,
        maximum=365 * DAY,
    )
    allow_networks: tuple[Network, ...] = _key(
        NETWORKS,
        (),
        "Private networks to which webhooks may go nevertheless. Loopback, link-local, private and metadata addresses are refused otherwise.",
    )


@dataclass(frozen=True, slots=True)
class Schemas:
    """What is asked of the types of events."""

    open_namespaces: tuple[str, ...] = _key(
        NAMESPACES,
        (),
        "Namespaces, as `domain/namespace`, that take events of types that no schema is registered for, also with raw content: for those who want to begin without schemas.",
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = _key(
        choice("debug", "info", "warning", "error"), "info", "The least severe events that are logged."
    )
    format: Literal["auto", "console", "json"] = _key(
        choice("auto", "console", "json"),
        "auto",
        "JSON lines, or text for a person; `auto` is `console` on a terminal, else `json`.",
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """What settings were read from. Hidden from `repr`, because the environment may hold secrets."""

    file: Path | None
    environ: Mapping[str, str] = field(repr=False)
    overrides: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one broker, valid as a whole. Made by `Config.load`."""

    engine: EngineAddress = _key(
        ENGINE,
        EngineAddress(),
        "What keeps events and settings: `sqlite`, which is embedded, or NATS servers as `nats://host,host` or `tls://host,host`.",
    )
    data_dir: Path = _key(
        PATH, Path("certes-data"), "Where the embedded engine keeps events and settings. Created if it is missing."
    )
    domain: str = _key(DOMAIN, "localhost", "The broker's own domain: that of event types which name none.")
    allowed_hosts: tuple[str, ...] = _key(
        HOSTS,
        (),
        "Further names under which clients may address the gateway in `Host`, and from which web pages may call it. Loopback names always may.",
    )
    allow_insecure: bool = _key(
        FLAG,
        False,
        "Whether to listen where other machines can reach it without TLS or without authentication: for networks that are protected otherwise.",
    )
    dev: bool = _key(FLAG, False, "For development: webhooks may go to loopback addresses.")
    drain_timeout: float = _key(
        DURATION, 20.0, "How long a stop may wait for what is under way.", minimum=0, maximum=600
    )
    http: Http = field(default_factory=Http)
    grpc: Grpc = field(default_factory=Grpc)
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    secrets: Secrets = field(default_factory=Secrets)
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    rejected: Rejected = field(default_factory=Rejected)
    dedupe: Dedupe = field(default_factory=Dedupe)
    nats: Nats = field(default_factory=Nats)
    webhooks: Webhooks = field(default_factory=Webhooks)
    breaker: Breaker = field(default_factory=Breaker)
    schemas: Schemas = field(default_factory=Schemas)
    log: Log = field(default_factory=Log)
    sources: tuple[Source, ...] = ()
    ready_json: bool = False
    """Whether readiness is announced by one line of JSON on standard output. A flag of `serve`, no key."""
    origin: Origin = field(default=Origin(None, {}, {}), compare=False)

    @classmethod
    def load(cls, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Config:
        """Reads the settings from a file, the environment and the command line, the later ones first.

        `overrides` has keys such as `http.listen`; a value is one that TOML could have, or a text as in the environment.
        `ready_json` is taken there too.

        Raises `Invalid` with `SETTINGS_INVALID`, or `INSECURE_LISTENER` if that is all that is wrong; it names every
        fault with its place.
        """
        # Imported here because it makes what is defined here.
        from certes_broker.config.loading import load  # noqa: PLC0415

        return load(path, environ, overrides)

    def reload(self) -> Config:
        """Reads the same file, environment and command line again. Raises like `load`."""
        return Config.load(self.origin.file, self.origin.environ, self.origin.overrides)


def known_settings() -> tuple[Setting[Any], ...]:
    """Returns every key, in the order of the reference."""
    return tuple(_settings_of(Config, ()))


def section_meanings() -> dict[str, str]:
    """Returns what each section of the file is about, in the order of the reference."""
    return {
        declared.name: (type(section).__doc__ or "")
        for declared in fields(Config)
        if is_dataclass(section := getattr(Config(), declared.name))
    }


def _settings_of(record: type[Any], path: tuple[str, ...]) -> Iterator[Setting[Any]]:
    for declared in fields(record):
        setting = _declared_setting(declared)
        inner = declared.default_factory
        if setting is not None:
            yield Setting(
                setting.kind,
                setting.default,
                setting.meaning,
                setting.minimum,
                setting.maximum,
                (*path, declared.name),
            )
        elif is_dataclass(inner) and isinstance(inner, type):
            yield from _settings_of(inner, (*path, declared.name))


def _declared_setting(declared: Field[Any]) -> Setting[Any] | None:
    setting = declared.metadata.get("setting")
    return setting if isinstance(setting, Setting) else None
