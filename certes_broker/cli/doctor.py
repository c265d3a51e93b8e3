"""`certes doctor`: checks that a broker can work here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from certes_broker.cli import checks
from certes_broker.cli.checks import Finding, Verdict
from certes_broker.cli.failures import ExitCode
from certes_broker.cli.nats_checks import nats_servers
from certes_broker.cli.options import config_option, existing_config, json_option, settings_environment
from certes_broker.cli.output import print_json
from certes_broker.config import Config
from certes_broker.config.sealing_keys import sealing_keys
from certes_broker.domain.errors import CertesError

_COLOURS: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


@click.command()
@config_option
@click.option(
    "--engine", metavar="ENGINE", help="Look at this engine instead of the configured one: sqlite or nats://HOST,HOST."
)
@click.option("--data-dir", metavar="DIR", help="Look at this data directory instead of the configured one.")
@json_option
@click.pass_context
def doctor(
    ctx: click.Context, *, config_file: Path | None, engine: str | None, data_dir: str | None, as_json: bool
) -> None:
    """Check that a broker can work here, and say what to do where it cannot.

    Ends with 0 unless a check fails; warnings are no failures.
    """
    given = {"engine": engine, "data_dir": data_dir}
    overrides: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    findings = []
    for finding in _findings(config_file, overrides):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    if as_json:
        print_json(
            [
                {"subject": one.subject, "verdict": one.verdict.value, "fact": one.fact, "advice": one.advice}
                for one in findings
            ]
        )
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        ctx.exit(ExitCode.UNFIT)


def _findings(config_file: Path | None, overrides: dict[str, object]) -> Iterator[Finding]:
    yield checks.versions()
    yield checks.libcurl()
    file = existing_config(config_file)
    try:
        config = Config.load(file, settings_environment(), overrides)
    except CertesError as error:
        # What follows goes by the settings; there is no telling what they were meant to be.
        yield Finding("configuration", Verdict.FAIL, str(error), "Mend it, then run this again.")
        return
    yield Finding("configuration", Verdict.OK, f"{file or 'no file, all defaults'}; {len(config.sources)} sources")
    yield from _directory(config) if config.engine.is_embedded else nats_servers(config)
    yield _secrets(config)
    yield checks.http_port(config.http.listen)
    yield checks.grpc_port(config.grpc.listen)


def _secrets(config: Config) -> Finding:
    try:
        keys = sealing_keys(config)
    except CertesError as error:
        return Finding("secrets", Verdict.FAIL, str(error), "Mend it, or the broker does not start.")
    if keys:
        return Finding("secrets", Verdict.OK, f"encrypted; {len(keys)} keys")
    return Finding(
        "secrets",
        Verdict.WARN,
        "kept in clear, for whoever can read the storage or a backup of it",
        "Set secrets.keys_file to a file that is kept elsewhere; `openssl rand -base64 32` makes a key.",
    )


def _directory(config: Config) -> Iterator[Finding]:
    writable = checks.data_dir(config.data_dir)
    yield writable
    if writable.verdict is Verdict.OK:
        place = checks.existing(config.data_dir)
        yield checks.free_space(place, config.retention.bytes)
        yield checks.fsync(place)
        yield checks.clock(place, time.time())


def _print_finding(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict.value:<4}", fg=_COLOURS[finding.verdict], bold=True)
    click.echo(f"{verdict}  {finding.subject:<15} {finding.fact}")
    if finding.advice:
        click.echo(f"{'':22}{click.style('→', dim=True)} {finding.advice}")
