"""The command `certes`.

Rules
-----
* Commands are thin: `serve` starts the broker, `doctor` looks after this machine, `migrate` moves a broker's data, all others are clients of the public
  API, but for `keys generate`, which needs a broker no more than a broker needs to be there before it has a key.
* A command's module is imported when the command is called, so that none waits for what another needs.
* Failures end here: each has one exit code and one text, on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import click

from certes_broker.cli.failures import BrokerUnreachable, CallRefused, ExitCode
from certes_broker.domain.errors import CertesError

COMMANDS: Final[Mapping[str, str]] = {
    "serve": "certes_broker.cli.serve",
    "publish": "certes_broker.cli.publish",
    "tail": "certes_broker.cli.tail",
    "subscriptions": "certes_broker.cli.subscriptions",
    "deliveries": "certes_broker.cli.deliveries",
    "dead-letters": "certes_broker.cli.dead_letters",
    "redeliver": "certes_broker.cli.deliveries",
    "schemas": "certes_broker.cli.schemas",
    "sources": "certes_broker.cli.sources",
    "keys": "certes_broker.cli.keys",
    "subscribers": "certes_broker.cli.subscribers",
    "ping": "certes_broker.cli.looking",
    "stats": "certes_broker.cli.looking",
    "backoffs": "certes_broker.cli.backoffs",
    "migrate": "certes_broker.cli.migrate",
    "doctor": "certes_broker.cli.doctor",
}
"""Every command, and the module that has it under its own name, with `_` for `-`."""


class Certes(click.Group):
    """Imports commands when they are asked for, and turns failures into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CallRefused as error:
            _fail(ctx, str(error), ExitCode.REFUSED)
        except BrokerUnreachable as error:
            _fail(ctx, str(error), ExitCode.UNREACHABLE)
        except CertesError as error:
            _fail(ctx, str(error), ExitCode.SETTINGS)
        except BrokenPipeError:
            # The interpreter would flush standard output once more at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(ExitCode.PIPE_CLOSED)
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)


def _fail(ctx: click.Context, message: str, code: ExitCode) -> None:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True)
    ctx.exit(code)


def _version() -> str:
    try:
        return version("certes")
    except PackageNotFoundError:
        return "(not installed)"


@click.group(cls=Certes, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="certes")
def main() -> None:
    """Broker for typed events: webhooks in, events out over gRPC streams and signed webhooks."""
