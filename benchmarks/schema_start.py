"""A broker with a thousand registered event types: how long it takes to start, and how much memory it has then.

Two shapes, because they cost differently: fifty versions of twenty types each, as fifty teams would register them, and one
version of a thousand types. Every message has 29 fields, and every file a message that its event types share. Memory is
taken twice: when the broker is ready, and after an event of every type was published, so that nothing is left to be made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grpc import aio

from benchmarks.measures import Round
from benchmarks.stage import Meter, Stage
from certes.v1 import event_pb2, event_service_pb2, event_service_pb2_grpc, schema_pb2
from certes.v1 import schema_service_pb2 as pb
from certes.v1.schema_service_pb2_grpc import SchemaServiceStub

TYPES: Final = 1_000
FIELDS: Final = 29
TEAMS: Final = 50
FILES_OF_ONE: Final = 20
_DOMAIN: Final = "events.benchmark.example"
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Shape:
    """So many versions, of so many files each, with so many event types each."""

    versions: int
    files: int
    types: int

    def requests(self) -> Iterator[pb.RegisterSchemasRequest]:
        for version in range(self.versions):
            files = [
                schema_pb2.SourceFile(path=f"team{version}/file{file}.proto", content=self._source(version, file))
                for file in range(self.files)
            ]
            yield pb.RegisterSchemasRequest(files=pb.SourceFiles(files=files))

    def events(self) -> Iterator[event_pb2.Event]:
        for version in range(self.versions):
            for file in range(self.files):
                for number in range(self.types):
                    name = f"happened{file}_{number}"
                    event = event_pb2.Event(
                        type=f"{_DOMAIN}/team{version}/1/{name}", source="//benchmark", everyone=True
                    )
                    event.data.type_url = f"x/team{version}.v1.Happened{file}_{number}"
                    event.data.value = b"\x0a\x01x"
                    yield event

    def _source(self, version: int, file: int) -> str:
        shared = f"Thing{file}"
        messages = [f"message {shared} {{ string id = 1; string name = 2; int64 size = 3; }}"]
        for number in range(self.types):
            fields = [f"string text{field} = {field};" for field in range(1, FIELDS // 3)]
            fields += [f"int64 number{field} = {field};" for field in range(FIELDS // 3, 2 * FIELDS // 3)]
            fields += [f"{shared} thing{field} = {field};" for field in range(2 * FIELDS // 3, FIELDS + 1)]
            option = f'option (certes.v1.event) = {{name: "happened{file}_{number}" options {{name: "first" field: "text1"}}}};'
            messages.append(f"message Happened{file}_{number} {{ {option} {' '.join(fields)} }}")
        binding = f'option (certes.v1.schema) = {{domain: "{_DOMAIN}" namespace: "team{version}" version: 1}};'
        head = f'syntax = "proto3"; package team{version}.v1; import "certes/v1/options.proto"; {binding}'
        return "\n".join([head, *messages])


_SHAPES: Final = {
    "of 50 versions": _Shape(TEAMS, 1, TYPES // TEAMS),
    "of one version": _Shape(1, FILES_OF_ONE, TYPES // FILES_OF_ONE),
}


async def of_many_versions(stage: Stage) -> Round:
    """Makes a round with fifty versions."""
    return await _started(stage, _SHAPES["of 50 versions"])


async def of_one_version(stage: Stage) -> Round:
    """Makes a round with one version."""
    return await _started(stage, _SHAPES["of one version"])


async def _started(stage: Stage, shape: _Shape) -> Round:
    empty = _resident(stage.broker.pid)
    async with aio.insecure_channel(stage.broker.grpc) as channel:
        service = SchemaServiceStub(channel)
        for request in shape.requests():
            await service.RegisterSchemas(request)
    stage.broker.terminate()
    began = time.monotonic()
    stage.broker.start()
    seconds = time.monotonic() - began
    ready = _resident(stage.broker.pid)
    meter = Meter(stage.broker)
    async with aio.insecure_channel(stage.broker.grpc) as channel:
        events = event_service_pb2_grpc.EventServiceStub(channel)
        await events.Publish(event_service_pb2.PublishRequest(events=list(shape.events())))
    used = _resident(stage.broker.pid)
    return Round((seconds, used), meter.read(TYPES), {"MB when ready": ready, "MB of an empty broker": empty})


def _resident(pid: int) -> float:
    """Returns the memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / _MIB
    return 0.0
