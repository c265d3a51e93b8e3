"""Workers that are no processes: each job is done at once, in the process of the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from certes_broker.broker.workers import Workers
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.worker.jobs import Converted


class InlineWorkers:
    """Does what is handed to it. What a worker process makes of the same jobs is proven by its own tests."""

    def __init__(self, registry: Registry) -> None:
        self.documents = EventDocuments(registry)
        self.done: list[str] = []
        """The names of the jobs that were done."""

    async def do(self, job: Callable[..., Converted], *arguments: Any) -> Converted:
        self.done.append(job.__name__)
        return job(self.documents, *arguments)

    def as_workers(self) -> Workers:
        return cast("Workers", self)
