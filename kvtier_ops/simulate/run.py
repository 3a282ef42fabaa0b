"""The whole simulation of one trace: hit rates, waits, the disk's wear, other sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kvtier_engine.kv.admit import DAY_S
from kvtier_ops.simulate import findings
from kvtier_ops.simulate.ideal import hinted_lru_hits, min_hits
from kvtier_ops.simulate.lines import Report, no_report
from kvtier_ops.simulate.rates import Rates
from kvtier_ops.simulate.result import (
    DayResult,
    DiskResult,
    HitRates,
    PointResult,
    RateResult,
    Result,
    SweepResult,
    TierName,
    TierResult,
    TraceFacts,
    WaitResult,
)
from kvtier_ops.simulate.setup import Setup
from kvtier_ops.simulate.stack import HitCurve, hit_curve
from kvtier_ops.simulate.sweep import Range, default_sizes, knee
from kvtier_ops.simulate.tiers import Found, Outcome, Units, chains_of, simulate_tiers
from kvtier_ops.simulate.trace import Trace
from kvtier_ops.simulate.ttft import Job, Loading, Machine, simulate_waits
from kvtier_ops.units import UNITS

L2_TO_SWEEP = 64 * UNITS["GiB"]  # where there is none
L3_TO_SWEEP = UNITS["TB"]


@dataclass(frozen=True)
class Options:
    speed: float = 1.0  # requests arrive so many times as fast
    decode_share: float = 0.0  # of the device's time
    sweeps: Mapping[str, Range] = field(default_factory=dict)  # others are chosen


def simulate(
    trace: Trace,
    setup: Setup,
    rates: Rates | None,
    options: Options = Options(),
    report: Report = no_report,
) -> Result:
    """`rates`: None leaves waits out, and lets the disk take what comes. Reports in percent."""
    return _Simulation(trace, setup, rates, options).run(report)


class _Simulation:
    def __init__(self, trace: Trace, setup: Setup, rates: Rates | None, options: Options) -> None:
        self._trace = trace
        self._setup = setup
        self._rates = rates if trace.has_times else None
        self._options = options
        self._units = Units.of(trace, setup.page_tokens)
        self._input_tokens = trace.input_tokens

    def run(self, report: Report) -> Result:
        report(0, 100)
        writes_per_s = self._rates.disk_write_bytes_per_s if self._rates else math.inf
        outcome = simulate_tiers(
            self._trace,
            self._setup,
            speed=self._options.speed,
            disk_writes_per_s=writes_per_s,
            report=lambda done, total: report(60 * done // total, 100),
        )
        report(60, 100)
        curve = hit_curve(chains_of(self._trace, self._units), self._trace.unique)
        hit_rates = self._hit_rates(outcome, curve)
        report(85, 100)
        waits = self._waits(outcome)
        report(95, 100)
        sweeps = [self._sweep("l2", curve), self._sweep("l3", curve)]
        result = Result(
            trace=self._facts(),
            simulated_block_tokens=self._units.block_tokens,
            page_tokens=self._setup.page_tokens,
            token_bytes=self._setup.token_bytes,
            tiers=self._tiers(outcome),
            hit_rates=hit_rates,
            waits=waits,
            rates=self._rate_rows(),
            disk=self._disk(outcome),
            sweeps=sweeps,
            findings=[],
            notes=[],
        )
        report(100, 100)
        return findings.add_to(result, self._setup, lambda tokens: self._lru_rate(curve, tokens))

    @property
    def _duration_s(self) -> float:
        """0: not known."""
        return self._trace.duration_s / self._options.speed if self._trace.has_times else 0.0

    def _rate(self, blocks: int) -> float:
        tokens = blocks * self._units.block_tokens
        return tokens / self._input_tokens if self._input_tokens else 0.0

    def _lru_rate(self, curve: HitCurve, tokens: int) -> float:
        """Of one LRU cache for so many tokens."""
        return self._rate(curve.hits(self._units.blocks(tokens)))

    def _facts(self) -> TraceFacts:
        trace = self._trace
        return TraceFacts(
            name=trace.name,
            requests=len(trace),
            has_times=trace.has_times,
            duration_s=self._duration_s,
            speed=self._options.speed,
            input_tokens=self._input_tokens,
            output_tokens=trace.output_tokens,
            block_tokens=trace.block_tokens,
            unique_bytes=trace.unique * trace.block_tokens * self._setup.token_bytes,
            bad_lines=trace.bad_lines,
            late_lines=trace.late_lines,
        )

    def _tiers(self, outcome: Outcome) -> list[TierResult]:
        hits, setup = outcome.tokens(), self._setup
        sizes = (setup.l1.tokens, setup.l2.tokens, setup.l3.tokens)
        names: tuple[TierName, ...] = ("l1", "l2", "l3")
        return [
            TierResult(
                name=name,
                bytes=tokens * setup.token_bytes,
                tokens=tokens,
                hit_tokens=hit,
                hit_rate=hit / self._input_tokens if self._input_tokens else 0.0,
            )
            for name, tokens, hit in zip(names, sizes, hits[:3], strict=True)
        ]

    def _hit_rates(self, outcome: Outcome, curve: HitCurve) -> HitRates:
        requests = list(chains_of(self._trace, self._units))
        chains = [each.chain for each in requests]
        limits = ([each.reusable for each in requests], [each.stores for each in requests])
        memory = self._units.blocks(max(self._setup.l1.tokens, self._setup.l2.tokens))
        return HitRates(
            all_tiers=self._rate(sum(found.total for found in outcome.found)),
            memory=self._rate(sum(found.l2_front for found in outcome.found)),
            infinite=self._rate(curve.ceiling),
            told=self._rate(hinted_lru_hits(chains, memory, *limits) if memory else 0),
            optimum=self._rate(min_hits(chains, memory, *limits) if memory else 0),
        )

    # Time.

    def _waits(self, outcome: Outcome) -> list[WaitResult]:
        rates, setup = self._rates, self._setup
        if rates is None:
            return []
        machine = Machine(
            prefill=rates.prefill_tokens_per_s,
            slowdown=setup.work.slowdown,
            l2=rates.l2_bytes_per_s / setup.token_bytes,
            disk=rates.disk_read_bytes_per_s / setup.token_bytes,
            page_tokens=setup.page_tokens,
            decode_share=self._options.decode_share,
        )
        loading = Loading.AS_THE_ENGINE if setup.compute_while_loading else Loading.ALWAYS
        scenarios = [0, *(1,) * (setup.l1.tokens > 0)]
        scenarios += [2] if setup.l2.tokens else []
        scenarios += [3] if setup.l3.tokens else []
        return [self._wait(outcome, count, machine, loading) for count in scenarios]

    def _wait(self, outcome: Outcome, tiers: int, machine: Machine, loading: Loading) -> WaitResult:
        waits = simulate_waits(self._jobs(outcome, tiers), machine, loading)
        return WaitResult(
            tiers=[each.name for each in self._tiers(outcome)[:tiers] if each.tokens],
            mean_s=waits.mean_s,
            p50_s=waits.p50_s,
            p90_s=waits.p90_s,
            p99_s=waits.p99_s,
            device_load=waits.device_load,
            disk_load=waits.disk_load,
            read_bytes=waits.read_tokens * self._setup.token_bytes,
            computed_instead_tokens=waits.computed_instead_tokens,
        )

    def _rate_rows(self) -> list[RateResult]:
        if self._rates is None:
            return []
        share = self._options.decode_share
        source = "as told" if share else "assumed: `--decode-share` tells"
        decoding = RateResult("answers", f"{100 * share:.3g} % of the device", source)
        return [*(RateResult(*row) for row in self._rates.rows()), decoding]

    def _jobs(self, outcome: Outcome, tiers: int) -> list[Job]:
        size, speed = self._units.block_tokens, self._options.speed
        jobs = []
        for request, found in zip(self._trace, outcome.found, strict=True):
            below_l1, on_disk, there = _seen_by(tiers, found)
            jobs.append(
                Job(
                    request.arrival_s / speed,
                    request.input_tokens,
                    below_l1 * size,
                    on_disk * size,
                    there * size,
                )
            )
        return jobs

    # The disk.

    def _disk(self, outcome: Outcome) -> DiskResult | None:
        setup, traffic = self._setup, outcome.traffic
        if not setup.l3.tokens:
            return None
        size = self._units.block_tokens * setup.token_bytes
        duration_s = self._duration_s
        written = traffic.written * size
        a_day = written * DAY_S / duration_s if duration_s else 0.0
        write_s = written / self._rates.disk_write_bytes_per_s if self._rates else 0.0
        return DiskResult(
            read_bytes=traffic.read * size,
            written_bytes=written,
            written_per_read=traffic.written / traffic.read if traffic.read else None,
            drive_writes_per_day=a_day
            / (setup.l3.drive_bytes or setup.l3.tokens * setup.token_bytes),
            rated_drive_writes_per_day=setup.l3.drive_writes_per_day,
            write_load=write_s / duration_s if duration_s else 0.0,
            unsaved_bytes=traffic.unsaved * size,
            not_admitted=traffic.not_admitted,
            days=[
                DayResult(day, traffic.read_on[day] * size, traffic.written_on[day] * size)
                for day in sorted({*traffic.read_on, *traffic.written_on})
            ],
        )

    # Other sizes.

    def _sweep(self, tier: str, curve: HitCurve) -> SweepResult:
        """L3 as one that everything is written to as soon as it is computed."""
        setup, token_bytes = self._setup, self._setup.token_bytes
        planned = (setup.l2.tokens if tier == "l2" else setup.l3.tokens) * token_bytes
        above = max(setup.l1.tokens, setup.l2.tokens if tier == "l3" else 0)
        other = L2_TO_SWEEP if tier == "l2" else L3_TO_SWEEP
        told = self._options.sweeps.get(tier)
        everything = self._facts().unique_bytes
        sizes = told.sizes() if told else default_sizes(planned or other, everything)

        def rate_of(size: int) -> float:
            return self._lru_rate(curve, max(above, size // token_bytes))

        points = [PointResult(n, rate_of(n), n == planned) for n in sizes]
        return SweepResult(
            tier="l2" if tier == "l2" else "l3",
            points=points,
            knee_bytes=knee(rate_of, [point.bytes for point in points]),
        )


def _seen_by(tiers: int, found: Found) -> tuple[int, int, int]:
    """(blocks to copy from L2, blocks to read, blocks in all) of a cache of the first `tiers`."""
    match tiers:
        case 0:
            return 0, 0, 0
        case 1:
            return 0, 0, found.l1_front
        case 2:
            return max(0, found.l2_front - found.l1), 0, found.l2_front
        case _:
            return found.l2, found.l3, found.total
