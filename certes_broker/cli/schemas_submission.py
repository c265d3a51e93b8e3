"""What `push` and `check` send: `.proto` files as they lie here, or a descriptor set that some compiler wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeAlias

import click

from certes_broker.cli.connect import SCHEMA_SERVICE, Broker, Document
from certes_broker.cli.options import C
from certes_broker.cli.schemas_sources import ProtoSource, collect
from certes_broker.domain.errors import FieldViolation

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet


@dataclass(frozen=True, slots=True)
class SourceSubmission:
    """`.proto` files."""

    sources: Sequence[ProtoSource]

    def __str__(self) -> str:
        return "1 file" if len(self.sources) == 1 else f"{len(self.sources)} files"

    def register(self, broker: Broker, doing: str, *, dry_run: bool) -> Document:
        return broker.call(SCHEMA_SERVICE, "RegisterSchemas", self._request() | {"dryRun": dry_run}, doing=doing)

    def check(self, broker: Broker, doing: str) -> Document:
        return broker.call(SCHEMA_SERVICE, "CheckCompatibility", self._request(), doing=doing)

    def faults(self, violations: Sequence[FieldViolation]) -> Iterator[str]:
        """Says what is wrong as `file:line:column: text`, by the files as they lie here."""
        paths = {source.path: str(source.file) for source in self.sources}
        for violation in violations:
            match = _PLACED.match(violation.description)
            if match is not None and match["path"] in paths:
                yield paths[match["path"]] + violation.description[match.end("path") :]
            else:
                yield f"{self._named(violation.field)}: {violation.description}"

    def _request(self) -> Document:
        return {"files": {"files": [{"path": source.path, "content": source.content} for source in self.sources]}}

    def _named(self, field: str) -> str:
        """Returns the file that a field of the request is, or the field."""
        match = _FIELD.match(field)
        return field if match is None else str(self.sources[int(match["index"])].file)


@dataclass(frozen=True, slots=True)
class CompiledSubmission:
    """A descriptor set. It goes as the message that it is, with options that JSON could not spell."""

    descriptors: FileDescriptorSet

    def __str__(self) -> str:
        return "a descriptor set"

    def register(self, broker: Broker, doing: str, *, dry_run: bool) -> Document:
        # Imported here, as below, because sources need no protobuf.
        from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

        from certes.v1 import schema_service_pb2 as pb  # noqa: PLC0415

        request = pb.RegisterSchemasRequest(descriptor_set=self.descriptors, dry_run=dry_run)
        answer = broker.call_message(
            SCHEMA_SERVICE, "RegisterSchemas", request, pb.RegisterSchemasResponse, doing=doing
        )
        return MessageToDict(answer)

    def check(self, broker: Broker, doing: str) -> Document:
        from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

        from certes.v1 import schema_service_pb2 as pb  # noqa: PLC0415

        request = pb.CheckCompatibilityRequest(descriptor_set=self.descriptors)
        answer = broker.call_message(
            SCHEMA_SERVICE, "CheckCompatibility", request, pb.CheckCompatibilityResponse, doing=doing
        )
        return MessageToDict(answer)

    def faults(self, violations: Sequence[FieldViolation]) -> Iterator[str]:
        """Says what is wrong, by the files as the set has them."""
        for violation in violations:
            yield violation.description


Submission: TypeAlias = SourceSubmission | CompiledSubmission


def submission_arguments(command: C) -> C:
    """Adds PATHS and `--descriptor-set`; the command gets `paths` and `descriptor_set`, for `read_submission`."""
    command = click.option(
        "--descriptor-set",
        type=click.File("rb"),
        metavar="FILE|-",
        help="Instead of sources: a FileDescriptorSet with all imports, as `buf build` and `protoc --include_imports` "
        "write it.",
    )(command)
    return click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))(command)


def read_submission(paths: Sequence[Path], descriptor_set: IO[bytes] | None) -> Submission:
    """Reads what was named. Raises `click.UsageError`."""
    if descriptor_set is None:
        return SourceSubmission(collect(paths or [Path()]))
    if paths:
        raise click.UsageError("A descriptor set has all there is to register: name no PATHS beside it.")
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        return CompiledSubmission(FileDescriptorSet.FromString(descriptor_set.read()))
    except DecodeError:
        raise click.UsageError(f"{descriptor_set.name} is no FileDescriptorSet: its bytes do not decode.") from None


_FIELD: Final = re.compile(r"(?:schemas\.)?(?:files\.)?files\[(?P<index>[0-9]+)\]")
_PLACED: Final = re.compile(r"(?P<path>[^:]+):")
