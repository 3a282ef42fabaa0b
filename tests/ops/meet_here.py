"""`python meet_here.py PROFILE [FIELD=VALUE ...]`: what launch does to meet, in a process."""

from __future__ import annotations

import sys
from pathlib import Path

from kvtier_ops.cluster.meet import meet_all
from kvtier_ops.errors import KvtierError
from kvtier_ops.profile.load import load_profile


def main(profile: str, *overrides: str) -> int:
    file = load_profile(Path(profile), overrides)
    try:
        meeting = meet_all(
            file,
            Path(file.profile.model.path),
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    except KvtierError as error:
        error.locate(file.place_of)
        print(error.render(), file=sys.stderr)
        return error.exit_code
    print(meeting.describe())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
