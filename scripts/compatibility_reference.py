"""Writes the page about the compatibility of schemas from the table of its rules, for `scripts.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from certes_broker.schemas.compatibility.rules import RULES, Example, Rule, RuleText

NOTICE: Final = "<!-- Written by `python -m scripts.reference generate` from certes_broker/schemas/compatibility/rules.toml. Do not edit. -->"

_INTRODUCTION: Final = """\
A version of schemas (`community.certes.dev/github/1`) promises its subscribers that what they were built against stays true. When
it is registered again the broker compares all of it with what is registered. Changes that can break nobody become the next
*revision*. If one can break somebody, nothing is registered; the answer lists every change with its rule, its element and
both sides, and the way out is the next major version: `certes.v1.schema` with `version: 2`, beside which version 1 goes on.

A change is breaking if it can change what bytes or JSON mean to a subscriber or a publisher that was built against the
older revision, if it can leave a subscription without its events, or if it can take a type away from under generated code. What only
moves or renames generated code otherwise is not: files and language options are free.

- All files of the version are compared, also those that its events only import, and also messages that no event reaches,
  because code is generated from all of them. Left out are `google/protobuf/`, `certes/v1/` and the files of `buf.validate` and
  `validate`: they are not the version's to change. Their uses are compared.
- Elements are found by their full names, fields by their names, then by their numbers.
- What is compared is what a file means. `syntax = "proto3"` and an edition whose features say the same are the same.
- The rules are stricter than those of `buf breaking` in its category `WIRE_JSON`: whatever that calls breaking is breaking here,
  too, which the tests try on random schemas. Here it is breaking besides to add a value to an enum, to remove what
  was reserved first, to change any type, to change presence, to remove a message or an enum, and to narrow a validation.
- A validation is an option of [protovalidate](https://protovalidate.com) (`buf.validate`) or of protoc-gen-validate (`validate`). The
  broker knows them by their numbers (1159 and 1160, 1071 and 1072) and does not work out what they mean.

Every rule is below, each with examples. An example is a file before and after; where it shows only a part, `syntax = "proto3"`,
`package meetly.v1` and the import of `certes/v1/options.proto` stand above it. The tests compile all of them and compare."""


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
