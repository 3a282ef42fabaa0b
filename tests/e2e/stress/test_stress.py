"""Random conversations on tiny tiers, whose engines are killed and whose disk fails: every greedy
answer is, to the last bit of its logprobs, the one of an engine without a cache; every page is
accounted for; every request ends.

KVTIER_STRESS_SEED=N plays the lives of that seed again, and in the slow form those that follow;
KVTIER_STRESS_SECONDS=N is how long that takes at least.
"""

from __future__ import annotations

import os
import time
from random import SystemRandom

import pytest
from e2e.stress.conversations import VOCABULARY
from e2e.stress.counts import Totals
from e2e.stress.disturbances import CHANGED, FAULTS, HANGS
from e2e.stress.launcher import Files
from e2e.stress.lives import TRAFFIC, Ending
from e2e.stress.stage import play_seed
from support.disk_faults import build_shim
from support.models import small_llama
from support.server_thread import make_tokenizer

SEED = 4
LONG_S = 1800.0
PATHS = (
    *TRAFFIC,
    *(f"engines {ending.value}" for ending in Ending),
    *(f"calls when {name}" for name in (*FAULTS, HANGS)),
    "answers that ended with all tokens",
    "answers that ended by the client",
    "adopted_pages_total l2",
    "recovered_pages_total l3",
    "corrupt_pages_total l2",
    "corrupt_pages_total l3",
    "computed_instead_of_loaded_pages_total",
    "preemptions_total",
    "times at rest",
    CHANGED,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("stress")
    shim = build_shim(folder)
    if shim is None:
        pytest.skip("a disk that fails takes a C compiler")
    make_tokenizer(folder / "model")
    return Files(small_llama(folder / "model", vocab_size=VOCABULARY), shim)


@pytest.mark.timeout(600)
def test_every_answer_is_that_of_an_engine_without_a_cache(files: Files) -> None:
    seed = int(os.environ.get("KVTIER_STRESS_SEED", SEED))
    print(f"seed {seed}")
    totals = Totals()
    play_seed(seed, files, totals, extra_lives=1)
    print(totals.shown())
    assert not totals.missing(PATHS)


@pytest.mark.slow
@pytest.mark.timeout(0)  # whatever is stuck is reported by the clients' own deadlines
def test_every_answer_for_long(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("KVTIER_STRESS_SEED", SystemRandom().randrange(10**6)))
    deadline = time.monotonic() + float(os.environ.get("KVTIER_STRESS_SECONDS", LONG_S))
    totals = Totals()
    while time.monotonic() < deadline:
        with capsys.disabled():
            print(f"\nseed {seed}: {totals.shown()}", flush=True)
        play_seed(seed, files, totals, extra_lives=8)
        seed += 1
    with capsys.disabled():
        print(f"\nall in all: {totals.shown()}")
    assert not totals.missing(PATHS)
