"""The command `certes` of this tree, as tests run it. What it prints is searched for secrets, as it tells what brokers have told it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from scripts.broker_process import ROOT, look_for_secrets

_CERTES = (sys.executable, "-m", "certes_broker")
TELLING = frozenset(
    {
        ("keys", "create"),
        ("keys", "generate"),
        ("sources", "create"),
        ("sources", "rotate-secret"),
        ("subscriptions", "rotate-secret"),
    }
)
"""What prints a secret because it is there for that, besides what is asked for `--secrets`."""


def surroundings(**more: str) -> dict[str, str]:
    """Returns the environment of a command. Variables of ours that begin with `CERTES_` are kept from it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
    return inherited | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "generated")])} | more


def certes(*words: str, stdin: str = "", timeout: float = 60, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the command until it ends."""
    done = subprocess.run(
        [*_CERTES, *words],
        input=stdin,
        capture_output=True,
        text=True,
        env=surroundings(**environ),
        timeout=timeout,
        check=False,
    )
    look_at_printed(words, done.stdout, done.stderr)
    return done


def started(*words: str, **environ: str) -> subprocess.Popen[str]:
    """Starts a command that does not end by itself. Who ends it has what it printed looked at."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*_CERTES, *words], stdout=pipe, stderr=pipe, text=True, env=surroundings(**environ))


def look_at_printed(words: Sequence[str], output: str, errors: str) -> None:
    """Has the brokers of the test look at what a command with these words has printed."""
    where = f"certes {' '.join(words[:2])}"
    look_for_secrets(errors, where)
    look_for_secrets(output, where, is_telling=tuple(words[:2]) in TELLING or "--secrets" in words)
