"""The acts of the demo, in order. Each does something to the broker and claims what must be true then.

Nothing here sleeps: what is expected is waited for, within a limit, and the claim is false where it does not come.
"""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter
from typing import Final

import grpc

from certes.v1 import event_service_pb2 as pb
from scripts.demo_github import Answer, Webhook
from scripts.demo_stage import HOOK, MEETLY, PUSHES, REPOSITORY, Stage

PAYLOADS: Final = (
    "push-meetly-meetly",
    "issues-opened-meetly-meetly",
    "push-meetly-app",
    "issues-opened-meetly-app",
    "membership-added",
    "push-harborlight-tides",
    "push-meetly-meetly-branch",
)
ACCEPTED: Final = 202


async def deliver(stage: Stage) -> None:
    """Posts webhooks; each arrives where it is wanted, and nowhere else."""
    report = stage.report
    report.act(f"{len(PAYLOADS)} webhooks of GitHub; times run from the beginning of the POST")
    webhooks = [Webhook.of_payload(name) for name in PAYLOADS]
    answers = [await stage.post(webhook) for webhook in webhooks]
    for subscriber, inbox in stage.inboxes.items():
        await inbox.has(stage.expected(subscriber))
    rows = [
        [
            webhook.event,
            webhook.about,
            f"{len(webhook.body) / 1024:.1f} KiB",
            f"{answer.status} in {in_milliseconds(answer.took)}",
            *(in_milliseconds(stage.latency(subscriber, webhook.delivery_id)) for subscriber in stage.inboxes),
        ]
        for webhook, answer in zip(webhooks, answers, strict=True)
    ]
    report.table(["event", "about", "size", "answered", *stage.inboxes], rows)
    statuses = [answer.status for answer in answers]
    report.claim(
        "All were accepted (202), durable before the answer.", statuses == [ACCEPTED] * len(PAYLOADS), statuses
    )
    claim_filters(stage)


def claim_filters(stage: Stage) -> None:
    """Holds what has arrived against what was asked for."""
    for subscriber, text in (
        (MEETLY, f"The stream with `repo: {REPOSITORY}` got all of that repository and nothing else."),
        (PUSHES, "The stream of pushes got the pushes of every repository and nothing else."),
        (HOOK, "The webhook got everything, each request with a signature that standardwebhooks verified."),
    ):
        arrived = set(stage.inboxes[subscriber].counts)
        wanted = stage.expected(subscriber)
        refused = stage.receiver.refused if subscriber == HOOK else 0
        holds = bool(wanted) and arrived == wanted and not refused
        found = f"missing {wanted - arrived}, unwanted {arrived - wanted}, bad signatures {refused}"
        stage.report.claim(text, holds, found)


async def refuse(stage: Stage) -> None:
    """Posts what must not come in, or not twice."""
    report = stage.report
    report.act("What must not come in")
    forged = Webhook.of_payload("push-meetly-meetly")
    answer = await stage.github.post(forged, secret="not the secret")
    error = answer.document.get("error", {})
    report.say(f"Signed with another secret: {answer.status} {error.get('reason')}")
    report.say(f"  {error.get('message')}")
    report.claim(
        "A bad signature is answered 401 SIGNATURE_INVALID, and nothing is stored.",
        (answer.status, error.get("reason"), await is_kept(stage, forged)) == (401, "SIGNATURE_INVALID", False),
        answer,
    )
    webhook, first = next(iter(stage.accepted.values()))
    again = await stage.github.post(webhook)
    report.say(
        f"The first webhook again: {again.status}, duplicate: {again.document.get('duplicate')}, {again.document.get('name')}"
    )
    report.claim("A redelivery by GitHub is a duplicate of the first event.", is_duplicate(first, again), again)
    status = await stage.post_forged()
    report.claim("The receiver would notice a webhook that the broker did not sign: 401.", status == 401, status)


def is_duplicate(first: Answer, again: Answer) -> bool:
    """Says whether a second answer calls the event a duplicate of what the first one named."""
    told = again.document
    return again.status == ACCEPTED and told["duplicate"] and told["name"] == first.document["name"]


async def is_kept(stage: Stage, webhook: Webhook) -> bool:
    """Asks the broker whether it keeps an event with a webhook's id."""
    _, answer = next(iter(stage.accepted.values()))
    known = await stage.events.GetEvent(pb.GetEventRequest(name=answer.document["name"]))
    key = pb.GetEventRequest.SourceAndId(source=known.event.event.source, id=webhook.delivery_id)
    try:
        await stage.events.GetEvent(pb.GetEventRequest(source_and_id=key))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


