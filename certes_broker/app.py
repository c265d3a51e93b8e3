"""The assembly: builds a broker from its settings, serves it, and drains it.

Everything is stacked: engine, sender, broker, gateways. Each stands only while what is below it stands, so that leaving
takes them down in the right order, whatever made us leave.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Final

import structlog
import uvloop

from certes_broker.broker.broker import Broker, BrokerSettings, Ports
from certes_broker.broker.erasure import LET_GO
from certes_broker.broker.janitor import Retention
from certes_broker.broker.rejected_payloads import RejectedBounds
from certes_broker.broker.system_clock import SystemClock
from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.config import Address, Config
from certes_broker.config.auth_places import operator_key
from certes_broker.config.nats_place import nats_place
from certes_broker.config.sealing_keys import sealing_keys
from certes_broker.config.settings import Auth
from certes_broker.domain.breaker import BreakerLimits
from certes_broker.domain.errors import CertesError
from certes_broker.domain.open_namespaces import OpenNamespaces
from certes_broker.engines.nats import NatsEngine
from certes_broker.engines.sealed import sealed
from certes_broker.engines.sqlite.engine import SqliteEngine
from certes_broker.gateway.authentication import Authenticator
from certes_broker.gateway.callers import Door
from certes_broker.gateway.certificates import CertificateFiles, Certificates
from certes_broker.gateway.client_certificates import CertificateCallers
from certes_broker.gateway.contract import contract_methods
from certes_broker.gateway.convert.sources import SourceRules
from certes_broker.gateway.grpc.core_server import GrpcBounds
from certes_broker.gateway.grpc.server import GrpcServer
from certes_broker.gateway.http.app import build_app
from certes_broker.gateway.http.handshakes import Handshakes
from certes_broker.gateway.http.server import HttpServer
from certes_broker.gateway.http.settings import LOOPBACK_NAMES, HttpSettings
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.gateway.open_streams import OpenStreams
from certes_broker.gateway.publishing import may_publish
from certes_broker.gateway.relay import Relay
from certes_broker.gateway.revocations import Revocations
from certes_broker.gateway.token_keys import FixedKeys, PublishedKeys, fetch_keys, keys_of_file
from certes_broker.gateway.tokens import Keys, TokenVerifier
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Engine
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.providers import shipped_providers
from certes_broker.schemas.registry import Registry
from certes_broker.webhook.addresses import AddressPolicy
from certes_broker.webhook.sender import CurlSender

_OTHER_DESCRIPTORS: Final = 2_048
"""For what the broker connects to, its files, and what comes and goes."""

STOPPED: Final = 0
FAILED: Final = 1

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """A broker that serves, and the addresses it listens on."""

    broker: Broker
    http: str
    grpc: str


def run(config: Config) -> int:
    """Serves until SIGTERM or SIGINT, and returns the exit code. A second signal ends it without draining."""
    _leave_no_core_files()
    _allow_descriptors(config.limits.connections)
    registry = Registry(community_versions())
    # What is loaded by now stays, the catalogue too, so no collection need look at it; and as what passes through is freed
    # by counting references, looking for cycles seldom is enough. With the defaults that took up to a tenth of the
    # broker's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, registry))


def _leave_no_core_files() -> None:
    """Lets a crash write no image of the memory, which holds every secret there is."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _allow_descriptors(connections: int) -> None:
    """Lets the process have as many files and sockets open as its connections may take.

    Those are connections of each port, and as many handshakes of HTTP's. The system's soft limit is for programs that cannot deal with more; the hard one is what whoever runs the broker has set.
    """
    wanted = 3 * connections + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        log.warning("few_descriptors", allowed=most, wanted=wanted, hint="raise the limit, or lower limits.connections")


