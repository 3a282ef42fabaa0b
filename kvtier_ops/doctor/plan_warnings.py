"""The plan's warnings as findings, under the ids that `kvtier plan` gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvtier_ops.doctor.check import Context, Finding, Severity
from kvtier_ops.doctor.place import may_write, outside, tune_command
from kvtier_ops.plan import Warning_

PLAN_GROUP = "plan"
_HUGEPAGES, _HUGEPAGES_REFUSED = "KVT-P011", "KVT-D205"


@dataclass(frozen=True)
class Told:
    """What an id of the plan is about. `told_by`: the check that tells of it."""

    what: str
    passes: str
    why: str
    forbids_launch: bool = False
    told_by: str = ""


def plan_findings(context: Context, made: Sequence[Finding] = ()) -> Iterator[Finding]:
    """None without a plan. What the plan says must not be launched is a failure. `made`: those
    of the checks, where one may tell the same and better."""
    if context.plan is None:
        return
    is_told = any(each.id == _HUGEPAGES_REFUSED and not each.ok for each in made)
    for warning in context.plan.warnings:
        if warning.id == _HUGEPAGES and is_told:
            continue
        severity = Severity.FAILURE if warning.forbids_launch else Severity.WARNING
        subject = f"`{warning.field}`" if warning.field else "profile"
        yield Finding(
            id=warning.id,
            group=PLAN_GROUP,
            what=f"plan, {subject}",
            severity=severity,
            ok=False,
            required="",
            current=warning.what,
            fix=_fix(context, warning),
        )


def _fix(context: Context, warning: Warning_) -> str:
    """Hugepages are what `kvtier tune` reserves, or the host outside of a container."""
    if warning.id != _HUGEPAGES:
        return warning.hint
    if not may_write(context.root, "sys/kernel/mm/hugepages"):
        return f"{outside(context.root)}: {warning.hint}"
    return warning.hint.replace("sudo kvtier tune PROFILE", tune_command(context))


WARNINGS: Mapping[str, Told] = {
    "KVT-P001": Told(
        "L2 beside L1",
        "L2 is larger than L1",
        "L2 keeps what L1 evicts. If it is not larger, it holds little that L1 does not hold as "
        "well, and memory is spent on the same pages twice. The fix makes it larger, or turns it "
        "off.",
    ),
    "KVT-P002": Told(
        "L3 beside L2",
        "L3 is larger than L2",
        "L3 keeps what L2 evicts. If it is not larger, it adds little but a warm restart, and is "
        "written for that. The fix makes it larger.",
    ),
    "KVT-P003": Told(
        "the context",
        "L1 holds one request of the model's whole context",
        "A request needs all its pages in L1 while it is computed. The context is cut to what L1 "
        "holds, and longer prompts are refused. The fix gives L1 more memory.",
    ),
    "KVT-P004": Told(
        "threads",
        "there are no more threads than CPUs",
        "Threads that share a CPU wait for one another at the end of every layer, so that more "
        "threads compute less. The fix takes as many as there are CPUs.",
    ),
    "KVT-P005": Told(
        "who may ask",
        "the server listens to this host alone, or asks for keys",
        "Whoever reaches the port can use the model, and learns from an answer's latency what "
        "others asked. The fix asks for keys, or keeps the port to this host.",
    ),
    "KVT-P006": Told(
        "where L3 lies",
        "L3 lies on a local disk",
        "Memory counts as memory and is gone after a reboot, a container's layer is gone with the "
        "container, and a network may be slower than computing. The fix names a local disk.",
    ),
    "KVT-P007": Told(
        "admission",
        "`admit_tokens` is set together with `admit_sightings`",
        "`tiers.l3.admit_tokens` makes an exception from a rule that is off unless "
        "`admit_sightings` is 2 or more. As it is, every page is written. The fix sets the rule.",
    ),
    "KVT-P011": Told(
        "hugepages reserved",
        "as many hugepages are reserved and free as L2 takes, on each node",
        "Hugepages are taken from those that were reserved before; 200,000 of 2 MiB are 390 GiB, "
        "not 400. With too few the engine would go on with smaller pages in memory that does not "
        "survive it, so a launch refuses. The fix reserves them, on the nodes where L2 needs them; "
        "memory that is in pieces may give fewer, so do it early after a start of the host.",
        forbids_launch=True,
    ),
    "KVT-P012": Told(
        "hugepages unused",
        "no hugepages are reserved that this profile does not use",
        "Reserved hugepages are taken from everybody at once, whether somebody uses them or not, "
        "and an engine that was not told to use them does not. The fix uses them, or gives them "
        "back.",
    ),
    "KVT-P014": Told(
        "units",
        "memory is sized in powers of 1024",
        "400GB are 372.5 GiB: memory and hugepages come in powers of 1024, and a number that was "
        "meant so is 7 % short. The fix writes GiB where that was meant.",
    ),
    "KVT-P015": Told(
        "the system's share",
        "5 % of memory are left to the system",
        "Loading the weights passes through the page cache, and other processes need memory as "
        "well: without any left, all get slow, and the kernel may end one of them. The fix makes "
        "L2 smaller, or the reserve larger.",
    ),
    "KVT-P016": Told(
        "one directory, several nodes",
        "no two nodes name the same directory of a network file system",
        "A page store takes its directory for itself, so the second node is refused and serves "
        "without L3. The fix gives each node a directory of its own.",
    ),
    "KVT-P017": Told(
        "what L3 is worth",
        "the disk reads a page sooner than the device computes it, at some length of prompt",
        "The engine loads only what comes sooner than it can be computed. From a disk that is "
        "slower than computing at every length, it loads next to nothing, and L3 helps restarts "
        "alone. The fix is a faster disk, or more of them.",
    ),
    "KVT-P018": Told(
        "wear",
        "the load that was told writes no more than the drives are rated for",
        "Flash wears with every byte written. A drive that is written more than its rating dies "
        "early, and all pages on it are lost. The fix limits what is written in a day; only "
        "pages that are used again are then worth a write.",
    ),
    "KVT-P019": Told(
        "large pages",
        "a page has 256 tokens at most",
        "Only whole pages are found again: the larger they are, the more of a prompt's end, and "
        "of short prompts everything, is computed anew. Large transfers come from pages in a row, "
        "not from large pages. The fix makes them smaller; pages on disk of another size are not "
        "found again.",
    ),
    "KVT-P022": Told(
        "graphs",
        "`engine.graph_max_batch` is not set",
        "The bundled engine captures no CUDA graphs, so the field does nothing. It is kept for "
        "profiles of other engines. The fix removes it.",
    ),
    "KVT-P023": Told(
        "L1's limit",
        "`tiers.l1.max_tokens` leaves room for two requests",
        "With room for less than two requests of the whole context, a long one makes all others "
        "wait, although memory would do for more. The fix removes the limit.",
    ),
    "KVT-P024": Told(
        "a guess",
        "kvtier knows the model's architecture",
        "The size of a token's KV follows from the kind of attention, which is taken from the "
        "fields of config.json where the architecture is not known. Windows and states that "
        "kvtier does not know make the plan too large. The fix is to compare the layers with the "
        "model's description.",
    ),
    "KVT-P025": Told(
        "far GPUs",
        "GPUs are near the NUMA nodes that the profile keeps to",
        "Every copy to a GPU of the other socket crosses the link between sockets, which is "
        "slower and shared. The fix lifts the limit: L2 then lies beside each rank's GPU.",
    ),
    "KVT-P101": Told(
        "what the engine serves",
        "the bundled engine serves the model's architecture",
        "Any known architecture can be planned for, for other engines too; the bundled one serves "
        "some of them. The fix is another model.",
        forbids_launch=True,
    ),
    "KVT-P102": Told(
        "ranks beside kv heads",
        "there are no more ranks than kv heads",
        "With more ranks than kv heads every head is kept several times, and L1 holds as many "
        "fewer tokens. The bundled engine does not do it. The fix takes fewer ranks.",
        forbids_launch=True,
    ),
    "KVT-P103": Told(
        "several nodes",
        "the profile is for one node",
        "Several nodes can be planned for; the bundled engine runs on one. The fix is "
        "`cluster.nodes: 1`.",
        forbids_launch=True,
    ),
    "KVT-P104": Told(
        "the type of KV",
        "KV is kept in the model's own type",
        "KV of another type than the model's can be planned for; the bundled engine keeps it as "
        "it computes it. The fix is `tiers.kv_dtype: auto`.",
        forbids_launch=True,
    ),
}
MISFITS: Mapping[str, Told] = {
    "KVT-P013": Told(
        "memory of the nodes named",
        "L2 fits into the NUMA nodes of `host.memory_nodes`",
        "`host.memory_nodes` keeps all memory to some nodes, as `numactl --membind` does. An L2 "
        "that is larger than they are would end in the engine being killed with memory free "
        "elsewhere. The fix is a smaller L2, or all nodes.",
        told_by="KVT-D201",
    ),
    "KVT-P201": Told(
        "weights and work",
        "weights and work fit into memory",
        "Without room for the weights and for computing there is nothing to serve. The fix is a "
        "smaller model, or more memory or GPUs.",
        told_by="KVT-D201",
    ),
    "KVT-P202": Told(
        "GPUs for the ranks",
        "there are as many GPUs as ranks",
        "On GPUs each rank takes one of them. The fix is fewer ranks, or `engine.device: cpu`.",
        told_by="KVT-D201",
    ),
    "KVT-P203": Told(
        "L1 and L2 in memory",
        "the tiers fit into memory",
        "A tier that does not fit would push others out, or be refused at the start. The text "
        "names the largest that fits.",
        told_by="KVT-D201",
    ),
    "KVT-P204": Told(
        "L3 on disk",
        "L3 fits into the free space of its directories, beyond the reserve",
        "Space that others fill is not there when pages want it. The text names the largest that "
        "fits.",
        told_by="KVT-D201",
    ),
    "KVT-P205": Told(
        "the context in L1",
        "L1 holds `engine.max_context_tokens`",
        "A context that was asked for must fit into L1, as a request has all its pages there while "
        "it is computed. The fix is a smaller context, or a larger L1.",
        told_by="KVT-D201",
    ),
}
