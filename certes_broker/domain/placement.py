"""Placement: which of the members of a cluster a thing belongs to.

By rendezvous hashing: each member's claim to a name is a hash of both, and the highest has it. So whoever knows the members
knows where everything belongs, and when a member comes or goes nothing moves but what it gets or had.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def owner_of(name: str, members: Iterable[str]) -> str:
    """Returns the member that a name belongs to. There must be one at least."""
    return max(members, key=lambda member: (_claim(member, name), member))


def _claim(member: str, name: str) -> bytes:
    return blake2b(f"{member}/{name}".encode(), digest_size=8).digest()
