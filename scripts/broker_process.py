"""A broker as a child process, for tests, the demo and benchmarks.

    with BrokerProcess(directory / "data").start() as broker:
        ...                     # broker.http, broker.grpc
        broker.kill9()          # SIGKILL, as a crash would be
        broker.start()          # the same data, at the same addresses

Rules
-----
* It is the real program, `python -m certes_broker serve`, and readiness is what the program says itself: nothing here
  sleeps or polls.
* It does not outlive the block, however that ends.
* Whatever it has written when it ends, a crash included, has no secret in it; else whoever ends it hears `SecretEmitted`.
* Ports are free ones that are held over all starts (`scripts/ports.py`), so that clients find the broker again. Where somebody took one
  before the first start, others are chosen.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from scripts.emitted_secrets import SecretEmitted, find_secrets, secrets_given
from scripts.ports import HeldPorts, is_free

ROOT: Final = Path(__file__).resolve().parent.parent
START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0
_LOG_SHOWN: Final = 4000


class BrokerFailed(Exception):
    """The broker ended, or did not become ready. The message has the end of its log."""


class BrokerProcess:
    """One broker and its data directory. Its standard error goes to `log_file`, over all starts.

    Variables of the surroundings that begin with `CERTES_` are kept from it; `environ` is what it gets beside the rest. It is not to be
    searched for secrets where it is sent some as if they were none.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        config: Path | None = None,
        dev: bool = True,
        environ: Mapping[str, str] | None = None,
        http: str = "127.0.0.1:0",
        grpc: str = "127.0.0.1:0",
        is_searched: bool = True,
    ) -> None:
        self.data_dir = data_dir
        self.log_file = data_dir.with_name(f"{data_dir.name}.log")
        self._config = config
        self._dev = dev
        self._environ = dict(environ or {})
        self._http = http
        self._grpc = grpc
        self._wanted = (http, grpc)
        self._has_served = False
        self._choose_ports()
        self._process: subprocess.Popen[bytes] | None = None
        self._secrets: set[str] = set()
        self._is_searched = is_searched
        self._looked_at = 0

    @property
    def http(self) -> str:
        """`host:port` of HTTP. Another one only if the first start finds that somebody has taken it."""
        return self._http

    @property
    def grpc(self) -> str:
        """`host:port` of gRPC, likewise."""
        return self._grpc

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def confide(self, *secrets: str) -> None:
        """Names what it must not write, beside what is in its settings: what it was told, or has made for somebody."""
        self._secrets.update(secrets)

    def look_at(self, text: str) -> None:
        """Looks for secrets in what it has written, or answered somebody. Raises `SecretEmitted`."""
        found = find_secrets(text, self._secrets) if self._is_searched else []
        if found:
            raise SecretEmitted("\n".join(["The broker tells secrets:", *found]))

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Starts the broker and returns when it is ready. Raises `BrokerFailed` if it is not within `timeout` seconds."""
        if self._process is not None:
            raise RuntimeError("The broker runs already; stop it first.")
        self._know_settings()
        try:
            self._start(timeout)
        except BrokerFailed:
            if self._has_served or all(map(is_free, self._held.numbers)):
                raise
            self._choose_ports()
            self._start(timeout)
        self._has_served = True
        return self

    def _start(self, timeout: float) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self._environment()
            )
        try:
            ready = json.loads(self._first_line(self._process, timeout))
            self._http, self._grpc = ready["http"], ready["grpc"]
        except BaseException:
            self.kill9()
            raise

    def _choose_ports(self) -> None:
        """Takes free ports for those addresses that want any."""
        self._held = HeldPorts(sum(address.endswith(":0") for address in self._wanted))
        numbers = iter(self._held.numbers)
        self._http, self._grpc = (
            f"{address.removesuffix('0')}{next(numbers)}" if address.endswith(":0") else address
            for address in self._wanted
        )

    def kill9(self) -> None:
        """Kills it, as a crash would, and returns when it is gone. Does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._reap(STOP_TIMEOUT)

    def terminate(self, timeout: float = STOP_TIMEOUT) -> int:
        """Asks it to stop, waits until it has, and returns its exit code. Raises `BrokerFailed` if it does not."""
        self._running().send_signal(signal.SIGTERM)
        return self._reap(timeout)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Waits until it has ended by itself, and returns its exit code. Raises `BrokerFailed` if it does not."""
        return self._reap(timeout)

    def hang_up(self) -> None:
        """Asks it to read its sources again."""
        self._running().send_signal(signal.SIGHUP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill9()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("The broker does not run; start it first.")
        return self._process

    def _reap(self, timeout: float) -> int:
        process = self._running()
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise self._failure(f"did not stop within {timeout:g} s") from None
        finally:
            self._process = None
            self._look_for_secrets(process)
        return code

    def _know_settings(self) -> None:
        self._secrets |= secrets_given(self._config, self._environ)

    def _look_for_secrets(self, process: subprocess.Popen[bytes]) -> None:
        """Looks at all that it has written since its last end. Raises `SecretEmitted`."""
        assert process.stdout is not None
        with process.stdout:
            # Who inherited the pipe may hold it open still.
            os.set_blocking(process.stdout.fileno(), False)
            printed = process.stdout.read() or b""
        with self.log_file.open("rb") as log:
            log.seek(self._looked_at)
            written = log.read()
            self._looked_at += len(written)
        self._know_settings()  # They may have been changed for it to read again.
        self.look_at((printed + b"\n" + written).decode(errors="replace"))

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "certes_broker", "serve", "--ready-json"]
        command += ["--data-dir", str(self.data_dir), "--http", self._http, "--grpc", self._grpc]
        if self._config is not None:
            command += ["--config", str(self._config)]
        return [*command, "--dev"] if self._dev else command

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
        # The tree this file stands in, whatever may be installed, and whatever directory this is run in.
        paths = [str(ROOT), str(ROOT / "generated"), inherited.get("PYTHONPATH", "")]
        return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | self._environ

    def _first_line(self, process: subprocess.Popen[bytes], timeout: float) -> bytes:
        """Waits for the one line that says the broker is ready."""
        assert process.stdout is not None
        deadline = time.monotonic() + timeout
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._failure(f"was not ready within {timeout:g} s")
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    raise self._failure(f"ended with exit code {process.wait()} before it was ready")
                line += piece
        return line

    def _failure(self, what: str) -> BrokerFailed:
        return BrokerFailed(f"The broker {what}. The end of its log:\n{self.log[-_LOG_SHOWN:]}")
