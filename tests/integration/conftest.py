from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests import command
from tests.certificates import Authority

Certes = Callable[..., "subprocess.CompletedProcess[str]"]


ASKING = """
allowed_hosts = ["0.0.0.0"]

[tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{ca}"

[[auth.certificates]]
dns = "application"
roles = ["publisher", "subscriber"]
subscribers = ["org_1"]
sources = ["apps/*"]
"""


@dataclass(frozen=True)
class Asking:
    """A broker that knows callers by their certificates alone, as an SDK gets to it."""

    broker: BrokerProcess
    authority: Authority
    application: tuple[Path, Path]
    """The certificate, and its key, of who publishes and subscribes for org_1."""

    @property
    def uri(self) -> str:
        """A name that is not loopback's, and leads to it all the same: to a gateway on loopback SDKs speak without TLS."""
        return f"events://0.0.0.0:{self.broker.http.rpartition(':')[2]}"

    @property
    def environ(self) -> dict[str, str]:
        """What an SDK needs to be let in, but for the application's certificate. No proxy stands in between."""
        return {"CERTES_CA_FILE": str(self.authority.ca), "CERTES_SUBSCRIBER": "org_1", "no_proxy": "*"}

    @property
    def shown(self) -> dict[str, str]:
        """The application's certificate, as settings of an SDK."""
        certificate, key = self.application
        return {"CERTES_CERTIFICATE": str(certificate), "CERTES_CERTIFICATE_KEY": str(key)}


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    """A broker that asks its clients for certificates, at both ports."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("broker", ("127.0.0.1", "0.0.0.0"))
    config = tmp_path / "asking.toml"
    config.write_text(ASKING.format(certificate=certificate, key=key, ca=authority.ca))
    with BrokerProcess(tmp_path / "asking", config=config) as process:
        yield Asking(process.start(), authority, authority.issue("application"))


@pytest.fixture
def broker(tmp_path) -> Iterator[BrokerProcess]:
    """A broker of its own, as a process, with an empty data directory."""
    with BrokerProcess(tmp_path / "data") as process:
        yield process.start()


@pytest.fixture
def certes(broker: BrokerProcess) -> Certes:
    """Runs the command with the given words."""
    return partial(command.certes, CERTES_BROKER=broker.http)
