"""Refusals as callers see them."""

from __future__ import annotations

import ast
import base64
import json
from collections import defaultdict
from pathlib import Path

import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from structlog.testing import capture_logs

from certes.v1.problem_pb2 import Problem
from certes_broker.domain.errors import (
    CertesError,
    Exhausted,
    FieldViolation,
    Internal,
    Invalid,
    NotFound,
    Reason,
)
from certes_broker.gateway.errors import (
    GRPC_CODES,
    HTTP_STATUSES,
    HTTP_STATUSES_OF_REASONS,
    grpc_code,
    http_status,
    problem,
    refusal,
    rich_status,
)

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "errors.json").read_text())
SOURCE = Path(__file__).resolve().parents[3] / "certes_broker"
TRAILER_LIMIT = 8 * 1024


def subclasses(kind: type[CertesError]) -> set[type[CertesError]]:
    return {kind}.union(*(subclasses(direct) for direct in kind.__subclasses__()))


def reasons_raised() -> dict[str, set[str]]:
    """Every reason that is given to an error in the source, with the names of the classes it is given to."""
    kinds = {kind.__name__ for kind in subclasses(CertesError)}
    found = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).removeprefix("errors.").removesuffix(".field")
            if name not in kinds:
                continue
            for part in (inner for argument in node.args[:1] for inner in ast.walk(argument)):
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "Reason":
                    found[part.attr].add(name)
    return found


@pytest.mark.parametrize("table", [GRPC_CODES, HTTP_STATUSES], ids=["grpc", "http"])
def test_every_class_of_refusal_has_its_place_in_each_table(table) -> None:
    assert set(table) == set(CertesError.__subclasses__())


def test_every_reason_that_is_raised_is_known_and_belongs_to_classes_of_the_tables() -> None:
    raised = reasons_raised()
    names = {kind.__name__ for kind in GRPC_CODES}
    assert set(raised) <= {reason.name for reason in Reason}
    assert {reason: kinds for reason, kinds in raised.items() if not kinds <= names} == {}


def test_a_status_of_its_own_is_given_to_reasons_that_callers_sent_wrongly_only() -> None:
    raised = reasons_raised()
    for reason in HTTP_STATUSES_OF_REASONS:
        assert raised.get(reason.name, {"Invalid"}) == {"Invalid"}
        assert 400 <= HTTP_STATUSES_OF_REASONS[reason] < 500


def test_code_and_status_follow_the_class_but_for_sizes_and_media_types() -> None:
    assert grpc_code(NotFound(Reason.EVENT_NOT_FOUND, "gone")) == 5
    assert http_status(NotFound(Reason.EVENT_NOT_FOUND, "gone")) == 404
    assert http_status(Invalid(Reason.MALFORMED_URI, "no")) == 400
    assert http_status(Invalid(Reason.EVENT_TOO_LARGE, "no")) == 413
    assert http_status(Invalid(Reason.CONTENT_TYPE_UNSUPPORTED, "no")) == 415


def test_a_status_carries_reason_domain_facts_fields_and_the_delay() -> None:
    error = Exhausted(
        Reason.BUFFER_FULL,
        "Full.",
        metadata={"limit": "5"},
        violations=[FieldViolation("events[1]", "too many")],
        hint="Wait.",
        retry_after=0.25,
    )
    status = rich_status(error)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    status.details[0].Unpack(info)
    status.details[1].Unpack(bad)
    status.details[2].Unpack(retry)
    assert (status.code, status.message) == (8, "Full. Wait.")
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "BUFFER_FULL",
        "certes.dev",
        {"limit": "5", "hint": "Wait."},
    )
    assert [(v.field, v.description) for v in bad.field_violations] == [("events[1]", "too many")]
    assert retry.retry_delay.ToTimedelta().total_seconds() == 0.25


def test_what_was_wrong_and_what_to_do_are_two_sentences() -> None:
    assert str(Invalid(Reason.FIELD_INVALID, "a: is no id", hint="Mend it.")) == "a: is no id. Mend it."
    assert str(Invalid(Reason.FIELD_INVALID, "Not here.", hint="Mend it.")) == "Not here. Mend it."


