"""The stage of the demo: who is on it, what was accepted, and what each subscriber should get of that."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import Final

import httpx

from certes.v1 import event_service_pb2_grpc as events_rpc
from scripts.broker_process import BrokerProcess
from scripts.demo_github import Answer, GitHub, Webhook
from scripts.demo_receiver import WebhookReceiver
from scripts.demo_report import Report
from scripts.demo_subscribers import Inbox, StreamSubscriber

TYPES: Final = "community.certes.dev/github/1/"
REPOSITORY: Final = "meetly/meetly"

MEETLY, PUSHES, HOOK = "meetly stream", "push stream", "webhook"
"""The three subscribers, as they are called in what is printed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """All that is on stage, and `accepted`: every webhook that was answered 202, with the answer."""

    report: Report
    broker: BrokerProcess
    github: GitHub
    meetly: StreamSubscriber
    pushes: StreamSubscriber
    receiver: WebhookReceiver
    events: events_rpc.EventServiceAsyncStub
    client: httpx.AsyncClient
    accepted: dict[str, tuple[Webhook, Answer]]

    @property
    def inboxes(self) -> dict[str, Inbox]:
        """What has arrived, by subscriber."""
        return {MEETLY: self.meetly.inbox, PUSHES: self.pushes.inbox, HOOK: self.receiver.inbox}

    async def post(self, webhook: Webhook) -> Answer:
        """Posts a webhook and notes that it was accepted."""
        answer = await self.github.post(webhook)
        if answer.status == httpx.codes.ACCEPTED:
            self.accepted.setdefault(webhook.delivery_id, (webhook, answer))
        return answer

    def expected(self, subscriber: str) -> set[str]:
        """Returns the ids of the accepted webhooks that concern a subscriber."""
        return {one for one, (webhook, _) in self.accepted.items() if concerns(webhook, subscriber)}

    def latency(self, subscriber: str, event_id: str) -> float | None:
        """Returns how many seconds after its post began a webhook first arrived; None where it did not."""
        arrival = self.inboxes[subscriber].first(event_id)
        return None if arrival is None else arrival.at - self.github.begun[event_id]

    async def post_forged(self) -> int:
        """Posts to the receiver what the broker did not sign, and returns the status of the answer."""
        headers = {
            "webhook-id": "msg_forged",
            "webhook-timestamp": str(int(time())),
            "webhook-signature": "v1,Zm9yZ2Vk",
        }
        response = await self.client.post(self.receiver.url, content=b"{}", headers=headers)
        self.receiver.refused -= 1
        return response.status_code

    def hold(self) -> None:
        """Lets nobody settle anything from now on."""
        self.meetly.acknowledges = self.pushes.acknowledges = False
        self.receiver.hold()

    def release(self) -> None:
        """Lets everybody settle again."""
        self.meetly.acknowledges = self.pushes.acknowledges = True
        self.receiver.release()


def concerns(webhook: Webhook, subscriber: str) -> bool:
    """Says, apart from the broker, whether a webhook matches what a subscriber asked for."""
    if subscriber == MEETLY:
        return webhook.repository == REPOSITORY
    return webhook.event == "push" if subscriber == PUSHES else True
