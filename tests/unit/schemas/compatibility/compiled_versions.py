"""Versions of schemas made of `.proto` texts by protoc itself, in this process: dozens of them take no time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from certes.v1 import options_pb2
from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.compiling.event_names import snake_case
from certes_broker.schemas.version_files import VersionFiles

MEETLY = VersionName("events.meetly.com", "_", 1)
ROOT = Path(__file__).resolve().parents[4]
HEAD = """\
syntax = "proto3";
package meetly.v1;
import "certes/v1/options.proto";
option (certes.v1.schema) = {domain: "events.meetly.com" version: 1};
"""
# What protovalidate declares, as far as the examples use it, under its own numbers.
VALIDATE = """\
syntax = "proto2";
package buf.validate;
import "google/protobuf/descriptor.proto";
extend google.protobuf.FieldOptions {
  optional FieldRules field = 1159;
}
extend google.protobuf.MessageOptions {
  optional MessageRules message = 1159;
}
extend google.protobuf.OneofOptions {
  optional OneofRules oneof = 1159;
}
message FieldRules {
  optional StringRules string = 14;
  optional bool required = 25;
}
message MessageRules {
  repeated string cel = 3;
}
message OneofRules {
  optional bool required = 1;
}
message StringRules {
  optional uint64 min_len = 2;
  optional uint64 max_len = 3;
}
"""


def version(text: str | Mapping[str, str]) -> VersionFiles:
    """Compiles a version. A text is one file, or part of one that lacks its head; or a mapping of paths to whole files."""
    files = {"meetly/v1/invited.proto": text} if isinstance(text, str) else dict(text)
    whole = {path: content if _is_whole(content) else HEAD + content for path, content in files.items()}
    return version_of(compile_protos(whole))


def version_of(compiled: FileDescriptorSet) -> VersionFiles:
    """Returns the version that all event types of a set are of."""
    events = sorted((name, message) for file in compiled.file for name, message in _events(file))
    return VersionFiles(MEETLY, tuple(file.SerializeToString() for file in compiled.file), tuple(events))


def compile_protos(files: Mapping[str, str]) -> FileDescriptorSet:
    """Compiles files, with all that they import and with their comments."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for path, text in {**files, "buf/validate/validate.proto": VALIDATE}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        out = root / "compiled"
        arguments = [
            "protoc",
            f"--proto_path={root}",
            f"--proto_path={ROOT / 'proto'}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            f"--descriptor_set_out={out}",
            "--include_imports",
            "--include_source_info",
            *files,
        ]
        status = protoc.main(arguments)
        assert status == 0, "protoc refused a file, and said on standard error why"
        return FileDescriptorSet.FromString(out.read_bytes())


def _is_whole(text: str) -> bool:
    return text.lstrip().startswith(("syntax", "edition"))


def _events(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for message in file.message_type:
        if message.options.HasExtension(options_pb2.event):
            name = message.options.Extensions[options_pb2.event].name or snake_case(message.name)
            yield name, f"{file.package}.{message.name}"
