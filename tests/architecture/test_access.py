"""Every rpc says who may call it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor

from certes_broker.gateway.methods import needs_of

ROOT = Path(__file__).resolve().parents[2]


def rpcs() -> list[MethodDescriptor]:
    modules = [
        import_module(f"certes.v1.{proto.stem}_pb2") for proto in sorted((ROOT / "proto/certes/v1").glob("*.proto"))
    ]
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return [rpc for service in services for rpc in service.methods]


def test_there_are_rpcs() -> None:
    assert {"Publish", "CreateSource"} <= {rpc.name for rpc in rpcs()}


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.name)
def test_an_rpc_declares_the_role_that_it_needs(rpc: MethodDescriptor) -> None:
    """By `option (certes.v1.access) = {role: "…"};` in its proto, whose file access.proto lists the roles."""
    needs_of(rpc)
