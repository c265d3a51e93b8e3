"""`certes sources rejected` and `reingest`: the payloads that sources did not take, looked at and taken in again."""

from __future__ import annotations

import base64
import sys
from typing import Final

import click

from certes_broker.cli.connect import SOURCE_SERVICE, Broker, Document
from certes_broker.cli.failures import ExitCode
from certes_broker.cli.options import broker_option, json_option
from certes_broker.cli.output import plain, print_facts, print_json, print_table
from certes_broker.domain.errors import Reason

AT_ONCE: Final = 100
"""Payloads in one request."""
_UNPROVEN: Final = (
    "Nothing proves who sent what has no genuine signature. If the source had another secret then, give it that one with\n"
    "`certes sources rotate-secret SOURCE --secret -` and try again; if you know who sent it, say --trust-unverified."
)


@click.group()
def rejected() -> None:
    """Look at what sources refused and kept.

    They keep it only with --keep-rejected.
    """


@rejected.command("list")
@click.argument("source")
@json_option
@broker_option
def list_rejected(*, source: str, as_json: bool, broker: Broker) -> None:
    """List what SOURCE refused, newest first.

    Bodies are not listed: `show` has them.
    """
    found = _listed(broker, source)
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "TIME", "REASON", "VERIFIED", "BYTES", "MESSAGE"),
        [
            (
                one["name"],
                one["rejectTime"],
                one["reason"],
                "yes" if one.get("verified") else "no",
                one.get("bodyBytes", "0"),
                one.get("message", ""),
            )
            for one in found
        ],
        empty=f"{_full_source(source)} has no rejected payloads. It keeps them only with --keep-rejected.",
    )


@rejected.command("show")
@click.argument("name")
@click.option("--body", is_flag=True, help="Only the body, byte for byte.")
@json_option
@broker_option
def show_rejected(*, name: str, body: bool, as_json: bool, broker: Broker) -> None:
    """Show one rejected payload. NAME is sources/SOURCE/rejected/ID, or SOURCE/ID. Credentials are never kept."""
    full = _full_name(name)
    answer = broker.call(SOURCE_SERVICE, "GetRejected", {"name": full}, doing=f"Reading {full}")
    payload: Document = answer["rejected"]
    content = base64.b64decode(payload.get("body", ""))
    if body:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    elif as_json:
        print_json(payload)
    else:
        _print_rejected(payload, content)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "source", metavar="SOURCE", help="All rejected payloads of this source, the oldest first.")
@click.option(
    "--trust-unverified",
    is_flag=True,
    help="Also those that nothing proves the sender of: you know where they come from.",
)
@json_option
@broker_option
@click.pass_context
def reingest(
    ctx: click.Context,
    *,
    names: tuple[str, ...],
    source: str | None,
    trust_unverified: bool,
    as_json: bool,
    broker: Broker,
) -> None:
    """Ingest rejected payloads again, as if they came now. A NAME is sources/SOURCE/rejected/ID, or SOURCE/ID.

    What is taken is no longer kept as rejected. Ends with 1 if any is refused again.
    """
    if bool(names) == (source is not None):
        raise click.UsageError("Give the NAMES of payloads, or --all SOURCE.")
    wanted = [_full_name(name) for name in names]
    if source is not None:
        wanted = [one["name"] for one in reversed(_listed(broker, source))]
    results: list[Document] = []
    for start in range(0, len(wanted), AT_ONCE):
        request: Document = {"names": wanted[start : start + AT_ONCE], "trustUnverified": trust_unverified}
        answer = broker.call(SOURCE_SERVICE, "Reingest", request, doing="Ingesting again")
        results += answer["results"]
    if as_json:
        print_json(results)
    else:
        print_table(
            ("REJECTED", "EVENT", "OUTCOME"),
            [(one["rejected"], one.get("event", ""), _outcome(one)) for one in results],
            empty="There is nothing to ingest again.",
        )
    refused = [one for one in results if "event" not in one]
    if any(one["reason"] == Reason.SIGNATURE_INVALID for one in refused):
        click.echo(_UNPROVEN, err=True)
    if refused:
        ctx.exit(ExitCode.REFUSED)


def _listed(broker: Broker, source: str) -> list[Document]:
    full = _full_source(source)
    request: Document = {"parent": full}
    return broker.pages(SOURCE_SERVICE, "ListRejected", "rejected", request, doing=f"Listing what {full} rejected")


def _full_source(source: str) -> str:
    return source if "/" in source else f"sources/{source}"


def _full_name(name: str) -> str:
    source, slash, number = name.partition("/")
    if not slash:
        raise click.UsageError(f"{name!r} names no payload: give SOURCE/ID, as `certes sources rejected list` does.")
    return f"sources/{source}/rejected/{number}" if "/" not in number else name


def _outcome(result: Document) -> str:
    if "event" not in result:
        return f"{result['reason']}: {result['message']}"
    return "taken before" if result.get("duplicate") else "taken"


def _print_rejected(payload: Document, content: bytes) -> None:
    print_facts(
        [
            ("name", payload["name"]),
            ("time", payload["rejectTime"]),
            ("reason", payload["reason"]),
            ("message", payload.get("message", "")),
            ("verified", "yes" if payload.get("verified") else "no: nothing proves who sent it"),
            ("content type", payload.get("contentType", "")),
            ("headers", "\n".join(f"{name}: {value}" for name, value in sorted(payload.get("headers", {}).items()))),
            ("bytes", str(len(content))),
        ]
    )
    click.echo()
    click.echo(plain(content.decode(errors="replace")))
