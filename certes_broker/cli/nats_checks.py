"""What `certes doctor` looks at where events are kept on NATS servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from certes_broker.cli.checks import Finding, Verdict
from certes_broker.config import Config
from certes_broker.domain.errors import CertesError


def nats_servers(config: Config) -> Iterator[Finding]:
    """Checks that the engine can work on the servers, and which guarantees they weaken."""
    # Imported here because no other check needs a client of NATS.
    from certes_broker.config.nats_place import nats_place  # noqa: PLC0415
    from certes_broker.engines.nats import examine  # noqa: PLC0415

    place = nats_place(config)
    try:
        seen = asyncio.run(examine(place))
    except (CertesError, OSError) as error:
        advice = getattr(error, "hint", "") or "See that engine and [nats] name the servers and their credentials."
        yield Finding("NATS servers", Verdict.FAIL, getattr(error, "message", str(error)), advice)
        return
    yield Finding("NATS servers", Verdict.OK, f"nats-server {seen.version} with JetStream at {seen.servers}")
    yield Finding("NATS streams", Verdict.OK, f"prefix {place.prefix}, {seen.replicas} replicas each")
    for weaker in seen.findings:
        yield Finding("NATS guarantees", Verdict.WARN, weaker.fact, weaker.advice)
