"""The first words on a field or message that nobody has described yet, for a person to finish.

What GitHub names alike means the same everywhere, so most sentences follow from the key. Those of the JSON Schema are not
taken over.
"""

from __future__ import annotations

import re
from typing import Final

from scripts.derive_github_messages import Field, Message

EVERYWHERE: Final = {
    "sender": "Whose doing it was.",
    "repository": "Where it happened.",
    "organization": "The organization that owns the repository. Absent where a person owns it.",
    "installation": "The app installation to which the event was sent. Absent where the webhook is no app's.",
    "enterprise": "The enterprise to which the organization belongs. Absent where it belongs to none.",
    "author_association": "What its author is to the repository, for example `OWNER`, `MEMBER`, `CONTRIBUTOR` or `NONE`.",
    "reactions": "How many reacted, and how.",
}
"""What is said of a key wherever it stands."""


def message_comment(message: Message) -> str:
    """Returns a sentence on a message."""
    if message.event:
        return f"Something happened that GitHub calls `{message.event}`."
    if message.name.endswith("Changes"):
        return f"What was changed on a {noun(message.name.removesuffix('Changes'))}."
    return f"A {noun(message.name)}."


def field_comment(one: Field) -> str:
    """Returns a sentence on a field."""
    thing = noun(one.owner.removesuffix("Event"))
    missing = " Absent where GitHub does not say." if one.is_missing else ""
    choices = _listed(list(one.choices))
    match one.key:
        case key if key in EVERYWHERE:
            return EVERYWHERE[key]
        case "action":
            return f"What happened: {choices}." if choices else "What happened."
        case "id":
            return f"The {thing}'s number."
        case "node_id":
            return f"The {thing}'s id in the GraphQL API."
        case "url":
            return f"The {thing} in the REST API."
        case "html_url":
            return f"The {thing}'s page."
        case "created_at":
            return f"When the {thing} was made, in RFC 3339."
        case "updated_at":
            return f"When the {thing} was last changed, in RFC 3339."
        case key if one.owner.endswith("Changes"):
            before = f"The {key}" if "_" not in key else f"What `{key}` was"
            return f"{before} before. Absent where it stayed."
        case key if key.endswith("_url"):
            return f"The {thing}'s {_words(key.removesuffix('_url'))} in the REST API.{missing}"
        case key if key.endswith("_at"):
            return f"When it was {_words(key.removesuffix('_at'))}, in RFC 3339.{missing}"
        case key if key.endswith("_by"):
            return f"Who has it {_words(key.removesuffix('_by'))}.{missing}"
        case key if key.endswith("_count"):
            return f"How many {_words(key.removesuffix('_count'))} there are.{missing}"
        case key if one.kinds == {"boolean"}:
            return f"Whether it is {_words(key.removeprefix('is_'))}.{missing}"
        case key:
            return f"The {thing}'s {_words(key)}{f': {choices}' if choices else ''}.{missing}"


def noun(message: str) -> str:
    """Returns a message's name as words: `check run` of `CheckRun`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", message).lower()


_MOST_CHOICES: Final = 8


def _words(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", " ", key).strip()


def _listed(choices: list[str]) -> str:
    quoted = [f"`{choice}`" for choice in choices]
    if len(quoted) > _MOST_CHOICES:
        return f"{', '.join(quoted[:_MOST_CHOICES])} and others"
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)
