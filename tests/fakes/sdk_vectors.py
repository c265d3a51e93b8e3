"""The vectors that all SDKs share."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "vectors"


def vectors(name: str) -> dict[str, Any]:
    """Returns a file of `tests/vectors`."""
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def body_of(vector: dict[str, Any]) -> bytes:
    """Returns a body, which is a text or base64."""
    return b64decode(vector["body_base64"]) if "body_base64" in vector else vector["body"].encode()
