"""All checks of a running engine."""

from __future__ import annotations

from kvtier_ops.doctor.live import cache, disk, drift, serving, tiers

LIVE_CHECKS = (*serving.CHECKS, *cache.CHECKS, *disk.CHECKS, *tiers.CHECKS, *drift.CHECKS)
