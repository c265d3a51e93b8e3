"""Frozen settings, read from TOML, the environment and the command line."""

from certes_broker.config.kinds import Address
from certes_broker.config.settings import (
    Config,
    Dedupe,
    Grpc,
    Http,
    Limits,
    Log,
    Retention,
    Webhooks,
    known_settings,
    section_meanings,
)

__all__ = [
    "Address",
    "Config",
    "Dedupe",
    "Grpc",
    "Http",
    "Limits",
    "Log",
    "Retention",
    "Webhooks",
    "known_settings",
    "section_meanings",
]
