"""The names of what the engine keeps on the servers: streams, and the subjects of their messages.

Rules
-----
* Everything begins with the engine's prefix, `certes` unless told otherwise, so that it can share a cluster with others.
* A text that becomes one token of a subject is **escaped**: letters, digits, `-` and `_` stand for themselves; every other
  byte of its UTF-8 form is `=` and two hexadecimal digits; the empty text is `=` alone. So a token is never empty, holds
  nothing that means something to NATS (`.`, `*`, `>`, white space), and is read back exactly. `=` is allowed in the keys
  of key-value buckets, too.
* A text that is a path becomes one token for each of its segments.

| subject | of |
|---|---|
| `<prefix>.journal.of.<domain>.<namespace…>.<version>.<name>` | a block of events of one type |
| `<prefix>.journal.mixed` | a block of events of several types, or of one whose subject would be too long |
| `<prefix>.lanes.of.<subscription…>` | the cursor and the lease of a subscription |
| `<prefix>.lanes.dead.<subscription…>.<position>` | a dead letter |
| `<prefix>.lanes.gap.<subscription…>.<first>.<last>` | a gap |
| `<prefix>.lanes.watermark.<member>` | the watermark of a broker |
| `<prefix>.lanes.member.<member>` | a broker that shares the prefix |
| `<prefix>.lanes.ids.<first>-<last>` | ids of the dedupe window whose blocks, with these sequences, were trimmed |
| `<prefix>.lanes.anew.<sequence>` | a block, in the place of the message with this sequence, that was written anew without what was erased |
| `<prefix>.attempts.<subscription…>` | attempts at a webhook |
| `<prefix>.rejected.<source>` | a payload that a source did not take |
| `$KV.<prefix>-settings.<key…>` | a settings document |
| `<prefix>.post.members`, `<prefix>.post.turns`, `<prefix>.post.of.<member>`, `<prefix>.post.notices.<member>` | not kept: what brokers say to all of them, and to one |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from certes_broker.domain.events import Position
from certes_broker.ports.cluster import MemberId

LONGEST: Final = 1024
"""Bytes of the longest subject that is made of an event type. Servers refuse a line of more than 4 KiB."""

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_-]")
_ESCAPED: Final = re.compile(r"=([0-9A-F]{2})")


def escape(text: str) -> str:
    """Makes one token of any text."""
    if not text:
        return "="
    return "".join(
        chr(byte) if _PLAIN.fullmatch(bytes((byte,))) else f"={byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def unescape(token: str) -> str:
    """Reads a token back."""
    if token == "=":
        return ""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), token)
    return plain.encode("latin-1").decode("utf-8", "surrogatepass")


def escape_path(path: str) -> str:
    """Makes tokens of a text, one for each segment between its slashes."""
    return ".".join(map(escape, path.split("/")))


def unescape_path(tokens: str) -> str:
    """Reads tokens back."""
    return "/".join(map(unescape, tokens.split(".")))


@dataclass(frozen=True, slots=True)
class Names:
    """The names under one prefix."""

    prefix: str

    @property
    def journal(self) -> str:
        return f"{self.prefix}-journal"

    @property
    def lanes(self) -> str:
        return f"{self.prefix}-lanes"

    @property
    def attempts(self) -> str:
        return f"{self.prefix}-attempts"

    @property
    def rejected(self) -> str:
        return f"{self.prefix}-rejected"

    @property
    def settings(self) -> str:
        return f"KV_{self.prefix}-settings"

    def block(self, event_type: str | None) -> str:
        """Returns the subject of a block of events of one type, or, for None, of several."""
        if event_type is not None:
            subject = f"{self.prefix}.journal.of.{escape_path(event_type)}"
            if len(subject) <= LONGEST:
                return subject
        return f"{self.prefix}.journal.mixed"

    def watermark(self, member: str) -> str:
        """Returns the subject of a broker's watermark; `*` is all."""
        return f"{self.prefix}.lanes.watermark.{member}"

    def member(self, member: str) -> str:
        """Returns the subject of a broker that shares the prefix; `*` is all."""
        return f"{self.prefix}.lanes.member.{member}"

    @staticmethod
    def member_of(subject: str) -> MemberId:
        """Returns the broker whose subject this is."""
        return MemberId(subject.rpartition(".")[2])

    @property
    def members(self) -> str:
        """The subject of what is said to all brokers."""
        return f"{self.prefix}.post.members"

    def post(self, member: str) -> str:
        """Returns the subject of what is asked of one broker."""
        return f"{self.prefix}.post.of.{member}"

    @property
    def turns(self) -> str:
        """The subject on which writers say that they wait for their turn."""
        return f"{self.prefix}.post.turns"

    def notices(self, member: str) -> str:
        """Returns the subject of what one broker is told of streams."""
        return f"{self.prefix}.post.notices.{member}"

    def lane(self, subscription: str) -> str:
        """Returns the subject of a subscription's cursor and lease."""
        return f"{self.prefix}.lanes.of.{escape_path(subscription)}"

    def dead_letter(self, subscription: str, position: int | str) -> str:
        """Returns the subject of a dead letter; `*` for the position is all of a subscription."""
        return f"{self.prefix}.lanes.dead.{escape_path(subscription)}.{position}"

    @property
    def dead_letters(self) -> str:
        """Returns the pattern of all dead letters."""
        return f"{self.prefix}.lanes.dead.>"

    def dead_letter_of(self, subject: str) -> tuple[str, Position]:
        """Returns the subscription and the position of the dead letter whose subject this is."""
        tokens, _, position = subject.removeprefix(f"{self.prefix}.lanes.dead.").rpartition(".")
        return unescape_path(tokens), Position(int(position))

    def gap(self, subscription: str, first: int | str, last: int | str) -> str:
        """Returns the subject of a gap; `*` for both ends is all of a subscription."""
        return f"{self.prefix}.lanes.gap.{escape_path(subscription)}.{first}.{last}"

    def carried_ids(self, blocks: str) -> str:
        """Returns the subject of ids that outlive their blocks, from one sequence to another; `*` is all."""
        return f"{self.prefix}.lanes.ids.{blocks}"

    def anew(self, sequence: int | str) -> str:
        """Returns the subject of the block that takes the place of a message of the journal; `*` is all."""
        return f"{self.prefix}.lanes.anew.{sequence}"

    def attempts_of(self, subscription: str) -> str:
        """Returns the subject of attempts."""
        return f"{self.prefix}.attempts.{escape_path(subscription)}"

    def attempts_of_all(self, subscriber: str) -> str:
        """Returns the pattern of attempts at all webhooks of a subscriber."""
        return f"{self.prefix}.attempts.subscribers.{escape(subscriber)}.>"

    def rejected_of(self, source: str) -> str:
        """Returns the subject of rejected payloads."""
        return f"{self.prefix}.rejected.{escape(source)}"

    def document(self, key: str) -> str:
        """Returns the subject of a settings document."""
        return f"$KV.{self.prefix}-settings.{escape_path(key)}"

    def key(self, subject: str) -> str:
        """Returns the key of the settings document whose subject this is."""
        return unescape_path(subject.removeprefix(f"$KV.{self.prefix}-settings."))