def test_a_problem_says_what_a_status_says() -> None:
    error = Invalid.field(Reason.FIELD_INVALID, "events[0].id", "is no id", limit="256")
    said = problem(error)
    assert (said.code, said.reason, said.message) == (3, "FIELD_INVALID", "events[0].id: is no id")
    assert dict(said.metadata) == {"field": "events[0].id", "limit": "256"}
    assert [(v.field, v.description) for v in said.field_violations] == [("events[0].id", "is no id")]
    assert not said.HasField("retry_delay")


def test_what_to_do_stands_in_the_metadata_too_where_there_is_something_to_do() -> None:
    error = Invalid(Reason.FIELD_INVALID, "a: is no id", hint="Mend it.", metadata={"field": "a"})
    info = ErrorInfo()
    rich_status(error).details[0].Unpack(info)
    assert dict(info.metadata) == dict(problem(error).metadata) == {"field": "a", "hint": "Mend it."}
    assert error.metadata == {"field": "a"}


@pytest.mark.parametrize("vector", VECTORS["refusals"], ids=lambda vector: vector["why"])
def test_what_sdks_are_tested_with_is_what_the_broker_sends(vector) -> None:
    said = vector["expect"]
    kind = next(kind for kind, code in GRPC_CODES.items() if Code.Name(code) == said["code"])
    error = kind(
        Reason(said["reason"]),
        said["message"].removesuffix(f" {said['hint']}") if said["hint"] else said["message"],
        hint=said["hint"],
        metadata=said["metadata"],
        violations=[FieldViolation(**violation) for violation in said["violations"]],
        retry_after=said["retry_after"],
    )
    assert opened(rich_status(error)) == opened(Status.FromString(base64.b64decode(vector["status"])))
    assert problem(error) == Problem.FromString(base64.b64decode(vector["problem"]))


def opened(status: Status) -> list:
    """A status with its details as messages: in an `Any` they are bytes, which differ by the order of a map."""
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in (ErrorInfo, BadRequest, RetryInfo)}
    details = [kinds[detail.TypeName()].FromString(detail.value) for detail in status.details]
    return [status.code, status.message, *details]


def test_a_status_fits_into_trailers_whatever_is_in_the_error() -> None:
    error = Invalid(
        Reason.FIELD_INVALID,
        "…" * 5_000,
        violations=[FieldViolation(f"events[{i}].subject", "ü" * 1_000) for i in range(1_000)],
        metadata={"text": "x" * 100_000, "field": "events[0].subject"},
        hint="ü" * 5_000,
    )
    status = rich_status(error)
    # Binary trailers travel in base64, and the message a second time, each of its bytes percent-encoded at worst.
    assert status.ByteSize() * 4 / 3 + len(status.message.encode()) * 3 < TRAILER_LIMIT
    bad, info = BadRequest(), ErrorInfo()
    status.details[0].Unpack(info)
    status.details[1].Unpack(bad)
    assert int(info.metadata["violations_left_out"]) == 1_000 - len(bad.field_violations)
    assert len(bad.field_violations) >= 1


def test_a_refusal_stays_as_it_is() -> None:
    error = NotFound(Reason.EVENT_NOT_FOUND, "gone")
    with capture_logs() as logs:
        assert refusal(error, "anything") is error
    assert logs == []


def test_a_fault_of_the_broker_is_logged_once_and_told_by_a_correlation_id_only() -> None:
    with capture_logs() as logs:
        error = refusal(ZeroDivisionError("secret detail"), "certes.v1.EventService/Publish")
    assert isinstance(error, Internal)
    assert "secret detail" not in str(error) + str(error.metadata)
    assert [(entry["event"], entry["log_level"], entry["doing"]) for entry in logs] == [
        ("internal_error", "error", "certes.v1.EventService/Publish")
    ]
    assert logs[0]["correlation_id"] == error.metadata["correlation_id"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


def test_a_group_of_refusals_counts_as_its_first() -> None:
    first, second = NotFound(Reason.EVENT_NOT_FOUND, "gone"), Invalid(Reason.MALFORMED_URI, "no")
    assert refusal(ExceptionGroup("two", [first, ExceptionGroup("one", [second])]), "anything") is first


def test_a_group_with_a_fault_in_it_counts_as_a_fault() -> None:
    group = ExceptionGroup("two", [NotFound(Reason.EVENT_NOT_FOUND, "gone"), RuntimeError("worse")])
    with capture_logs() as logs:
        assert refusal(group, "anything").reason is Reason.INTERNAL
    assert str(logs[0]["exc_info"]) == "worse"
