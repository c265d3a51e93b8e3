"""The histogram of waits."""

from __future__ import annotations

from certes_broker.observability.latencies import LATENCY_BOUNDS, Latencies


def test_a_wait_counts_in_the_first_bucket_whose_bound_it_keeps() -> None:
    latencies = Latencies()
    latencies.observe([0, 1_000, 1_001, 150_000, 150_001, 61_000_000])
    found = dict(zip((*LATENCY_BOUNDS, None), latencies.counts, strict=True))
    assert {bound: count for bound, count in found.items() if count} == {0.001: 2, 0.0025: 1, 0.15: 1, 0.25: 1, None: 1}
    assert (latencies.count, latencies.micros) == (6, 61_302_002)


def test_a_share_is_within_the_bound_of_its_bucket() -> None:
    latencies = Latencies()
    assert latencies.within(0.99) is None
    latencies.observe([900] * 99)
    latencies.observe([200_000])
    assert latencies.within(0.99) == 0.001
    assert latencies.within(1.0) == 0.25
    latencies.observe([90_000_000] * 10)
    assert latencies.within(0.99) is None
