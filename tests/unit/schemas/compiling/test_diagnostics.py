from __future__ import annotations

import pytest

from certes_broker.domain.errors import FieldViolation, Reason
from certes_broker.schemas.compiling.diagnostics import compiler_errors, import_hint, malformed

FIELDS = {"a.proto": "files[0]", "b/c:d.proto": "files[1]"}


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('a.proto:3:17: Expected ";".', "files[0]"),
        ("b/c:d.proto:3:17: x", "files[1]"),
        ("a.proto: M.a: defined twice: here", "files[0]"),
    ],
)
def test_an_error_is_said_of_its_file_with_its_place(line, field):
    assert compiler_errors(line + "\n", FIELDS) == [FieldViolation(field, line)]


def test_what_is_no_error_of_a_given_file_is_left_out():
    messages = "\n".join(
        [
            "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
            "W0000 00:00:1.1   7 parser.cc:659] No edition or syntax specified for the proto file: a.proto. Please",
            "a.proto:1:1: warning: Import b.proto is unused.",
            "/etc/passwd: File not found.",
            'a.proto:2:1: Import "/etc/passwd" was not found or had errors.',
        ]
    )
    errors = compiler_errors(messages, FIELDS)
    assert [error.description for error in errors] == ['a.proto:2:1: Import "/etc/passwd" was not found or had errors.']
    assert "certes/v1/options.proto" in import_hint(errors)


def test_what_only_the_linker_refuses_is_said_with_the_compilers_warning_which_knows_the_place():
    messages = "\n".join(
        [
            "a.proto:1:1: warning: Import x.proto is unused.",
            "a.proto:7:9: warning: The default JSON name of aB conflicts with that of a_b.",
            "a.proto: duplicate json_name (aB)",
        ]
    )
    found = [error.description.partition(": ")[0] for error in compiler_errors(messages, FIELDS)]
    assert found == ["a.proto:7:9", "a.proto"]


@pytest.mark.parametrize("messages", ["", "???", "\x1b[2J\0"])
def test_there_is_always_something_to_show(messages):
    (error,) = compiler_errors(messages, FIELDS)
    assert error.description
    assert error.description.isprintable()


def test_errors_are_counted_and_the_first_twenty_named():
    errors = compiler_errors("".join(f"a.proto:{line}:1: x\n" for line in range(1, 31)), FIELDS)
    refusal = malformed("the schemas do not compile", errors)
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert "30 errors" in refusal.message
    assert "a.proto:1:1: x" in refusal.message
    assert len(refusal.violations) == 20
    assert refusal.metadata["errors"] == "30"


def test_a_long_text_is_cut():
    (error,) = compiler_errors(f"a.proto:1:1: {'x' * 5000}", FIELDS)
    assert len(error.description) < 500
