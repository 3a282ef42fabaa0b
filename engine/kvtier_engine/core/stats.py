"""Counters and gauges of the core, as the server publishes them on /metrics."""

from __future__ import annotations

from collections.abc import Mapping

from kvtier_engine.core.scheduler import Scheduler
from kvtier_engine.kv.manager import KvManager
from kvtier_engine.messages import Stats

TIERS = ("l1", "l2", "l3")


def collect(scheduler: Scheduler, manager: KvManager) -> Stats:
    """A snapshot; names are documented in docs/operating.md."""
    counters: dict[str, float] = {
        "requests_total": scheduler.counters.requests,
        "preemptions_total": scheduler.counters.preemptions,
        "prompt_tokens_total": scheduler.counters.prompt_tokens,
        "computed_tokens_total": scheduler.counters.computed_tokens,
        "generation_tokens_total": scheduler.counters.answer_tokens,
        "restored_pages_total": manager.restores.pages,
    }
    gauges: dict[str, float] = {
        "requests_running": scheduler.running,
        "requests_waiting": scheduler.waiting,
        'pages_capacity{tier="l1"}': manager.pool.pages,
        'pages_held{tier="l1"}': manager.pool.held,
        'tier_up{tier="l1"}': 1,
        'tier_up{tier="l2"}': float(manager.host is not None and manager.host.slots > 0),
        'tier_up{tier="l3"}': float(manager.disk is not None),
    }
    for tier, tokens in zip(TIERS, scheduler.counters.hit_tokens, strict=True):
        counters[f'hit_tokens_total{{tier="{tier}"}}'] = tokens
    if scheduler.trace is not None:
        counters["request_trace_lines_total"] = scheduler.trace.lines
        counters["request_trace_lost_total"] = scheduler.trace.lost
    _add_departures(manager, counters)
    _add_hints(manager, counters, gauges)
    _add_rates(manager, counters, gauges)
    _add_host(manager, counters, gauges)
    _add_saver(manager, counters, gauges)
    _add_disk(manager, counters, gauges)
    return Stats(counters, gauges)


def _add_departures(manager: KvManager, counters: dict[str, float]) -> None:
    for tier, pages in (("l1", manager.pool), ("l2", manager.host)):
        if pages is None:
            continue
        gone = pages.departures
        counters |= {
            f'evicted_pages_total{{tier="{tier}"}}': gone.count,
            f'evicted_age_seconds_total{{tier="{tier}"}}': gone.age_s,
            f'returned_pages_total{{tier="{tier}"}}': gone.returned,
            f'returned_after_seconds_total{{tier="{tier}"}}': gone.away_s,
        }


def _add_hints(manager: KvManager, counters: dict[str, float], gauges: dict[str, float]) -> None:
    hints = manager.hints
    for cause in ("end_of_session", "ttl"):
        counters[f'dropped_pages_total{{cause="{cause}"}}'] = hints.dropped[cause]
    gauges |= {
        "hint_sessions": len(hints.sessions),
        "hint_session_pages": hints.sessions.pages,
        "hint_ttl_pages": len(hints.deadlines),
        "hint_pinned_pages": len(hints.pins),
        "hint_pinned_pages_max": hints.pins.pages_max,
    }


def _add_rates(manager: KvManager, counters: dict[str, float], gauges: dict[str, float]) -> None:
    """Rates are left out while they are not known."""
    compute = manager.rates.compute.tokens_per_s
    if compute is not None:
        gauges["prefill_tokens_per_second"] = compute
    load = manager.rates.load.bytes_per_s if manager.rates.load is not None else None
    if load is not None:
        gauges["l3_read_bytes_per_second"] = load
    if manager.loader is not None:
        loaded = manager.loader.counters
        counters["loads_met_by_prefill_total"] = loaded.met
        counters["computed_instead_of_loaded_pages_total"] = loaded.computed_pages
        gauges["requests_with_pages_to_come"] = manager.loader.open_gaps


