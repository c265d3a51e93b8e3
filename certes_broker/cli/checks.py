"""What `certes doctor` looks at. Each check says what it found, how good that is, and what to do."""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from enum import Enum, unique
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from certes_broker.config import Address

LOW_SPACE: Final = 1024**3
NO_SPACE: Final = 64 * 1024**2
SLOW_FSYNC: Final = 0.02
"""Seconds. A group commit waits for one; above this, publishers feel it."""
EARLIEST_SANE_TIME: Final = 1_735_689_600
"""2025-01-01: before this program was written."""
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
_PROBE_TIMEOUT: Final = 3.0


@unique
class Verdict(Enum):
    """How good a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report. `advice` is empty if there is nothing to do."""

    subject: str
    verdict: Verdict
    fact: str
    advice: str = ""


def versions() -> Finding:
    """Names what is installed, for a report of a fault."""
    parts = [f"{name} {_installed(name)}" for name in ("certes", "grpcio", "protobuf")]
    parts += [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    return Finding("versions", Verdict.OK, ", ".join(parts))


def libcurl() -> Finding:
    """Checks that the libcurl behind pycurl can send webhooks."""
    # Imported here because a broken libcurl is a finding, not a crash.
    try:
        import pycurl  # noqa: PLC0415
    except ImportError as error:
        return Finding("libcurl", Verdict.FAIL, f"pycurl cannot be loaded: {error}", "Install pycurl's wheel again.")
    said = pycurl.version_info()
    features, protocols = said[4], said[8]
    fact = f"libcurl {said[1]}, {said[5] or 'no TLS'}"
    if not {"http", "https"} <= set(protocols):
        return Finding("libcurl", Verdict.FAIL, f"{fact}, without https", "Install a pycurl built with TLS.")
    lacking = [
        name
        for name, bit in (("AsynchDNS", pycurl.VERSION_ASYNCHDNS), ("HTTP/2", pycurl.VERSION_HTTP2))
        if not features & bit
    ]
    if lacking:
        return Finding(
            "libcurl",
            Verdict.WARN,
            f"{fact}, without {' and '.join(lacking)}",
            "Webhooks work, less well. pycurl's own wheels have both.",
        )
    return Finding("libcurl", Verdict.OK, f"{fact}, https, HTTP/2, asynchronous DNS")


def data_dir(path: Path) -> Finding:
    """Checks that the data directory can be written, or created."""
    place = existing(path)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-"):
            pass
    except OSError as error:
        return Finding(
            "data directory",
            Verdict.FAIL,
            f"{path} cannot be written: {error.strerror}",
            "Give it to the user who runs the broker, or name another with --data-dir.",
        )
    able = "can be written" if place == path else "can be created"
    return Finding("data directory", Verdict.OK, f"{path.resolve()} {able}")


def existing(path: Path) -> Path:
    """Returns the path, or the nearest directory above it that exists: what holds for that will hold for it."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def free_space(path: Path, retained: int) -> Finding:
    """Checks the space that is left. `retained` is how much retention may keep, in bytes."""
    free = shutil.disk_usage(path).free
    fact = f"{free / 1024**3:.1f} GiB free"
    if free < NO_SPACE:
        return Finding("space", Verdict.FAIL, fact, "Free some: the broker cannot store events without it.")
    if free < LOW_SPACE or free < retained:
        return Finding(
            "space",
            Verdict.WARN,
            f"{fact}, and retention may keep {retained / 1024**3:.1f} GiB",
            "Free some, or lower retention.bytes.",
        )
    return Finding("space", Verdict.OK, fact)


def fsync(path: Path) -> Finding:
    """Checks that the file system writes through to the disk, and how long that takes."""
    kind = _file_system(path)
    if kind in _MEMORY_FILE_SYSTEMS:
        return Finding(
            "fsync", Verdict.WARN, f"{path} is in memory ({kind})", "Accepted events do not survive a power loss there."
        )
    durations = []
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor-") as file:
            for _ in range(10):
                file.write(b"\0" * 4096)
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                durations.append(time.perf_counter() - began)
    except OSError as error:
        return Finding(
            "fsync", Verdict.FAIL, f"fails: {error.strerror}", "Use a local file system for the data directory."
        )
    median = sorted(durations)[len(durations) // 2]
    fact = f"{median * 1000:.2f} ms"
    if median > SLOW_FSYNC:
        return Finding("fsync", Verdict.WARN, fact, "Each publish waits that long. A local SSD takes under 2 ms.")
    return Finding("fsync", Verdict.OK, fact)


def clock(path: Path, now: float) -> Finding:
    """Checks that the clock, `now`, is neither before this program nor before what the data directory holds."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    advice = "Set the clock (NTP): retention, retries and signatures go by it."
    newest = max((file.stat().st_mtime for file in path.iterdir()), default=0.0)
    if now < EARLIEST_SANE_TIME:
        return Finding("clock", Verdict.FAIL, f"{shown} cannot be", advice)
    if now < newest - 60:
        return Finding(
            "clock", Verdict.WARN, f"{shown} is {newest - now:.0f} s before the newest file in {path}", advice
        )
    return Finding("clock", Verdict.OK, shown)


def http_port(address: Address) -> Finding:
    """Checks that HTTP can be served at an address, or that a Certes does already."""
    if _is_free(address):
        return Finding("HTTP port", Verdict.OK, f"{address} is free")
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_PROBE_TIMEOUT)
    try:
        connection.request("GET", "/.well-known/certes", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        is_certes = answer.status == http.client.OK and isinstance(json.loads(answer.read()), dict)
    except (OSError, http.client.HTTPException, ValueError):
        is_certes = False
    finally:
        connection.close()
    return _occupied("HTTP port", address, "--http", is_certes=is_certes)


def grpc_port(address: Address) -> Finding:
    """Checks that gRPC can be served at an address, or that a Certes does already."""
    if _is_free(address):
        return Finding("gRPC port", Verdict.OK, f"{address} is free")
    # Imported here because a free port needs no client.
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(address.text) as channel:
        # The published types of the stub leave its methods out.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="certes.v1.EventService"), timeout=_PROBE_TIMEOUT)
            is_certes = True
        except grpc.RpcError:
            is_certes = False
    return _occupied("gRPC port", address, "--grpc", is_certes=is_certes)


def _occupied(subject: str, address: Address, flag: str, *, is_certes: bool) -> Finding:
    if is_certes:
        return Finding(subject, Verdict.OK, f"a Certes answers at {address}")
    return Finding(
        subject,
        Verdict.FAIL,
        f"{address} is taken by something else, or cannot be listened on",
        f"Stop that program, or serve elsewhere: {flag} HOST:PORT.",
    )


def _is_free(address: Address) -> bool:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do it: connections that are fading away do not keep a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError:
        return False
    return True


def _file_system(path: Path) -> str:
    """Returns the kind of file system a path is on; empty where the system does not say."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    mounts = [line.split()[1:3] for line in lines]
    target = str(path.resolve())
    found = [(len(at), kind) for at, kind in mounts if target == at or target.startswith(at.rstrip("/") + "/")]
    return max(found)[1] if found else ""


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
