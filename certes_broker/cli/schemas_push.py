"""`certes schemas push` and `check`: registers schemas, or only compares them with what is registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO

import click

from certes_broker.cli.connect import Broker
from certes_broker.cli.failures import CallRefused, Refusal, WouldBeRefused
from certes_broker.cli.options import broker_option, json_option
from certes_broker.cli.output import print_json
from certes_broker.cli.schemas_changes import print_breaking, print_compared, print_registered
from certes_broker.cli.schemas_submission import Submission, read_submission, submission_arguments


@click.command()
@submission_arguments
@click.option("--dry-run", is_flag=True, help="Do everything but registering.")
@json_option
@broker_option
def push(
    *, paths: tuple[Path, ...], descriptor_set: IO[bytes] | None, dry_run: bool, as_json: bool, broker: Broker
) -> None:
    """Register the schemas of all .proto files at PATHS, by default below the current folder.

    Imports are relative to the nearest folder with a buf.yaml, else to the folder that is named. Copies of what every
    broker has (certes, google/protobuf) are left out. All is registered or nothing, and what would break subscribers is
    refused.
    """
    submission = read_submission(paths, descriptor_set)
    try:
        answer = submission.register(broker, f"Registering {submission}", dry_run=dry_run)
    except CallRefused as refused:
        if refused.refusal.reason == "SCHEMA_INCOMPATIBLE" and not as_json:
            raise _incompatible(refused, submission, broker) from None
        raise _malformed(refused, submission) from None
    if as_json:
        print_json(answer)
        return
    print_registered(answer)
    if dry_run:
        click.echo("This was a dry run: nothing is registered.", err=True)


@click.command()
@submission_arguments
@json_option
@broker_option
def check(*, paths: tuple[Path, ...], descriptor_set: IO[bytes] | None, as_json: bool, broker: Broker) -> None:
    """Compare the schemas at PATHS with those that are registered. Ends with 1 if something would break.

    Nothing is registered: it is made for CI. PATHS are as for push.
    """
    submission = read_submission(paths, descriptor_set)
    doing = f"Comparing {submission}"
    try:
        answer = submission.check(broker, doing)
    except CallRefused as refused:
        raise _malformed(refused, submission) from None
    if as_json:
        print_json(answer)
    else:
        print_compared(answer)
    if not answer.get("compatible"):
        message = "What breaks somebody is not taken. Undo it, or define the next major version beside this one."
        raise WouldBeRefused(doing, Refusal("failed_precondition", message, "SCHEMA_INCOMPATIBLE"))


def _malformed(refused: CallRefused, submission: Submission) -> CallRefused:
    """Tells what does not compile, one line each, as compilers do, and returns what is left to say."""
    refusal = refused.refusal
    if refusal.reason != "SCHEMA_MALFORMED" or not refusal.violations:
        return refused
    for line in submission.faults(refusal.violations):
        click.echo(line, err=True)
    message = refusal.message.replace(f" {refusal.violations[0].description}", "", 1)
    return CallRefused(refused.doing, replace(refusal, message=message, violations=()))


def _incompatible(refused: CallRefused, submission: Submission, broker: Broker) -> CallRefused:
    """Prints what would break, as the broker compares it, and returns what is left to say."""
    comparisons = submission.check(broker, refused.doing).get("comparisons", [])
    breaking = [change for one in comparisons for change in one.get("changes", []) if change.get("breaking")]
    if not breaking:
        # Somebody else has registered meanwhile what makes these schemas fit.
        return refused
    print_breaking(breaking)
    return CallRefused(refused.doing, replace(refused.refusal, violations=()))
