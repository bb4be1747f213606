"""A short mix of everything: two gateways, two replicas of each worker, servers of its own, and a fault every few seconds. The
seed is the suite's (--seed), is printed with its schedule, and plays the same faults again."""
import pytest

import mix


@pytest.mark.timeout(900)
def test_a_short_mix(folder, seed):
    report = mix.run(folder, seed, seconds=180, every=7)
    assert report.counts["accepted"] > 500
