"""One store of the comparison, started by benchmarks/store.py: `peer.py MODULE SETTING`."""

from __future__ import annotations

import json
import sys

from pagestore.peers.runner import serve

if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
