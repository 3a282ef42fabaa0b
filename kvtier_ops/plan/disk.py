"""How much disk L3 takes, and whether it is there."""

from __future__ import annotations

from collections import Counter

from kvtier_ops.errors import BadInput, PlanDoesNotFit
from kvtier_ops.host import DirectoryFacts
from kvtier_ops.plan.question import BLOCK_BYTES, Question, round_up
from kvtier_ops.plan.types import DiskPlan, TierPlan
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import AUTO, UNITS, Share, Size, format_bytes

MIB = UNITS["MiB"]

# As csrc/store lays a directory out: a header block before each page, journal records of
# 64 bytes (the journal is rewritten before it holds four for each slot), two blocks at first.
JOURNAL_BYTES_PER_PAGE = 4 * 64
STORE_BYTES = 4 * BLOCK_BYTES


def plan_disk(question: Question) -> tuple[TierPlan, tuple[DiskPlan, ...]]:
    """Sizes L3. Raises PlanDoesNotFit naming the directory and the largest that fits."""
    profile, host, page_bytes = question.profile, question.host, question.page_bytes
    l3 = profile.tiers.l3
    _check_directories(profile)
    if not _is_on(profile):
        return TierPlan("l3", "-", 0, 0, 0, "off"), ()
    facts = [host.directories[path] for path in l3.directories]
    room = _room(facts, l3.reserve.bytes)
    if l3.size is AUTO:
        capacities = [spare // 2 for spare in room]
        reason = "auto: half of what is free beyond the reserve"
    elif isinstance(l3.size, Share):
        capacities = [l3.size.of(spare) for spare in room]
        reason = f"{l3.size} of what is free beyond the reserve"
    else:
        assert isinstance(l3.size, Size)
        capacities = [l3.size.bytes // len(facts)] * len(facts)
        reason = "as the profile says"
    _check_room(facts, capacities, room)
    pages = sum(directory_pages(capacity, page_bytes) for capacity in capacities)
    if pages == 0:
        raise PlanDoesNotFit(
            f"{format_bytes(sum(capacities))} of disk holds no page of {format_bytes(page_bytes)}",
            "free disk space, give L3 more, or set `0GiB` for no L3",
            field="tiers.l3.size",
            id="KVT-P204",
        )
    where = facts[0].on.kind if len(facts) == 1 else f"{len(facts)} directories"
    tokens = pages * profile.tiers.page_tokens
    tier = TierPlan("l3", where or "disk", sum(capacities), pages, tokens, reason)
    disks = tuple(
        DiskPlan(fact.path, capacity, spare, fact.on)
        for fact, capacity, spare in zip(facts, capacities, room, strict=True)
    )
    return tier, disks


def directory_bytes(pages: int, page_bytes: int) -> int:
    """The least capacity of a directory that holds so many pages."""
    slot = BLOCK_BYTES + round_up(page_bytes, BLOCK_BYTES)
    return STORE_BYTES + pages * (slot + JOURNAL_BYTES_PER_PAGE)


def directory_pages(capacity_bytes: int, page_bytes: int) -> int:
    """Pages that a directory of this capacity holds at least."""
    slot = BLOCK_BYTES + round_up(page_bytes, BLOCK_BYTES)
    return max(0, capacity_bytes - STORE_BYTES) // (slot + JOURNAL_BYTES_PER_PAGE)


def _is_on(profile: Profile) -> bool:
    l3 = profile.tiers.l3
    return bool(l3.directories) and not (isinstance(l3.size, Size) and l3.size.bytes == 0)


def _check_directories(profile: Profile) -> None:
    paths = profile.tiers.l3.directories
    twice = [str(path) for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise BadInput(
            f"names `{twice[0]}` twice", "name each directory once", field="tiers.l3.directories"
        )
    l2 = profile.tiers.l2.size
    if _is_on(profile) and isinstance(l2, Size) and l2.bytes == 0:
        raise BadInput(
            "L3 needs L2: pages go to and from disk through it",
            "give L2 a size, or remove `tiers.l3.directories`",
            field="tiers.l2.size",
        )


def _room(facts: list[DirectoryFacts], reserve: int) -> list[int]:
    """What each directory may hold: an equal part of its file system's free space beyond
    the reserve, and what its files already take."""
    sharing = Counter(fact.on.device_id for fact in facts)
    return [
        max(0, fact.on.free_bytes - reserve) // sharing[fact.on.device_id] + fact.used_bytes
        for fact in facts
    ]


def _check_room(facts: list[DirectoryFacts], capacities: list[int], room: list[int]) -> None:
    for fact, capacity, spare in zip(facts, capacities, room, strict=True):
        if capacity > spare:
            largest = min(room) // MIB * len(facts)
            raise PlanDoesNotFit(
                f"asks for {format_bytes(capacity)} in `{fact.path}`, and its file system has "
                f"{format_bytes(spare)} beyond the reserve",
                f"the largest that fits is `{largest}MiB`"
                if largest
                else "free disk space, or set `tiers.l3.size: 0GiB` for no L3",
                field="tiers.l3.size",
                id="KVT-P204",
            )
