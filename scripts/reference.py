"""Writes the parts of the reference that the code itself knows, and proves that the committed ones are fresh.

python -m scripts.reference generate     writes configuration.md, cli.md, compatibility.md and github.md in docs/reference
python -m scripts.reference check        changes nothing; fails, naming each stale file
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from certes_broker.cli.failures import EXIT_MEANINGS
from certes_broker.cli.main import main as certes
from certes_broker.config.certificate_tables import CERTIFICATE_KEYS
from certes_broker.config.setting import Setting
from certes_broker.config.settings import known_settings, section_meanings
from certes_broker.config.source_tables import SOURCE_KEYS
from scripts.compatibility_reference import compatibility_page
from scripts.github_reference import github_page

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTICE: Final = "<!-- Written by `python -m scripts.reference generate`. Do not edit. -->"


def main() -> int:
    """Runs the command named on the command line and returns its exit code."""
    parser = argparse.ArgumentParser(description="Writes the parts of the reference that the code itself knows.")
    parser.add_argument("command", choices=("generate", "check"))
    command: str = parser.parse_args().command

    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{'stale' if command == 'check' else 'written'}: docs/reference/{path.name}")
    if command == "check":
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
    return 0


def pages() -> dict[Path, str]:
    """Returns the path and text of every page."""
    return {
        REFERENCE / "configuration.md": "\n".join(_configuration()) + "\n",
        REFERENCE / "cli.md": "\n".join(_command_line()) + "\n",
        REFERENCE / "compatibility.md": "\n".join(compatibility_page()) + "\n",
        REFERENCE / "github.md": "\n".join(github_page()) + "\n",
    }


def _configuration() -> Iterator[str]:
    yield "# Configuration"
    yield f"\n{NOTICE}\n"
    yield (
        "A broker runs without any. Settings are read from the command line, else from environment variables, else from\n"
        "a TOML file (`--config FILE`, `CERTES_CONFIG`, or `certes.toml` in the directory where it is started), else they\n"
        "have their defaults. A key that is unknown, or a value that cannot be meant, keeps the broker from starting; the\n"
        "error names each of them with file, line and column.\n\n"
        'A *duration* is a text such as `"7d"`, `"1h30m"`, `"20s"` or `"500ms"`, or a number of seconds. A *size* is a\n'
        'text such as `"10GiB"`, `"64 MiB"` or `"1MB"`, or a number of bytes. In an environment variable a list has commas\n'
        "between its items, and quotes are left out."
    )
    sections = section_meanings()
    by_section: dict[str, list[Setting[Any]]] = {}
    for setting in known_settings():
        by_section.setdefault(setting.path[0] if len(setting.path) > 1 else "", []).append(setting)
    for section, settings in by_section.items():
        yield f"\n## `[{section}]`\n\n{sections[section]}" if section else "\n## Above the first section"
        yield "\n| key | kind | default | bounds | environment | meaning |\n|---|---|---|---|---|---|"
        for setting in settings:
            yield (
                f"| `{setting.path[-1]}` | {_cell(setting.kind.name)} | `{setting.kind.spell(setting.default)}` "
                f"| {_bounds(setting)} | `{setting.variable}` | {_cell(setting.meaning)} |"
            )
    yield (
        "\n## `[[auth.certificates]]`\n\nWhat callers may do by the certificates that they connect with, one table for each identity, where\n"
        "`tls.client_ca` is set. [The guide](../guide/security.md#certificates) says which of several counts.\n\n"
        "| key | meaning |\n|---|---|"
    )
    for key, meaning in CERTIFICATE_KEYS.items():
        yield f"| `{key}` | {_cell(meaning)} |"
    yield (
        "\n## `[[sources]]`\n\nWays in for foreign webhooks, one table for each, for those who keep them in a file;\n"
        "`certes sources create` makes one on a running broker instead. Of two with one name the one declared here is served.\n"
        "A running broker takes up changes of these tables on SIGHUP; all other keys need a restart.\n\n"
        "| key | meaning |\n|---|---|"
    )
    for key, meaning in SOURCE_KEYS.items():
        yield f"| `{key}` | {_cell(meaning)} |"
    yield (
        "\n## An example\n\n```toml\n"
        'data_dir = "/var/lib/certes"\ndomain = "events.meetly.com"\n\n'
        '[retention]\nage = "30d"\nbytes = "50GiB"\n\n'
        '[[sources]]\nname = "github"\nprovider = "github"\naudience = "everyone"\n'
        "# its secret comes as CERTES_SOURCE_GITHUB_SECRETS\n```"
    )


def _command_line() -> Iterator[str]:
    yield "# The command `certes`"
    yield f"\n{NOTICE}\n"
    yield (
        "`certes` and `python -m certes_broker` are the same. All but `serve` and `doctor` are clients of a running broker:\n"
        "they call its JSON API over HTTP, at `--broker` or `CERTES_BROKER`. Tables on a terminal become lines with\n"
        "tabs in a pipe; `--json` prints what the API answered. Standard output has results only, standard error the rest.\n\n"
        "| exit code | meaning |\n|---|---|"
    )
    for code, meaning in EXIT_MEANINGS.items():
        yield f"| {code.value} | {meaning} |"
    for path, command, context in _commands(certes, click.Context(certes, info_name="certes", color=False)):
        yield f"\n## `{path}`\n\n```text\n{command.get_help(context)}\n```"


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    context.terminal_width = 100
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, click.Context(inner, info_name=name, parent=context, color=False))


def _bounds(setting: Setting[Any]) -> str:
    spell = setting.kind.spell
    bounds = [
        f"{word} `{spell(bound)}`"
        for word, bound in (("≥", setting.minimum), ("≤", setting.maximum))
        if bound is not None
    ]
    return ", ".join(bounds)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
