"""A local nginx as the receiver of webhooks: it answers 204 and counts.

It is the cheapest receiver there is, so that what is measured is the sender. Its count is that of `stub_status`, which
counts every request, those for the count included; so only one may ask, and it knows how often it has.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_CONFIGURATION: Final = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location /hook {{ return 204; }}
        location /count {{ stub_status; }}
    }}
}}
"""
_INSTALL: Final = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "nginx-light")


class NginxMissing(Exception):
    """There is no nginx, and it cannot be had. The message says why."""


def find_nginx() -> str:
    """Returns the path of nginx; installs it where that is possible. Raises `NginxMissing`."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NginxMissing("nginx is not installed, and installing it needs root and apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(_INSTALL, check=True, timeout=180, capture_output=True, env=environment)
    except (subprocess.SubprocessError, OSError) as error:
        raise NginxMissing(f"nginx is not installed, and apt-get could not install it: {error}") from error
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if found is None:
        raise NginxMissing("apt-get installed nginx-light, but there is no nginx")
    return found


class Nginx:
    """A running nginx. `url` is where webhooks go."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hook"
        self.pid = process.pid
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._asked = 0
        self._before = 0

    async def open(self) -> None:
        """Connects; the count begins here."""
        async with asyncio.timeout(10):
            while self._reader is None:
                try:
                    self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)  # it has not come to listen yet
        self._before = await self.count()

    async def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()

    async def count(self) -> int:
        """Returns how many webhooks have been answered since `open`."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(b"GET /count HTTP/1.1\r\nhost: localhost\r\n\r\n")
        self._asked += 1
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        answer = await self._reader.readexactly(length)
        requests = int(answer.splitlines()[2].split()[2])
        return requests - self._asked - self._before

    async def until(self, count: int, timeout: float) -> None:  # noqa: ASYNC109 - the bound of every wait
        """Returns when so many webhooks have been answered. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout):
            while await self.count() < count:  # noqa: ASYNC110 - it cannot be waited for, only asked
                await asyncio.sleep(0.005)


@contextmanager
def nginx(directory: Path) -> Iterator[Nginx]:
    """Runs nginx in a directory of its own. Raises `NginxMissing`."""
    program = find_nginx()
    directory.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    configuration = directory / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory, port=port), encoding="utf-8")
    process = subprocess.Popen(
        (program, "-p", str(directory), "-c", str(configuration), "-e", str(directory / "error.log")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Nginx(port, process)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