def _add_host(manager: KvManager, counters: dict[str, float], gauges: dict[str, float]) -> None:
    host, offloader, saver = manager.host, manager.offloader, manager.saver
    if host is None or offloader is None:
        return
    counters |= {
        'adopted_pages_total{tier="l2"}': host.adopted,
        'corrupt_pages_total{tier="l2",cause="checksum"}': host.corrupt,
        "offloaded_pages_total": offloader.copied,
        "offload_skipped_pages_total": offloader.skipped,
        "unsaved_pages_total": host.unsaved,
    }
    gauges |= {
        'pages_capacity{tier="l2"}': host.slots,
        'pages_held{tier="l2"}': host.held,
        'pages_pinned{tier="l2"}': host.pinned,
        "offloads_in_flight": offloader.in_flight + (saver.in_flight if saver else 0),
        "l2_populated_bytes": host.populated_bytes,
        "l2_mapped_bytes": host.mapped_bytes,
    }


def _add_saver(manager: KvManager, counters: dict[str, float], gauges: dict[str, float]) -> None:
    saver = manager.saver
    if saver is None:
        return
    counters |= {
        "saved_pages_total": saver.saved,
        "refused_pages_total": saver.refused,
        "not_admitted_pages_total": saver.not_admitted,
    }
    admission = saver.admission
    if admission is None:
        return
    counters |= {"write_budget_spent_pages_total": admission.capped}
    gauges |= {
        "l3_admits_all": float(admission.takes_all),
        "l3_eviction_age_seconds": admission.eviction_age_s,
        "l3_reuse_gap_seconds": admission.reuse_gap_s,
    }


def _add_disk(manager: KvManager, counters: dict[str, float], gauges: dict[str, float]) -> None:
    if manager.disk is None:
        return
    stats = manager.disk.stats()
    counters |= {
        'evicted_pages_total{tier="l3"}': stats.evicted,
        'recovered_pages_total{tier="l3"}': stats.recovered_pages,
        "l3_reads_hit_total": stats.hits,
        "l3_reads_missed_total": stats.misses,
        "l3_read_bytes_total": stats.read_bytes,
        "l3_written_bytes_total": stats.written_bytes,
        "l3_disk_read_bytes_total": stats.disk_read_bytes,
        "l3_disk_written_bytes_total": stats.disk_written_bytes,
        "l3_dropped_writes_total": stats.dropped_writes,
        "l3_timed_out_reads_total": stats.timed_out_reads,
        "l3_io_errors_total": stats.io_errors,
    }
    for directory in stats.directories:
        label = f'{{directory="{_label(directory.path)}"}}'
        counters |= {
            f"l3_directory_read_bytes_total{label}": directory.read_bytes,
            f"l3_directory_written_bytes_total{label}": directory.written_bytes,
            f"l3_directory_io_errors_total{label}": directory.io_errors,
            f"l3_directory_reads_busy_seconds_total{label}": directory.reads_busy_s,
            f"l3_directory_writes_busy_seconds_total{label}": directory.writes_busy_s,
        }
        gauges |= {
            f"l3_directory_direct_io{label}": float(directory.direct_io),
            f"l3_directory_up{label}": float(directory.reads_in_use),
            f"l3_directory_writable{label}": float(directory.writes_in_use),
            f"l3_directory_pages_held{label}": directory.pages,
        }
    for cause, pages in stats.corrupt.items():
        counters[f'corrupt_pages_total{{tier="l3",cause="{cause}"}}'] = pages
    gauges |= {
        'pages_capacity{tier="l3"}': stats.capacity_pages,
        'pages_held{tier="l3"}': stats.pages,
        'tier_up{tier="l3"}': float(any(d.reads_in_use for d in stats.directories)),
        "l3_capacity_bytes": stats.capacity_bytes,
        "l3_used_bytes": stats.used_bytes,
        "l3_disk_written_bytes_last_day": stats.disk_written_bytes_last_day,
        "l3_lifetime_written_bytes": stats.lifetime_written_bytes,
        "l3_lifetime_disk_written_bytes": stats.lifetime_disk_written_bytes,
        "l3_lifetime_hit_bytes": stats.lifetime_hit_bytes,
        "l3_reads_queued": stats.reads_queued,
        "l3_writes_queued": stats.writes_queued,
    }


def out_of_use(directories: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    """Gauges of the directories of L3 that are out of use: since when, with the reason."""
    return {
        f'l3_out_of_use_since_seconds{{directory="{_label(path)}",reason="{_label(why)}"}}': since
        for path, (why, since) in directories.items()
    }


def _label(value: str) -> str:
    """As the text format of Prometheus has label values."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
