"""Writes the page about the compatibility of schemas from the table of its rules, for `scripts.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from certes_broker.schemas.compatibility.rules import RULES, Example, Rule, RuleText

NOTICE: Final = "<!-- Written by `python -m scripts.reference generate` from certes_broker/schemas/compatibility/rules.toml. Do not edit. -->"

_INTRODUCTION: Final = """\
A version of schemas, such as `community.certes.dev/github/1`, keeps its promises to those who were built against it. When it is
registered again, the broker compares all of it with what is registered. If no change is breaking, it becomes the next *revision*.
If one is, nothing is registered; the refusal names the first breaking changes, each with its rule, its element, and what it was
before and after, and says how many there are. `CheckCompatibility` lists them all, up to 512 KiB. The way out is the next major
version, `version: 2` in `(certes.v1.schema)`, which stands beside the first one.

A change is breaking if, for a subscriber or a publisher that was built against the older revision, it can

- make bytes or JSON unreadable, or give them another meaning;
- leave a subscription without the events that it asks for;
- take away a message, an enum or a service that generated code is made of.

What is compared:

- All files of the version, also those that its events only import, and all that is in them, whether an event reaches it or not. A file
  that is imported no more is gone. Left out are `google/protobuf/`, `certes/v1/` and the files of `buf.validate` and `validate`,
  which are not the version's own.
- Elements of the same full name, in whatever file they are; fields of the same name, or else of the same number.
- What files mean, not how they say it: `syntax = "proto3"` and an edition with the same features are the same.
- Validations, which are options of [protovalidate](https://protovalidate.com) (`buf.validate`, numbers 1159 and 1160) or
  protoc-gen-validate (`validate`, 1071 and 1072), but not what they mean: any change counts as narrowing, except that one is gone.

Whatever `buf breaking` calls breaking in its category `WIRE_JSON` is breaking here, too; the tests try that on random edits of random
schemas. Breaking here and not there: to add a value to an enum, to remove a field or a value that is reserved from then on, to remove a
message or an enum, to change a type or the presence of a field in any way, and to narrow a validation.

The examples are files before and after. Where one is only a part of a file, `syntax = "proto3"`, `package meetly.v1` and the import of
`certes/v1/options.proto` stand above it. The tests compile each, compare, and expect its rule and its verdict."""


def compatibility_page() -> Iterator[str]:
    """Returns the lines of the page; some are paragraphs."""
    yield "# Compatibility of schemas"
    yield f"\n{NOTICE}\n"
    yield _INTRODUCTION
    yield "\n## All rules\n\n| rule | breaking | what happened |\n|---|---|---|"
    for rule, text in RULES.items():
        yield f"| [`{rule}`](#{rule.lower()}) | {'yes' if text.breaking else 'no'} | {text.what} |"
    for section, rules in groupby(RULES.items(), key=lambda item: item[1].section):
        yield f"\n## {section}"
        for rule, text in rules:
            yield from _rule(rule, text)


def _rule(rule: Rule, text: RuleText) -> Iterator[str]:
    yield f"\n### `{rule}`\n"
    yield f"**{'Breaking' if text.breaking else 'Compatible'}.** {text.what} {text.why}"
    if text.instead:
        yield f"\nInstead: {text.instead[0].lower()}{text.instead[1:]}"
    for example in text.examples:
        yield from _example(example)


def _example(example: Example) -> Iterator[str]:
    beside = f", which is also {' and '.join(f'`{rule}`' for rule in example.beside)}" if example.beside else ""
    yield f"\nExample: {example.title}{beside}"
    yield f"\n```proto\n// before\n{example.before.strip()}\n```"
    yield f"\n```proto\n// after\n{example.after.strip()}\n```"
