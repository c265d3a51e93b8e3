"""How `push` and `check` show what became of schemas, and how they differ from those that are registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from certes_broker.cli.connect import Document
from certes_broker.cli.output import print_table


def print_registered(answer: Document) -> None:
    """Prints a `RegisterSchemasResponse`: each event type with its revision, and what changed."""
    comparisons = {_name(one): one for one in answer.get("comparisons", [])}
    rows = []
    for schema in answer.get("schemas", []):
        comparison = comparisons.get(schema["type"].rpartition("/")[0], {})
        rows.append((schema["type"], schema["revision"], _state(schema, comparison)))
    print_table(("TYPE", "REVISION", "STATE"), rows, empty="There is nothing to register.")
    _print_changes([change for one in comparisons.values() if _known(one) for change in one.get("changes", [])])


def print_compared(answer: Document) -> None:
    """Prints a `CheckCompatibilityResponse`: each version, and what changed, what would break first."""
    comparisons = answer.get("comparisons", [])
    rows = [(_name(one), one.get("registeredRevision", "none"), _verdict(one)) for one in comparisons]
    print_table(("VERSION", "REGISTERED REVISION", "VERDICT"), rows, empty="There is nothing to compare.")
    changes = [change for one in comparisons if _known(one) for change in one.get("changes", [])]
    if not all(one.get("compatible") for one in comparisons):
        click.echo()
    print_breaking(changes)
    _print_changes([change for change in changes if not change.get("breaking")])


def print_breaking(changes: Sequence[Document]) -> None:
    """Prints the breaking ones of some changes, with what to do about each."""
    breaking = [change for change in changes if change.get("breaking")]
    if breaking:
        rows = [(one["rule"], one["element"], f"{_sides(one)}\n{one.get('description', '')}") for one in breaking]
        print_table(("BREAKING", "ELEMENT", "FROM → TO, AND WHAT TO DO"), rows, empty="")


def _print_changes(changes: Sequence[Document]) -> None:
    if changes:
        click.echo()
        print_table(
            ("CHANGE", "ELEMENT", "FROM → TO"),
            [(change["rule"], change["element"], _sides(change)) for change in changes],
            empty="",
        )


def _name(comparison: Mapping[str, object]) -> str:
    return f"{comparison['domain']}/{comparison['namespace']}/{comparison['version']}"


def _known(comparison: Document) -> bool:
    """Says whether there was a revision to compare with."""
    return "registeredRevision" in comparison


def _state(schema: Document, comparison: Document) -> str:
    changes = comparison.get("changes", [])
    if not _known(comparison) or any(
        change["rule"] == "EVENT_TYPE_ADDED" and change["element"] == schema["type"] for change in changes
    ):
        return "new"
    return "unchanged" if schema["revision"] == comparison["registeredRevision"] else "new revision"


def _verdict(comparison: Document) -> str:
    changes = comparison.get("changes", [])
    breaking = sum(1 for change in changes if change.get("breaking"))
    if not _known(comparison):
        return "new"
    if breaking:
        return f"breaking: {breaking} of {_counted(changes)}"
    return f"compatible: {_counted(changes)}" if changes else "compatible: nothing changed"


def _counted(changes: Sequence[Document]) -> str:
    return "1 change" if len(changes) == 1 else f"{len(changes)} changes"


def _sides(change: Document) -> str:
    return " → ".join(change.get(side) or "–" for side in ("before", "after"))
