"""The same changes as a shell script, to be read before it is run. It keeps no journal: `undo`
as its argument puts back what it says that it found."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence

from kvtier_ops.text import printable
from kvtier_ops.tune.change import Change, Kind

_FUNCTIONS = """\
now() { # FILE -> its value: the chosen word, or the number
  sed -e 's/.*\\[\\(.*\\)\\].*/\\1/' "$1"
}

added="" # FILE=PAGES of this run, the latest first

add() { # FILE PAGES: so many more, or fewer; if the kernel finds less than that, no file has more
  before=$(now "$1")
  wanted=$((before + $2))
  if [ "$wanted" -lt 0 ]; then wanted=0; fi
  echo "$wanted" >"$1" || true
  if [ "$(now "$1")" -lt "$wanted" ]; then
    echo "$1: only $(now "$1") of $wanted, put back; memory may be in pieces:" >&2
    echo "echo 1 >/proc/sys/vm/compact_memory, and again" >&2
    echo "$before" >"$1" || true
    for each in $added; do add "${each%=*}" "-${each##*=}"; done
    rm -f "$mark"
    exit 1
  fi
  echo "$1: $wanted"
  if [ "$2" -gt 0 ]; then added="$1=$2 $added"; fi
}

put() { # FILE OLD NEW: unless it is neither, which somebody else has set
  case $(now "$1") in
  "$3") echo "$1: is $3 already" ;;
  "$2") echo "$3" >"$1" && echo "$1: $2 -> $3" ;;
  *) echo "$1: is $(now "$1"), not $2: left as it is" >&2 ;;
  esac
}
"""


def render_script(changes: Sequence[Change], made_by: str, marks: str = "/run") -> str:
    """For a POSIX shell. `made_by`: the command line and the version, for its first lines.
    `marks`: a folder that a reboot empties, as it gives hugepages back."""
    counts = [change for change in changes if change.setting.kind is Kind.COUNT]
    others = [change for change in changes if change.setting.kind is not Kind.COUNT]
    return "\n".join(
        [
            "#!/bin/sh",
            f"# {printable(made_by)}",
            "# As root: `sh FILE` makes the changes, `sh FILE undo` puts them back. What is done",
            "# already is not done a second time.",
            "set -eu",
            "",
            _FUNCTIONS,
            f"mark={_mark(counts, marks)} # while the hugepages are there",
            "",
            "apply() {",
            *(_apply_counts(counts) + _lines(others) or ["  :"]),
            "}",
            "",
            "undo() {",
            *(_lines(others[::-1], undo=True) + _undo_counts(counts[::-1]) or ["  :"]),
            "}",
            "",
            'case "${1:-apply}" in',
            "apply) apply ;;",
            "undo) undo ;;",
            '*) echo "usage: $0 [undo]" >&2 && exit 2 ;;',
            "esac",
            "",
        ]
    )


def _mark(counts: Sequence[Change], folder: str) -> str:
    """Another file for other changes. How many pages there are does not tell who has added them."""
    text = "\n".join(f"{each.path} {each.old} {each.new}" for each in counts)
    name = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return shlex.quote(f"{folder}/kvtier-tune-script-{name}")


def _apply_counts(counts: Sequence[Change]) -> list[str]:
    if not counts:
        return []
    return [
        '  if [ -e "$mark" ]; then',
        '    echo "the hugepages are added already (or remove $mark)"',
        "  else",
        "    trap '' INT TERM HUP # what is begun is done, or put back",
        '    : >"$mark"',
        *(f"  {line}" for line in _lines(counts)),
        "    trap - INT TERM HUP",
        "  fi",
    ]


def _undo_counts(counts: Sequence[Change]) -> list[str]:
    if not counts:
        return []
    return [
        '  if [ -e "$mark" ]; then',
        *(f"  {line}" for line in _lines(counts, undo=True)),
        '    rm "$mark"',
        "  else",
        '    echo "no hugepages are added (there is no $mark)"',
        "  fi",
    ]


def _lines(changes: Sequence[Change], *, undo: bool = False) -> list[str]:
    lines = []
    for change in changes:
        if not undo:
            lines.append(
                f"  # {change.mends}: {printable(change.why)} ({change.old} -> {change.new})"
            )
        lines.append(f"  {_call(change, undo)}")
    return lines


def _call(change: Change, undo: bool) -> str:
    path = shlex.quote(change.path)
    if change.setting.kind is Kind.COUNT:
        return f"add {path} {-change.added if undo else change.added}"
    old, new = (change.new, change.old) if undo else (change.old, change.new)
    return f"put {path} {shlex.quote(old)} {shlex.quote(new)}"