async def crash(stage: Stage) -> None:
    """Kills the broker while deliveries are under way, and starts it again on the same data."""
    report, inboxes, streams = stage.report, stage.inboxes, (stage.meetly, stage.pushes)
    report.act("SIGKILL between two events")
    settled = [dict(stream.acknowledged) for stream in streams]
    stage.hold()
    report.say("From here on the streams acknowledge nothing, and the receiver answers nothing.")
    seen, unseen = Webhook.of_payload("push-meetly-meetly"), Webhook.of_payload("push-meetly-meetly-branch")
    await stage.post(seen)
    reached = [await inbox.has([seen.delivery_id]) for inbox in inboxes.values()]
    report.claim("A first push is accepted and arrives at all three; nobody settles it.", all(reached), reached)
    answer = await stage.post(unseen)
    stage.broker.kill9()
    report.claim("A second push is accepted; the broker is killed on the spot.", answer.status == ACCEPTED, answer)
    # What was on its way when the broker died may still arrive; the restart has nothing to do with that.
    await asyncio.gather(*(stream.disconnected.wait() for stream in streams))
    before = {name: inbox.counts for name, inbox in inboxes.items()}
    stage.release()
    began = perf_counter()
    await asyncio.to_thread(stage.broker.start)
    report.say(f"Started again on the same data: ready in {perf_counter() - began:.2f} s.")
    rows = []
    for name, inbox in inboxes.items():
        for webhook in (seen, unseen):
            await inbox.has([webhook.delivery_id], times=before[name][webhook.delivery_id] + 1)
        after = inbox.counts - before[name]
        counts = [(before[name][one.delivery_id], after[one.delivery_id]) for one in (seen, unseen)]
        rows.append([name, *(f"{early} before, {late} after" for early, late in counts)])
    report.table(["arrivals", "first push", "second push"], rows)
    for name, inbox in inboxes.items():
        missing = [
            one.delivery_id for one in (seen, unseen) if inbox.counts[one.delivery_id] <= before[name][one.delivery_id]
        ]
        report.claim(f"Unsettled at the crash, both pushes came to the {name} after it.", not missing, missing)
    ids = stage.receiver.message_ids.get(seen.delivery_id, set())
    report.claim("Before and after, the webhook-id is the same: receivers can deduplicate.", len(ids) == 1, ids)
    again = [
        one
        for stream, acknowledged in zip(streams, settled, strict=True)
        for one in acknowledged
        if stream.inbox.counts[one] > acknowledged[one]
    ]
    report.claim("What a stream had acknowledged before did not come again.", any(settled) and not again, again)
    redelivered = await stage.github.post(unseen)
    report.claim(
        "A redelivery of what came in before the crash is still a duplicate.",
        is_duplicate(answer, redelivered),
        redelivered,
    )


async def stop(stage: Stage) -> None:
    """Posts one more, stops the broker and counts everything."""
    report, inboxes = stage.report, stage.inboxes
    report.act("Stopped, and counted")
    last = Webhook.of_payload("push-meetly-meetly")
    await stage.post(last)
    reached = [await inbox.has([last.delivery_id]) for inbox in inboxes.values()]
    report.claim("A push after the crash arrives at all three.", all(reached), reached)
    code = await asyncio.to_thread(stage.broker.terminate)
    report.claim("On SIGTERM the broker drains and exits with code 0.", code == 0, code)
    rows = []
    for name, inbox in inboxes.items():
        wanted, counts = stage.expected(name), inbox.counts
        missing = wanted - counts.keys()
        latencies = [seconds for one in wanted if (seconds := stage.latency(name, one)) is not None]
        rows.append(
            [
                name,
                str(len(wanted)),
                str(len(wanted) - len(missing)),
                str(counts.total() - len(counts)),
                in_milliseconds(median(latencies)) if latencies else "–",
            ]
        )
    report.table(["subscriber", "accepted for it", "arrived", "came again", "median latency"], rows)
    lost = {one for name, inbox in inboxes.items() for one in stage.expected(name) - inbox.counts.keys()}
    report.claim("Nothing that was accepted was lost.", bool(stage.accepted) and not lost, lost)
    claim_filters(stage)


def in_milliseconds(seconds: float | None) -> str:
    """Writes a time; a dash where there is none."""
    return "–" if seconds is None else f"{seconds * 1000:.1f} ms"
