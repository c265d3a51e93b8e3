"""The refusal of what another broker has: the gateway passes the request on to it."""

from __future__ import annotations

from certes_broker.domain.errors import CertesError, Reason, Unavailable
from certes_broker.ports.cluster import MemberId


class Elsewhere(Unavailable):
    """Another member has what a request is about. Nothing has happened here.

    `gone` is what the caller is told where that member serves no more; None for this refusal itself.
    """

    def __init__(self, member: MemberId, message: str, gone: CertesError | None = None) -> None:
        super().__init__(Reason.LEASE_LOST, message, hint="Try again in a moment.", retry_after=1.0)
        self.member = member
        self.gone = gone
