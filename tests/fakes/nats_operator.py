"""An operator of NATS servers, with its accounts and users: what `nsc` makes, as far as tests need it."""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nkeys

UNLIMITED: Final = -1
_LIMITS: Final = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), UNLIMITED)
_JETSTREAM: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), UNLIMITED)


@dataclass(frozen=True, slots=True)
class Identity:
    """A key: its seed, and the public one by which others know it."""

    seed: str = field(repr=False)
    public: str

    @classmethod
    def make(cls, prefix: int) -> Identity:
        """Makes a key of a kind."""
        seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), prefix)
        return cls(seed.decode(), nkeys.from_seed(seed).public_key.decode())

    def vouch(self, of: str, name: str, claims: dict[str, Any], **more: int) -> str:
        """Returns a JWT about a key, signed by this one."""
        told = {"jti": secrets.token_hex(16), "iss": self.public, "sub": of, "name": name, "iat": int(time.time())}
        told |= {"nats": {"version": 2, **claims}, **more}
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(told)}"
        signature = nkeys.from_seed(self.seed.encode()).sign(signed.encode())
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class Operator:
    """Vouches for accounts."""

    def __init__(self) -> None:
        self.key = Identity.make(nkeys.PREFIX_BYTE_OPERATOR)
        self.jwt = self.key.vouch(self.key.public, "tests", {"type": "operator"})
        self.system = self.account(has_jetstream=False)

    def account(self, *, has_jetstream: bool = True) -> Account:
        """Makes an account."""
        key = Identity.make(nkeys.PREFIX_BYTE_ACCOUNT)
        limits = {**_LIMITS, "wildcards": True, **(_JETSTREAM if has_jetstream else {})}
        claims = {"type": "account", "limits": limits, "default_permissions": {"pub": {}, "sub": {}}}
        return Account(key, self.key.vouch(key.public, "an account", claims))

    def settings(self, *accounts: Account) -> str:
        """Returns what a server's configuration says of this operator, which trusts these accounts."""
        trusted = "\n".join(f"{account.key.public}: {account.jwt}" for account in (self.system, *accounts))
        return f"""
            operator: {self.jwt}
            system_account: {self.system.key.public}
            resolver: MEMORY
            resolver_preload: {{ {trusted} }}
        """


@dataclass(frozen=True, slots=True)
class Account:
    """Vouches for users."""

    key: Identity
    jwt: str

    def user(self, path: Path, *, seconds: int | None = None) -> Path:
        """Makes a user, for so many seconds from now or for ever, and writes its credentials to a file."""
        key = Identity.make(nkeys.PREFIX_BYTE_USER)
        claims = {"type": "user", "pub": {}, "sub": {}, "subs": UNLIMITED, "data": UNLIMITED, "payload": UNLIMITED}
        ends = {} if seconds is None else {"exp": int(time.time()) + seconds}
        jwt = self.key.vouch(key.public, "a user", claims, **ends)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
        )
        return path


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
