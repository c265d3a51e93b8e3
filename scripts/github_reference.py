"""The page of the reference on GitHub's events: which there are, and how payloads become messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor

from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.catalogue import COMMUNITY_DOMAIN, community_versions

GITHUB: Final = VersionName(COMMUNITY_DOMAIN, "github", 1)
PROTOS: Final = Path(__file__).resolve().parent.parent / "proto" / "certes" / "community" / "github" / "v1"


class Exemption(NamedTuple):
    """A place of an event's payloads that its message tells otherwise, or not at all. A list's items have no index."""

    event: str
    path: str
    reason: str


EXEMPTIONS: Final = (
    Exemption(
        "code_scanning_alert",
        "alert.rule.tags",
        "null where a list belongs: a list of a message is never absent, so it reads as an empty one",
    ),
)
"""All that is known. The test of the example payloads fails at any other."""


def github_page() -> Iterator[str]:
    """Yields the paragraphs of the page."""
    yield "# GitHub"
    yield "\n<!-- Written by `python -m scripts.reference generate`. Do not edit. -->\n"
    yield _INTRODUCTION
    yield "\n## What a message does not tell\n"
    yield _LEFT_OUT
    yield "\n| event | key | what becomes of it |\n|---|---|---|"
    for exemption in EXEMPTIONS:
        yield f"| `{exemption.event}` | `{exemption.path}` | {exemption.reason} |"
    yield "\n## Events\n"
    yield _EVENTS
    yield "\n| event | options | what happened |\n|---|---|---|"
    for event, options, comment in _events():
        yield f"| `{event}` | {', '.join(f'`{option}`' for option in options)} | {comment} |"


def _events() -> Iterator[tuple[str, tuple[str, ...], str]]:
    version = next(version for version in community_versions() if version.name == GITHUB)
    for event_type in version.event_types:
        schema = version.schema(event_type.name)
        assert schema is not None
        yield event_type.name, schema.options, _comment(schema.descriptor)


def _comment(descriptor: Descriptor) -> str:
    """Returns what a message's comment says, up to the event's name, which the table has already."""
    text = (PROTOS / Path(descriptor.file.name).name).read_text(encoding="utf-8")
    found = re.search(rf"((?:^// .*\n)+)message {descriptor.name} {{$", text, re.MULTILINE)
    assert found is not None
    comment = " ".join(line.removeprefix("// ") for line in found[1].splitlines())
    return comment.partition(" GitHub calls the event ")[0]


_INTRODUCTION: Final = """\
Every webhook event of GitHub is an event type `community.certes.dev/github/1/<event>`, where `<event>` is what GitHub sends
as `X-GitHub-Event`. A source with the provider `github` takes them in; see [Sources](../guide/sources.md). The protos are in
`proto/certes/community/github/v1`, and shipped with the stubs.

## How payloads become messages

* **Names** are those of the payload, so that its documentation is the message's. Four keys are no names in a proto or
  keywords in too many languages: `+1` is `plus_one`, `-1` is `minus_one`, `_links` is `links`, `from` is `previous`. JSON that
  is read may have either; JSON that is written has the payload's.
* **One thing is one message.** GitHub tells of a repository a hundred fields or four, depending on where; it is `Repository`
  everywhere, with the fields that were told.
* **Null and nothing** are the same: the field is absent. False, zero and empty are told from both, except in fields that every
  payload has.
* **Numbers**: ids, sizes and prices are 64 bits wide, what is counted 32. Times are texts in RFC 3339.
* **Open sets** of GitHub's, such as states and reasons, are texts, so that a new one needs no new schema.
* **Mixed** values, such as `repository.created_at` (a text, in push events a number) and `hook.config.insecure_ssl`, are a
  `google.protobuf.Value`.
* **Free** objects are a `google.protobuf.Struct` (`client_payload`, `inputs`, `custom_properties`) or a map (`permissions`).
  Their numbers are doubles: whole ones are exact up to 2^53.
* **New keys**, which GitHub adds at any time, are left out of the message until the schema knows them, and reported as drift.
* **What does not fit** its field is refused with the path, and the whole webhook with it: nothing is guessed. GitHub's OpenAPI
  document allows two such things that no webhook was ever seen to have: a null among the items of a list, as in
  `assignees: [null]`, and an issue's label as a text, which is a form of the REST API. A source that keeps what it refuses
  (`--keep-rejected`) loses neither."""

_LEFT_OUT: Final = """\
The body as it came is kept with the event, and `ORIGINAL` delivery hands on its very bytes, so nothing is lost. Of the values
in the example payloads that GitHub publishes, the messages tell all with these exceptions:"""

_EVENTS: Final = """\
A subscription can select by the options: `repo` is the repository's full name, `org` the organization's handle, `sender` the
handle of who did it."""
