"""Reads the file that says how a custom source verifies and maps, in the format of a `provider.toml`.

TOML or, with the suffix `.json`, JSON of the same shape: `[signature]` and `[mapping]`, and what a provider's definition
says beside them for people (`title`, `documentation`). What a custom source cannot have is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf.json_format import MessageToDict

from certes_broker.domain.errors import Invalid
from certes_broker.gateway.convert.mappings import mapping_message
from certes_broker.gateway.convert.signatures import signature_message
from certes_broker.schemas.webhook_tables import Table, read_mapping, read_signature

OPTION: Final = "--definition"
_KEYS: Final = ("title", "documentation", "signature", "mapping")


def read_definition(file: Path) -> Mapping[str, Any]:
    """Returns the `signature` and `mapping` of a source, as the API has them. Raises `click.BadParameter`."""
    try:
        table = Table(_parsed(file))
        table.check_keys(_KEYS)
        signature, mapping = table.table("signature"), table.table("mapping")
        if signature is None or mapping is None:
            raise table.refusal("signature" if signature is None else "mapping", "is missing")
        messages = {
            "signature": signature_message(read_signature(signature)),
            "mapping": mapping_message(read_mapping(mapping)),
        }
    except Invalid as error:
        raise click.BadParameter(f"{file}: {error}", param_hint=OPTION) from None
    return {name: MessageToDict(message) for name, message in messages.items()}


def _parsed(file: Path) -> object:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = f"is no TOML: {error}"
    except json.JSONDecodeError as error:
        problem = f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise click.BadParameter(f"{file} {problem}.", param_hint=OPTION)
