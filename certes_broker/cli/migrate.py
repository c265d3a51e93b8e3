"""`certes migrate`: moves a broker's data from the embedded engine to NATS servers."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certes_broker.cli.options import config_option, existing_config, json_option, settings_environment
from certes_broker.cli.output import print_json
from certes_broker.config import Config

if TYPE_CHECKING:
    from certes_broker.broker.migration import Counts

_SOURCE = "sqlite"


@click.command()
@config_option
@click.option(
    "--from",
    "source",
    default=_SOURCE,
    show_default=True,
    metavar="sqlite[:DIR]",
    help="What is moved: the embedded engine's data, in DIR or the configured data directory. No broker may run on it.",
)
@click.option(
    "--to",
    "target",
    required=True,
    metavar="nats://HOST,HOST",
    help="The servers; [nats] says the rest, such as nats.prefix.",
)
@json_option
def migrate(*, config_file: Path | None, source: str, target: str, as_json: bool) -> None:
    """Move everything that a broker keeps from SQLite to NATS servers.

    Events keep their order, subscriptions what they are owed, and what was settled stays settled. What is moved is only read.
    When it was interrupted, run it again: it goes on where it ended. At the end everything is counted in the target.
    """
    kind, _, directory = source.partition(":")
    if kind != _SOURCE:
        raise click.BadParameter(f"{source!r} is not of the form sqlite or sqlite:DIR.", param_hint="--from")
    overrides: dict[str, object] = {"engine": target}
    if directory:
        overrides["data_dir"] = directory
    config = Config.load(existing_config(config_file), settings_environment(), overrides)
    if config.engine.is_embedded:
        raise click.BadParameter("names no NATS servers.", param_hint="--to")
    if not (config.data_dir / "certes.db").exists():
        raise click.BadParameter(f"{config.data_dir} has no data of a broker.", param_hint="--from")
    counts = asyncio.run(_migrate(config))
    if as_json:
        print_json(asdict(counts))
        return
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in asdict(counts).items())
    click.echo(f"Moved to {config.engine} under {config.nats.prefix!r}, and counted there: {told}.")
    click.echo(f"Start brokers with `certes serve --engine {config.engine}`, and none on {config.data_dir} any more.")


async def _migrate(config: Config) -> Counts:
    # Imported here because no other command needs engines.
    from certes_broker.broker.migration import Migration  # noqa: PLC0415
    from certes_broker.broker.system_clock import SystemClock  # noqa: PLC0415
    from certes_broker.config.nats_place import nats_place  # noqa: PLC0415
    from certes_broker.config.sealing_keys import sealing_keys  # noqa: PLC0415
    from certes_broker.engines.nats import NatsEngine  # noqa: PLC0415
    from certes_broker.engines.sealed import SealedEngine, SealedSettings, sealed  # noqa: PLC0415
    from certes_broker.engines.sqlite.engine import SqliteEngine  # noqa: PLC0415
    from certes_broker.observability.logging import configure_logging  # noqa: PLC0415

    # Standard output is for what was moved.
    configure_logging(config.log.level, config.log.format)
    clock, window = SystemClock(), config.dedupe.window
    async with (
        SqliteEngine.open(config.data_dir, clock, dedupe_window=window) as old,
        NatsEngine.open(nats_place(config), clock, dedupe_window=window) as new,
    ):
        keys = sealing_keys(config)
        # Opened without sealing anew what another key has sealed: the source is only read.
        opened = SealedEngine(old, SealedSettings(old.settings, keys))
        target, _ = await sealed(new, keys)
        return await Migration(opened, old, target, _Bar()).run()


class _Bar:
    """Shows how far it is: a line that is written over on a terminal, and nothing elsewhere."""

    def __call__(self, what: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        share = done / total if total else 1.0
        filled = "█" * int(share * 30)
        click.echo(f"\r{what:<14} {filled:<30} {done:>10,} of {total:,}", err=True, nl=done == total)
