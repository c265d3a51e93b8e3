"""What the settings say of the keys that seal secrets at rest."""

from __future__ import annotations

from typing import Final

from certes_broker.config.settings import Config
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.engines.sealed import MAXIMUM_KEYS, SealingKey

KEYS: Final = "secrets.keys"
KEYS_FILE: Final = "secrets.keys_file"


def sealing_keys(config: Config) -> tuple[SealingKey, ...]:
    """Returns the keys, the one that seals first; none if secrets are kept in clear.

    Raises `Invalid` (SETTINGS_INVALID), which names the setting, and says nothing of a key.
    """
    text, file = config.secrets.keys.text, config.secrets.keys_file
    if text and file is not None:
        raise _refusal(KEYS_FILE, f"is given, and {KEYS} too: give the keys in one place")
    where = KEYS
    if file is not None:
        where = KEYS_FILE
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise _refusal(where, f"names {str(file)!r}, which cannot be read: {reason}") from None
    listed = text.replace(",", "\n").split()
    if file is not None and not listed:
        raise _refusal(where, f"names {str(file)!r}, in which there is no key")
    if len(listed) > MAXIMUM_KEYS:
        raise _refusal(where, f"has {len(listed)} keys; {MAXIMUM_KEYS} are allowed")
    keys = []
    for number, one in enumerate(listed, 1):
        try:
            keys.append(SealingKey.parse(one))
        except ValueError as error:
            raise _refusal(where, f"key {number} {error}; `openssl rand -base64 32` makes one") from None
    return tuple(keys)


def _refusal(key: str, problem: str) -> Invalid:
    return Invalid.field(Reason.SETTINGS_INVALID, key, problem)