@asynccontextmanager
async def serving(config: Config, registry: Registry, ports: Ports) -> AsyncIterator[Serving]:
    """Serves a broker; leaving drains it within `config.drain_timeout`."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker.running(ports, registry, _broker_settings(config)))
        broker.sources.declare(config.sources)
        broker.drift.is_published = may_publish
        rules = SourceRules(shipped_providers(), allow_unsigned=config.http.listen.is_loopback)
        ingestion = Ingestion(broker, rules.providers, loopback=rules.allow_unsigned)
        relay = Relay(ports.engine.members, ports.engine.post, broker.look)
        methods = relay.relayed(contract_methods(broker, ingestion, rules, config.limits.request_bytes))
        relay.hears(LET_GO, broker.erasure.let_go)
        broker.erasure.tell_others = relay.tell_others
        await stack.enter_async_context(relay.serve())
        certificates, door = _certificates(config), _door(broker, config, ports.clock)
        bounds = GrpcBounds(connections=config.limits.connections)
        grpc_server = GrpcServer(methods, str(config.grpc.listen), door, certificates, bounds)
        await grpc_server.start()
        grpc_address = str(Address(config.grpc.listen.host, grpc_server.port))
        settings = _http_settings(config, grpc_address)
        handshakes: Handshakes | None = None
        if certificates is not None:
            handshakes = Handshakes(certificates.context(), settings.max_connections)
            await stack.enter_async_context(handshakes.running())
        http_server = HttpServer(build_app(broker, ingestion, methods, settings, door), settings, handshakes)
        broker.arrivals.http_connections = lambda: http_server.connections
        broker.arrivals.grpc_calls = lambda: grpc_server.calls
        try:
            port = await http_server.start()
            yield Serving(broker, str(Address(config.http.listen.host, port)), grpc_address)
        finally:
            relay.drain()
            # One that others have taken for gone has nothing that could still be settled.
            grace = config.drain_timeout if ports.engine.members.is_current() else min(1.0, config.drain_timeout)
            await _drain(broker, grpc_server, http_server, grace)


async def _serve(config: Config, registry: Registry) -> int:
    stop, code = asyncio.Event(), STOPPED
    clock = SystemClock()
    policy = AddressPolicy(allow=config.webhooks.allow_networks, allow_loopback=config.dev)
    sender = CurlSender(policy, max_in_flight=config.webhooks.max_in_flight)
    try:
        async with (
            _engine(config, clock) as opened,
            _sealed(config, opened) as engine,
            serving(config, registry, Ports(engine, sender, clock)) as served,
        ):
            with _signals(stop, lambda: _reload(config, served)):
                _announce(config, served)
                await stop.wait()
                log.info("stopping", streams=len(served.broker.streams))
    except* (CertesError, OSError) as failure:
        for error in _leaves(failure):
            log.error("serve_failed", error=str(error))
        code = FAILED
    finally:
        await sender.close()
    log.info("stopped")
    return code


@asynccontextmanager
async def _engine(config: Config, clock: SystemClock) -> AsyncIterator[Engine]:
    """Opens the engine that the settings name."""
    if config.engine.is_embedded:
        async with SqliteEngine.open(config.data_dir, clock, dedupe_window=config.dedupe.window) as embedded:
            yield embedded
    else:
        async with NatsEngine.open(
            nats_place(config), clock, dedupe_window=config.dedupe.window, shared=True
        ) as engine:
            yield engine


@asynccontextmanager
async def _sealed(config: Config, opened: Engine) -> AsyncIterator[Engine]:
    """Lets the engine keep its settings encrypted, if there is a key, and says so if there is none."""
    keys = sealing_keys(config)
    engine, renewed = await sealed(opened, keys)
    if not keys:
        log.warning("secrets_in_clear", set="secrets.keys_file")
    elif renewed:
        log.info("secrets_sealed_anew", documents=renewed)
    yield engine


async def _drain(broker: Broker, grpc_server: GrpcServer, http_server: HttpServer, grace: float) -> None:
    """Lets what is under way end; what has not ended by then is cut off, and delivered again after the next start."""
    try:
        async with asyncio.timeout(grace), asyncio.TaskGroup() as tasks:
            tasks.create_task(broker.drain())
            tasks.create_task(grpc_server.drain(grace))
            tasks.create_task(http_server.drain(grace))
    except TimeoutError:
        log.warning("drain_timed_out", seconds=grace)
        await grpc_server.drain(0)


def _announce(config: Config, served: Serving) -> None:
    """Says on standard output where the broker is."""
    kept = str(config.data_dir if config.engine.is_embedded else config.engine)
    where = {"http": served.http, "grpc": served.grpc, "data_dir" if config.engine.is_embedded else "engine": kept}
    log.info("serving", **where, subscriptions=len(served.broker.lanes), sources=len(config.sources))
    if config.ready_json:
        sys.stdout.write(json.dumps({"ready": True, **where}) + "\n")
    else:
        scheme = "http" if config.tls.certificate is None else "https"
        sys.stdout.write(f"Certes is ready: {scheme}://{served.http} and gRPC {served.grpc}; data in {kept}\n")
    sys.stdout.flush()


def _reload(config: Config, served: Serving) -> None:
    """Reads the configuration again and takes over its sources; the rest needs a restart."""
    try:
        sources = config.reload().sources
    except CertesError as error:
        log.error("reload_refused", error=str(error))
        return
    served.broker.sources.declare(sources)
    log.info("sources_reloaded", sources=len(sources))


@contextmanager
def _signals(stop: asyncio.Event, reload: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def ask_to_stop(number: signal.Signals) -> None:
        stop.set()
        # The next one is not for us to handle any more.
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _certificates(config: Config) -> Certificates | None:
    """Returns what TLS is served with; None without TLS. Raises like `Certificates`."""
    tls = config.tls
    if tls.certificate is None or tls.key is None:
        return None
    return Certificates(
        CertificateFiles(tls.certificate, tls.key, tls.client_ca, http_clients_required=tls.http_clients == "required")
    )


def _broker_settings(config: Config) -> BrokerSettings:
    return BrokerSettings(
        domain=config.domain,
        retention=Retention(
            config.retention.age,
            config.retention.bytes,
            config.dedupe.window,
            RejectedBounds(config.rejected.retention, config.rejected.bytes, config.rejected.unverified),
            config.retention.dead_letters,
        ),
        max_event_bytes=config.limits.event_bytes,
        in_flight_bytes=config.limits.in_flight_bytes,
        webhooks=_webhook_limits(config),
        storage_reserve=config.limits.storage_reserve,
        delivery_bytes=config.limits.delivery_bytes,
        open_namespaces=OpenNamespaces.parse(config.schemas.open_namespaces),
    )


def _door(broker: Broker, config: Config, clock: Clock) -> Door:
    """Makes the door that callers come in by."""
    streams = OpenStreams(clock, config.limits.streams_per_caller)
    broker.keys.on_gone = streams.end
    auth = config.auth
    if auth.is_configured:
        asked = Authenticator(broker.keys, clock, operator_key(auth), _tokens(auth, clock), _callers(config))
        return Door(asked, streams, broker.arrivals.calls_refused)
    if config.tls.client_ca is not None:
        log.warning(
            "certificates_name_nobody",
            effect="whoever has a certificate of tls.client_ca may do everything",
            hint="[[auth.certificates]] says what each of them may do",
        )
    if len(broker.keys):
        log.warning(
            "keys_not_asked_for", keys=len(broker.keys), hint="set auth.operator_key to ask callers who they are"
        )
    return Door(None, streams, broker.arrivals.calls_refused)


def _callers(config: Config) -> CertificateCallers | None:
    """Makes what knows callers by certificates, if some are known by them. Raises `Invalid` for the lists of revoked ones."""
    auth, authorities = config.auth, config.tls.client_ca
    if not auth.certificates:
        return None
    if auth.client_crl is None or authorities is None:
        return CertificateCallers(auth.certificates)
    return CertificateCallers(auth.certificates, Revocations(auth.client_crl, authorities))


def _tokens(auth: Auth, clock: Clock) -> TokenVerifier | None:
    """Makes what verifies tokens, if an issuer's are taken."""
    if not auth.jwt_issuer:
        return None
    keys: Keys
    if auth.jwt_keys is not None:
        keys = FixedKeys(keys_of_file(auth.jwt_keys))
    else:
        keys = PublishedKeys(partial(fetch_keys, auth.jwt_keys_url), clock)
    return TokenVerifier(keys, auth.jwt_issuer, auth.jwt_audience, clock)


def _webhook_limits(config: Config) -> WebhookLimits:
    breaker = config.breaker
    return WebhookLimits(
        config.webhooks.max_in_flight,
        BreakerLimits(breaker.failures / 100, breaker.window, breaker.minimum, breaker.pause),
        config.webhooks.disable_after,
    )


def _http_settings(config: Config, grpc_address: str) -> HttpSettings:
    return HttpSettings(
        host=config.http.listen.host,
        port=config.http.listen.port,
        allowed_hosts=(*LOOPBACK_NAMES, *config.allowed_hosts),
        grpc_address=grpc_address,
        grpc_tls=config.tls.certificate is not None,
        grpc_client_certificate=config.tls.client_ca is not None,
        version=version("certes"),
        max_payload_bytes=config.limits.ingress_body_bytes,
        max_request_bytes=config.limits.request_bytes,
        max_connections=config.limits.connections,
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
