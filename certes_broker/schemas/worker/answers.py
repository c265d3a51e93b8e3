"""What the broker tells its workers when they ask for schemas."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from certes_broker.domain.errors import Invalid, Reason, Unavailable
from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.worker.frames import Files, Kind, Order, Refused, Report, Schema
from certes_broker.schemas.worker.jobs import error_fact


class Answers:
    """Answers out of the registry. Files are named by their fingerprint, so that each worker needs them once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._fingerprints: dict[VersionName, tuple[Sequence[bytes], str]] = {}
        self._files: dict[str, Sequence[bytes]] = {}

    def answer(self, question: Report) -> Order:
        """Returns what a worker asks for, or why there is none."""
        try:
            if question.kind is Kind.NEEDS_SCHEMA:
                return self._schema(question.fact)
            return self._files_of(question.fact)
        except (Invalid, Unavailable) as error:
            return Refused(error_fact(error))

    def _schema(self, type_text: str) -> Schema:
        schema = self._registry.lookup(type_text)
        version = self._registry.version_of(schema.type)
        assert version is not None  # The schema is of it.
        files = version.files.files
        known, fingerprint = self._fingerprints.get(version.name, ((), ""))
        if known is not files:
            digest = sha256()
            for file in files:
                digest.update(len(file).to_bytes(8, "little"))
                digest.update(file)
            self._files.pop(fingerprint, None)
            fingerprint = digest.hexdigest()
            self._fingerprints[version.name] = (files, fingerprint)
            self._files[fingerprint] = files
        return Schema(schema.type_text, schema.message_name, schema.revision, fingerprint)

    def _files_of(self, fingerprint: str) -> Files:
        files = self._files.get(fingerprint)
        if files is None:
            # Replaced since the worker heard of it, a moment ago.
            raise Unavailable(Reason.WORKER_UNAVAILABLE, "the schema was replaced meanwhile.", retry_after=1.0)
        return Files(files)
