"""Derives the protos of the GitHub catalogue from example payloads, and says what they lack.

    python -m scripts.derive_github FOLDER                  says what the payloads of FOLDER have that the protos lack
    python -m scripts.derive_github FOLDER --write          adds it to the protos, and its numbers to the lock
    ... --openapi FILE                                      also takes what GitHub's own OpenAPI document announces

FOLDER holds `<event>.json`, a list of payloads for each event, and `_schema.json`, the JSON Schema of them: the data of the
npm packages @octokit/webhooks-examples and @octokit/webhooks-schemas. FILE is a document of @octokit/openapi-webhooks. The
protos were derived once from both, and finished by hand since.

Theory of operation
-------------------
Every object of every payload and schema becomes a message or a part of one (`derive_github_names` says which), every key
a field (`derive_github_messages` says of which type). What the protos have already stays as it stands, word for word: they
are finished by hand, so here only what is new is added, with a first comment (`derive_github_words`) for a person to better.

A field has its number from `proto/certes/community/github/numbers.lock`, or the next one that its message never had, which
is locked from then on (`derive_github_protos`). So deriving again never renumbers, in whatever order the payloads come,
and a field that is taken out leaves its number behind.

What can be found besides missing fields: a field that would refuse what payloads hold, a field that should be `optional`
because payloads leave it out, and a number that contradicts the lock. These are for a person to decide, so they are said
and not written. The exit code is 1 where there is anything to do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.derive_github_evidence import Evidence, read_json_schema, read_openapi, read_payloads
from scripts.derive_github_messages import Field, Message, accepts, gather
from scripts.derive_github_names import FILES, OPTIONS, OWN_OPTIONS
from scripts.derive_github_protos import (
    NumberLock,
    ProtoField,
    ProtoMessage,
    comment_lines,
    read_messages,
    with_additions,
    with_imports,
)
from scripts.derive_github_words import field_comment, message_comment

CATALOGUE: Final = Path(__file__).resolve().parent.parent / "proto" / "certes" / "community" / "github"


def main() -> int:
    """Runs what the command line asks for and returns the exit code."""
    parser = argparse.ArgumentParser(description="Derives the protos of the GitHub catalogue from example payloads.")
    parser.add_argument("folder", type=Path, help="holds <event>.json and _schema.json")
    parser.add_argument("--openapi", type=Path, nargs="*", default=[], help="GitHub's own OpenAPI documents")
    parser.add_argument("--write", action="store_true", help="adds what is missing")
    arguments = parser.parse_args()
    derivation = Derivation(CATALOGUE, gather(sources(arguments.folder, arguments.openapi)))
    for line in derivation.findings():
        print(line)
    if arguments.write:
        derivation.write()
    return 1 if derivation.findings() else 0


def sources(folder: Path, openapi: list[Path]) -> Iterator[Iterator[tuple[str, Evidence]]]:
    """Yields what each source tells; the payloads first, for their order is that of new fields."""
    yield read_payloads(folder)
    yield read_json_schema(folder)
    for document in openapi:
        yield read_openapi(document)


class Derivation:
    """Compares messages, as payloads tell them, with the protos of a folder, and gives numbers to what those lack.

    Reads `<catalogue>/v1/*.proto` and `<catalogue>/numbers.lock`; only `write` writes them.
    """

    def __init__(self, catalogue: Path, messages: dict[str, Message]) -> None:
        self._folder = catalogue / "v1"
        self._lock_path = catalogue / "numbers.lock"
        self._messages = messages
        self._protos = read_messages(self._folder)
        self._lock = NumberLock.read(self._lock_path.read_text(encoding="utf-8") if self._lock_path.exists() else "")
        self._problems = [problem for proto in self._protos.values() for problem in self._lock.learn(proto)]
        for message in messages.values():
            proto = self._protos.get(message.name)
            if proto is None:
                proto = self._protos[message.name] = ProtoMessage(message.name, self._file_of(message))
            for one in message.fields.values():
                self._compare(proto, one)

    def findings(self) -> list[str]:
        """Returns a line for everything that there is to do."""
        missing = [
            f"{proto.file}.proto: {name} lacks {one.declaration()}"
            for name, proto in sorted(self._protos.items())
            for _, one in proto.added
        ]
        return self._problems + missing

    def write(self) -> None:
        """Adds what is missing to the protos and the lock. Leaves alone what is for a person to decide."""
        for proto in self._protos.values():
            path = self._folder / f"{proto.file}.proto"
            if proto.added and not path.exists():
                path.write_text(self._new_file(proto.file), encoding="utf-8")
            if proto.added:
                text = path.read_text(encoding="utf-8")
                if f"message {proto.name} {{\n" not in text:
                    text += self._new_message(self._messages[proto.name])
                path.write_text(with_additions(text, [proto]), encoding="utf-8")
        files = {name: proto.file for name, proto in self._protos.items()}
        for path in self._folder.glob("*.proto"):
            text = path.read_text(encoding="utf-8")
            path.write_text(with_imports(text, files), encoding="utf-8")
        self._lock_path.write_text(self._lock.text(), encoding="utf-8")

    def _compare(self, proto: ProtoMessage, one: Field) -> None:
        present = proto.fields.get(one.name)
        if present is None:
            json_name = one.key if one.key != one.name else ""
            number = self._lock.number(proto.name, one.name)
            # Null and absence are told from false, zero and empty wherever GitHub may yet mean them.
            has_presence = one.is_missing or one.key != "action"
            proto.added.append((field_comment(one), ProtoField(one.name, one.type, number, has_presence, json_name)))
        elif not accepts(present.type, one):
            self._problems.append(f"{proto.file}.proto: {one.path} is {present.type}, but payloads have {one.type}")
        elif one.is_missing and not present.has_presence:
            self._problems.append(f"{proto.file}.proto: {one.path} must be optional: payloads leave it out")

    def _file_of(self, message: Message) -> str:
        """Returns the file of a new message: its event's, the one it is assigned to, or that of what contains it."""
        if message.event:
            return f"{message.event}_event"
        if message.name in _SHARED:
            return _SHARED[message.name]
        owners = {self._protos[name].file for name in message.owners if name in self._protos}
        if len(owners) != 1:
            raise SystemExit(f"{message.name} is a part of {sorted(message.owners)}: say in FILES where it lives.")
        return owners.pop()

    def _new_file(self, file: str) -> str:
        event = next((message for message in self._messages.values() if f"{message.event}_event" == file), None)
        head = message_comment(event) if event else f"{file.replace('_', ' ').capitalize()}."
        return f'{comment_lines(head, 0)}syntax = "proto3";\n\npackage certes.community.github.v1;\n{_BINDING if event else ""}'

    def _new_message(self, message: Message) -> str:
        return f"\n{comment_lines(message_comment(message), 0)}message {message.name} {{\n{self._binding(message)}}}\n"

    def _binding(self, message: Message) -> str:
        if not message.event:
            return ""
        options = [
            f'    options: {{\n      name: "{name}"\n      field: "{path}"\n    }}\n'
            for name, path in (*OPTIONS, *OWN_OPTIONS.get(message.event, ()))
            if path.partition(".")[0] in message.fields
        ]
        return f'  option (certes.v1.event) = {{\n    name: "{message.event}"\n{"".join(options)}  }};\n'


_SHARED: Final = {message: file for file, messages in FILES.items() for message in messages.split()}
_BINDING: Final = """
option (certes.v1.schema) = {
  domain: "community.certes.dev"
  namespace: "github"
  version: 1
};
"""


if __name__ == "__main__":
    sys.exit(main())
