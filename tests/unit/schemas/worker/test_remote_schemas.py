"""A worker has the schemas that the broker has when it is asked, and keeps what they are made of within bounds."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2

from certes.v1 import options_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.version_files import VersionFiles
from certes_broker.schemas.worker import remote_schemas
from certes_broker.schemas.worker.answers import Answers
from certes_broker.schemas.worker.frames import Files, Kind, Refused, Report, Schema
from certes_broker.schemas.worker.jobs import error_of
from certes_broker.schemas.worker.remote_schemas import RemoteSchemas

Field = descriptor_pb2.FieldDescriptorProto
DOMAIN = "events.example.com"


def version(namespace: str = "_", revision: int = 1, fields: int = 1, padding: int = 0) -> SchemaVersion:
    file = descriptor_pb2.FileDescriptorProto(name="made.proto", package="made", syntax="proto3")
    message = file.message_type.add(name="Made")
    for number in range(1, fields + 1):
        message.field.add(name=f"f{number}", number=number, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    binding = message.options.Extensions[options_pb2.event]
    binding.name = "made"
    if padding:
        message.reserved_name.append("x" * padding)
    files = VersionFiles(VersionName(DOMAIN, namespace, 1), (file.SerializeToString(),), (("made", "made.Made"),))
    return SchemaVersion(files, revision=revision, origin=Origin.REGISTERED)


class Asked:
    """A worker's schemas, and what they asked for."""

    def __init__(self, *versions: SchemaVersion) -> None:
        self.registry = Registry(versions)
        self.answers = Answers(self.registry)
        self.questions: list[Kind] = []
        self.schemas = RemoteSchemas(self._schema, self._files)

    def _schema(self, type_text: str) -> Schema:
        answer = self._answer(Kind.NEEDS_SCHEMA, type_text)
        assert isinstance(answer, Schema)
        return answer

    def _files(self, fingerprint: str) -> Files:
        answer = self._answer(Kind.NEEDS_FILES, fingerprint)
        assert isinstance(answer, Files)
        return answer

    def _answer(self, kind: Kind, fact: str) -> object:
        self.questions.append(kind)
        answer = self.answers.answer(Report(kind, fact))
        if isinstance(answer, Refused):
            raise error_of(answer.error)
        return answer


def of(namespace: str = "_") -> str:
    return f"{DOMAIN}/{namespace}/1/made"


def test_a_schema_is_asked_for_once_a_job_and_its_files_once():
    asked = Asked(version())
    for _ in range(3):
        asked.schemas.begin()
        assert asked.schemas.lookup(of()).message_name == "made.Made"
        assert asked.schemas.lookup(of()) is asked.schemas.lookup(of())
    assert asked.questions == [Kind.NEEDS_SCHEMA, Kind.NEEDS_FILES, Kind.NEEDS_SCHEMA, Kind.NEEDS_SCHEMA]


def test_a_new_revision_is_found_by_the_next_job():
    asked = Asked(version())
    first = asked.schemas.lookup(of())
    asked.registry.put(version(revision=2, fields=2))
    assert asked.schemas.lookup(of()) is first
    asked.schemas.begin()
    second = asked.schemas.lookup(of())
    assert (first.revision, second.revision) == (1, 2)
    assert len(second.descriptor.fields) == 2


def test_a_revision_of_the_same_files_needs_them_no_second_time():
    asked = Asked(version())
    asked.schemas.lookup(of())
    asked.registry.put(version(revision=2))
    asked.schemas.begin()
    assert asked.schemas.lookup(of()).revision == 2
    assert asked.questions.count(Kind.NEEDS_FILES) == 1


def test_what_the_registry_refuses_is_refused():
    with pytest.raises(Invalid) as refusal:
        Asked(version()).schemas.lookup(of("other"))
    assert refusal.value.reason is Reason.UNKNOWN_EVENT_TYPE


def test_files_that_nobody_knows_any_more_are_refused_for_now():
    asked = Asked(version())
    told = asked.answers.answer(Report(Kind.NEEDS_SCHEMA, of()))
    assert isinstance(told, Schema)
    asked.registry.put(version(revision=2, fields=2))
    asked.answers.answer(Report(Kind.NEEDS_SCHEMA, of()))
    answer = asked.answers.answer(Report(Kind.NEEDS_FILES, told.files))
    assert isinstance(answer, Refused)
    assert error_of(answer.error).reason is Reason.WORKER_UNAVAILABLE


def test_what_is_kept_of_files_is_bounded_by_their_bytes():
    half = remote_schemas.KEPT_BYTES // 2
    asked = Asked(*(version(name, fields=number, padding=half) for number, name in enumerate("abc")))
    for name in "aab":
        asked.schemas.begin()
        asked.schemas.lookup(of(name))
    assert asked.questions.count(Kind.NEEDS_FILES) == 2
    asked.schemas.begin()
    asked.schemas.lookup(of("c"))  # takes the place of the one used longest ago
    asked.schemas.begin()
    asked.schemas.lookup(of("a"))
    assert asked.questions.count(Kind.NEEDS_FILES) == 4
