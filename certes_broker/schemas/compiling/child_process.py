"""One child process, started and awaited in a thread, so that it can be ended at any moment of its life and before it.

Not by the event loop: uvloop forks, which runs what gRPC has to do at a fork, and that ends every third child before it has
begun. `subprocess` uses vfork, which runs nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock


class ChildProcess:
    """A process that inherits nothing: no environment, no open files, no terminal. What it prints is dropped."""

    def __init__(self, command: Sequence[str], *, folder: Path, errors: Path) -> None:
        """`folder` is where it starts, `errors` the file that its standard error becomes."""
        self._command = command
        self._folder = folder
        self._errors = errors
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_unwanted = False

    def run(self) -> int:
        """Starts the process and waits for its end. Blocks; for a thread.

        Returns its exit status, or that of a signal, negative. Raises `OSError` if it cannot be started.
        """
        with self._errors.open("wb") as errors, self._lock:
            if self._is_unwanted:
                return -signal.SIGKILL
            self._process = subprocess.Popen(  # noqa: S603 (a program of ours, whose arguments are ours)
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self._folder,
                env={},
                start_new_session=True,
            )
        return self._process.wait()

    def end(self) -> None:
        """Ends the process with all that it may have started; if it has not been started, it will not be."""
        with self._lock:
            self._is_unwanted = True
            if self._process is not None and self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
