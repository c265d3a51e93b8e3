"""The client of programs that need only one: `certes_sdk.init` makes it, the functions of `certes_sdk` are its methods.

Handlers can be registered before there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from certes_sdk.client import Client, H
from certes_sdk.errors import failed_precondition
from certes_sdk.handlers import Handlers


class DefaultClient:
    """Where the one client of a process is kept."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self._client: Client | None = None

    def set(self, client: Client) -> None:
        """Makes a client the one of the process, with the handlers that were registered here.

        Raises `ALREADY_INITIALIZED` if there is one that is not closed.
        """
        if self._client is not None and not self._client.is_closed:
            raise failed_precondition(
                "ALREADY_INITIALIZED",
                "There is a client already.",
                hint="Close it first, or make further ones of Client.",
            )
        self._client = client._with(handlers=self.handlers)

    def on(self, pattern: str) -> Callable[[H], H]:
        """Registers a handler, as `Client.on` does."""

        def register(handler: H) -> H:
            self.handlers.add(pattern, handler)
            if self._client is not None:
                self._client.feed()
            return handler

        return register

    def get(self) -> Client:
        """Returns the client. Raises `NOT_INITIALIZED`."""
        if self._client is None:
            raise failed_precondition(
                "NOT_INITIALIZED", "There is no client yet.", hint="Call init with the URI of a gateway first."
            )
        return self._client


DEFAULT: Final = DefaultClient()
"""That of this process."""
