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
* What it tells has no secret in it; else whoever ends it hears `SecretEmitted`. It looks itself at all that it has written when it
  ends, a crash included, and at its metrics; what else came from a broker is shown to it (`look_at`, `look_for_secrets`).
* Ports are free ones that are held over all starts (`scripts/ports.py`), so that clients find the broker again. Where somebody took one
  before the first start, others are chosen.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self
from weakref import WeakSet

from scripts.emitted_secrets import SecretEmitted, find_secrets, secrets_given, secrets_told
from scripts.ports import HeldPorts, is_free

ROOT: Final = Path(__file__).resolve().parent.parent
START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0
METRICS_TIMEOUT: Final = 2.0
"""Seconds. A broker that hangs has none to look at."""
_LOG_SHOWN: Final = 4000
_FINDINGS: Final = 5
"""Lines of one place that are told. A leak in one message is one in thousands."""


class BrokerFailed(Exception):
    """The broker ended, or did not become ready. The message has the end of its log."""


class BrokerProcess:
    """One broker and its data directory. Its standard error goes to `log_file`, over all starts.

    Variables of the surroundings that begin with `CERTES_` are kept from it; `environ` is what it gets beside the rest. It is not to be
    searched for secrets where it is sent some as if they were none.
    """

    searched: ClassVar[WeakSet[BrokerProcess]] = WeakSet()
    """Those of this process that are looked at. A client does not know which of them its answer is from."""

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
        self._secrets: frozenset[str] = frozenset()
        self._found: dict[str, list[str]] = {}
        self._looked_at = 0
        if is_searched:
            self.searched.add(self)

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
        """Names what it must not tell, beside what is in its settings and what answers of this process have told: what it was sent."""
        self._secrets |= set(secrets)

    def look_at(self, told: str | bytes, where: str) -> None:
        """Looks for secrets in what came from a broker. `SecretEmitted` tells what is found, and `where`, when this one ends.

        It is not raised here, where a client, or a receiver, could take it for a failure of its own and go on.
        """
        if self in self.searched:
            for found in find_secrets(_text(told), self._secrets):
                known = self._found.setdefault(where, [])
                if found not in known and len(known) < _FINDINGS:
                    known.append(found)

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
        self._look_at_metrics()
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
        if self.is_running:
            self._look_at_metrics()
        self.kill9()
        self._tell_found()

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
            self._look_at_written(process)
            self._tell_found()
        return code

    def _know_settings(self) -> None:
        self._secrets |= secrets_given(self._config, self._environ)

    def _tell_found(self) -> None:
        found, self._found = self._found, {}
        if found:
            lines = [f"{where}: {one}" for where, known in found.items() for one in known]
            raise SecretEmitted("\n".join(["The broker tells secrets:", *lines]))

    def _look_at_metrics(self) -> None:
        """Looks at its figures, as an operator gets them, unless it hangs or asks for a certificate."""
        if self not in self.searched:
            return
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        keys = [secret for secret in secrets_given(self._config, self._environ) if secret.startswith("certes_")]
        headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
        for connection in (
            HTTPConnection(self._http, timeout=METRICS_TIMEOUT),
            HTTPSConnection(self._http, timeout=METRICS_TIMEOUT, context=trusting),
        ):
            with closing(connection):
                try:
                    connection.request("GET", "/metrics", headers=headers)
                    self.look_at(connection.getresponse().read(), "/metrics")
                except TimeoutError:
                    return
                except (OSError, HTTPException):
                    continue  # TLS, or it is about to end.
                return

    def _look_at_written(self, process: subprocess.Popen[bytes]) -> None:
        """Looks at all that it has printed and logged since its last end."""
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
        self.look_at(printed, "standard output")
        self.look_at(written, "the log")

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


def look_for_secrets(told: str | bytes, where: str, *, is_telling: bool = False) -> None:
    """Shows what came from some broker of this process to all of them, which tell of secrets in it when they end.

    Where it is there to tell a secret, that is confided to them instead.
    """
    for broker in tuple(BrokerProcess.searched):
        if is_telling:
            broker.confide(*secrets_told(_text(told)))
        else:
            broker.look_at(told, where)


def _text(told: str | bytes) -> str:
    return told if isinstance(told, str) else told.decode(errors="replace")
