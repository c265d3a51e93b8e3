"""Judges what a new revision of a version changes: which changes can break somebody, by which rule, and what to do instead."""

from certes_broker.schemas.compatibility.comparison import compare

__all__ = ["compare"]
