"""Reads signature schemes and mappings as TOML tables spell them, in a `provider.toml` and in a source of the configuration.

The spelling is that of the types in `domain/`: `{ scheme = "hmac", header = "X-Signature", prefix = "sha256=" }`, and
`{ type = "events.meetly.com/shop/1/{event}", event = { header = "X-Topic" }, id = { path = "data.id" } }`. Reading is
strict: a key that is not known is refused. Every refusal is `Invalid` / `SETTINGS_INVALID` with one violation, whose field
is the path of the key at fault within the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.signature_schemes import (
    DEFAULT_TOLERANCE,
    BasicScheme,
    Encoding,
    HashAlgorithm,
    HmacScheme,
    NoScheme,
    SignatureScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.webhook_headers import parse_header_name
from certes_broker.domain.webhook_mapping import Challenge, HeaderPlace, Place, WebhookMapping, parse_path

T = TypeVar("T")
Word = TypeVar("Word", bound=StrEnum)


class Table:
    """One table being read. `path` is where it stands, as errors call it; empty for the outermost."""

    def __init__(self, values: object, path: str = "") -> None:
        self._path = path
        if not isinstance(values, Mapping):
            raise self.refusal("", f"wants a table, not {_shown(values)}")
        self._values: Mapping[str, object] = values

    def check_keys(self, known: Sequence[str]) -> None:
        """Refuses a key that is not known."""
        for key in self._values:
            if key not in known:
                raise self.refusal(key, f"is no key that is known here; known are {', '.join(known)}")

    def text(self, key: str, default: str | None = None) -> str:
        """Returns a text that is not empty; without a default it must be there."""
        value = self._values.get(key, default)
        if value is None:
            raise self.refusal(key, "is missing")
        if not isinstance(value, str) or (not value and value != default):
            raise self.refusal(key, f"wants a text in quotes, not {_shown(value)}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Returns true or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.refusal(key, f"wants true or false, not {_shown(value)}")
        return value

    def seconds(self, key: str, default: float) -> float:
        """Returns a number of seconds."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refusal(key, f"wants a number of seconds, not {_shown(value)}")
        return float(value)

    def word(self, key: str, default: Word) -> Word:
        """Returns one of the words that the default is one of."""
        words = type(default)
        try:
            return words(self.text(key, default.value))
        except ValueError:
            known = ", ".join(f'"{word}"' for word in words)
            raise self.refusal(key, f"wants one of {known}, not {_shown(self._values[key])}") from None

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns a list of texts; empty if it is not there."""
        return tuple(self._each(key, _text_of))

    def header(self, key: str, default: str | None = None) -> str:
        """Returns the name of a header, in lower case."""
        text = self.text(key, default)
        return self.sound(lambda: parse_header_name(text), key)

    def table(self, key: str) -> Table | None:
        """Returns a table within this one; None if it is not there."""
        return Table(self._values[key], self._at(key)) if key in self._values else None

    def tables(self, key: str) -> list[Table]:
        """Returns a list of tables; empty if it is not there."""
        return list(self._each(key, Table))

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """Returns the keys and texts of a table within this one, sorted; empty if it is not there."""
        inner = self.table(key)
        return () if inner is None else tuple((name, inner.text(name)) for name in sorted(inner._values))

    def sound(self, make: Callable[[], T], key: str = "") -> T:
        """Returns what `make` does. What it refuses becomes a refusal of the key, or of the one of that name in here."""
        try:
            return make()
        except Invalid as error:
            if not error.violations:
                raise self.refusal(key, error.message) from None
            violation = error.violations[0]
            raise self.refusal(key or violation.field, violation.description) from None

    def refusal(self, key: str, what: str) -> Invalid:
        """Returns the refusal of a key, or with an empty one that of the table itself."""
        path = self._at(key)
        return Invalid(
            Reason.SETTINGS_INVALID, f"{path}: {what}" if path else what, violations=(FieldViolation(path, what),)
        )

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path and key else self._path or key

    def _each(self, key: str, read: Callable[[object, str], T]) -> list[T]:
        values = self._values.get(key, [])
        if not isinstance(values, list):
            raise self.refusal(key, f"wants a list in brackets, not {_shown(values)}")
        return [read(value, f"{self._at(key)}[{index}]") for index, value in enumerate(values)]


def read_signature(table: Table) -> SignatureScheme:
    """Reads a signature scheme; `scheme` says which."""
    word = table.text("scheme")
    reader = _SCHEMES.get(word)
    if reader is None:
        raise table.refusal("scheme", f"is {word[:100]!r}; known are {', '.join(_SCHEMES)}")
    return reader(table)


def read_mapping(table: Table) -> WebhookMapping:
    """Reads a mapping."""
    table.check_keys(("type", "types", "event", "id", "time", "subjects", "subscriber"))
    event_type, types = table.text("type"), table.pairs("types")
    event, identifier, time, subscriber = (_place(table.table(key)) for key in ("event", "id", "time", "subscriber"))
    subjects = tuple(read_place(place) for place in table.tables("subjects"))
    return table.sound(lambda: WebhookMapping(event_type, event, identifier, time, subjects, subscriber, types))


def read_place(table: Table) -> Place:
    """Reads a place: `{ header = "X-Topic" }` or `{ path = "data.object.id" }`."""
    table.check_keys(("header", "path"))
    header, path = table.text("header", ""), table.text("path", "")
    if bool(header) == bool(path):
        raise table.refusal("", 'wants one of { header = "…" } and { path = "…" }')
    if header:
        name = table.header("header")
        return table.sound(lambda: HeaderPlace(name))
    return table.sound(lambda: parse_path(path))


def read_challenge(table: Table) -> Challenge:
    """Reads the challenge of a provider."""
    table.check_keys(("field", "value", "answer"))
    return Challenge(table.text("field"), table.text("value"), table.text("answer"))


def _place(table: Table | None) -> Place | None:
    return None if table is None else read_place(table)


def _hmac(table: Table) -> HmacScheme:
    table.check_keys(("scheme", "header", "algorithm", "encoding", "prefix"))
    header, prefix = table.header("header"), table.text("prefix", "")
    algorithm, encoding = table.word("algorithm", HashAlgorithm.SHA256), table.word("encoding", Encoding.HEX)
    return table.sound(lambda: HmacScheme(header, algorithm, encoding, prefix))


def _stripe(table: Table) -> StripeScheme:
    table.check_keys(("scheme", "header", "tolerance"))
    header, tolerance = table.header("header", StripeScheme().header), table.seconds("tolerance", DEFAULT_TOLERANCE)
    return table.sound(lambda: StripeScheme(header, tolerance))


def _slack(table: Table) -> SlackScheme:
    table.check_keys(("scheme", "tolerance"))
    tolerance = table.seconds("tolerance", DEFAULT_TOLERANCE)
    return table.sound(lambda: SlackScheme(tolerance))


def _standard_webhooks(table: Table) -> StandardWebhooksScheme:
    table.check_keys(("scheme", "tolerance"))
    tolerance = table.seconds("tolerance", DEFAULT_TOLERANCE)
    return table.sound(lambda: StandardWebhooksScheme(tolerance))


def _token(table: Table) -> TokenScheme:
    table.check_keys(("scheme", "header"))
    return TokenScheme(table.header("header"))


def _basic(table: Table) -> BasicScheme:
    table.check_keys(("scheme",))
    return BasicScheme()


def _none(table: Table) -> NoScheme:
    table.check_keys(("scheme",))
    return NoScheme()


_SCHEMES: Final[Mapping[str, Callable[[Table], SignatureScheme]]] = MappingProxyType(
    {
        "hmac": _hmac,
        "stripe": _stripe,
        "slack": _slack,
        "standard_webhooks": _standard_webhooks,
        "token": _token,
        "basic": _basic,
        "none": _none,
    }
)


def _text_of(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise Table({}, path).refusal("", f"wants a text in quotes, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:100]
