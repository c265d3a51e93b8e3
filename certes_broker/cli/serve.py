"""`certes serve`: runs the broker."""

from __future__ import annotations

from pathlib import Path

import click

from certes_broker.cli.failures import ExitCode
from certes_broker.cli.options import config_option, existing_config, settings_environment
from certes_broker.config import Config


@click.command()
@config_option
@click.option(
    "--engine",
    metavar="ENGINE",
    help="What keeps events: sqlite, or NATS servers as nats://HOST,HOST.  [default: sqlite]",
)
@click.option("--data-dir", metavar="DIR", help="Where events are kept.  [default: ./certes-data]")
@click.option("--http", metavar="HOST:PORT", help="Where HTTP is served.  [default: 127.0.0.1:9600]")
@click.option("--grpc", metavar="HOST:PORT", help="Where gRPC is served.  [default: 127.0.0.1:9601]")
@click.option("--dev", is_flag=True, help="For development: webhooks may go to loopback addresses.")
@click.option("--ready-json", is_flag=True, hidden=True, help="Announce readiness as one line of JSON.")
@click.pass_context
def serve(
    ctx: click.Context,
    *,
    config_file: Path | None,
    engine: str | None,
    data_dir: str | None,
    http: str | None,
    grpc: str | None,
    dev: bool,
    ready_json: bool,
) -> None:
    """Run the broker until SIGTERM or Ctrl-C.

    Settings come from these options, else from CERTES_… environment variables, else from the configuration file.
    SIGHUP makes a running broker read its sources again.
    """
    given: dict[str, object] = {"engine": engine, "data_dir": data_dir, "http.listen": http, "grpc.listen": grpc}
    overrides = {key: value for key, value in given.items() if value is not None}
    if dev:
        overrides["dev"] = True
    if ready_json:
        overrides["ready_json"] = True
    config = Config.load(existing_config(config_file), settings_environment(), overrides)

    # Imported here because no other command needs the broker, and so that mistaken settings are told at once.
    from certes_broker.app import run  # noqa: PLC0415
    from certes_broker.observability.logging import configure_logging  # noqa: PLC0415

    configure_logging(config.log.level, config.log.format)
    # The log has said why, where it does.
    ctx.exit(ExitCode.SETTINGS if run(config) else ExitCode.OK)
