from __future__ import annotations

import json
import socket

import pytest

from certes_broker.cli import checks
from certes_broker.cli.checks import Verdict
from certes_broker.config import Address


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield Address("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def free_ports():
    return {"CERTES_HTTP_LISTEN": "127.0.0.1:0", "CERTES_GRPC_LISTEN": "127.0.0.1:0"}


def test_a_machine_that_is_fit_ends_with_0(certes, tmp_path, free_ports):
    result = certes("doctor", "--data-dir", str(tmp_path), "--json", env=free_ports)
    findings = {finding["subject"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert all(finding["verdict"] != "fail" for finding in findings.values())
    assert {
        "versions",
        "libcurl",
        "configuration",
        "data directory",
        "space",
        "fsync",
        "clock",
        "secrets",
        "HTTP port",
        "gRPC port",
    } == set(findings)


def test_a_data_directory_that_does_not_exist_is_not_created(certes, tmp_path, free_ports):
    result = certes("doctor", "--data-dir", str(tmp_path / "a" / "b"), env=free_ports)
    assert result.exit_code == 0
    assert "can be created" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_mistaken_settings_end_it_with_what_to_mend(certes, tmp_path):
    file = tmp_path / "certes.toml"
    file.write_text("[log]\nlevl = 1\n", encoding="utf-8")
    result = certes("doctor", "--config", str(file))
    assert result.exit_code == 5
    assert "certes.toml:2:1: log.levl is no known key. Did you mean log.level?" in result.stdout


def test_a_port_that_something_else_has_is_a_failure(certes, tmp_path, taken):
    env = {"CERTES_HTTP_LISTEN": "127.0.0.1:0", "CERTES_GRPC_LISTEN": taken.text}
    result = certes("doctor", "--data-dir", str(tmp_path), env=env)
    assert result.exit_code == 5
    assert "taken by something else" in result.stdout
    assert "--grpc HOST:PORT" in result.stdout


def test_a_file_in_the_place_of_the_data_directory_is_a_failure(tmp_path):
    place = tmp_path / "file"
    place.touch()
    assert checks.data_dir(place).verdict is Verdict.FAIL


def test_a_clock_before_this_program_is_a_failure_and_one_before_the_data_a_warning(tmp_path):
    (tmp_path / "journal").touch()
    newest = (tmp_path / "journal").stat().st_mtime
    assert checks.clock(tmp_path, 1000.0).verdict is Verdict.FAIL
    assert checks.clock(tmp_path, newest - 3600).verdict is Verdict.WARN
    assert checks.clock(tmp_path, newest + 1).verdict is Verdict.OK


def test_space_below_what_retention_may_keep_is_a_warning(tmp_path):
    assert checks.free_space(tmp_path, 1024**6).verdict is Verdict.WARN
