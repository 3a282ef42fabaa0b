"""What a launch prints when it serves: address, a request to try, log, and how to stop it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from kvtier_ops.instances import State
from kvtier_ops.paths import abbreviate
from kvtier_ops.plan import Plan


def announcement(plan: Plan, url: str, state: State) -> str:
    question = {
        "model": plan.served_name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
    }
    stop = f"`kvtier stop {state.name}`"
    return (
        f"serving {plan.served_name} at {url}/v1\n\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        f"{_key_header(plan)}"
        f"    -d {shlex.quote(json.dumps(question))}\n\n"
        f"  log:  {abbreviate(Path(state.log))}\n"
        f"  stop: {stop}" + ("" if state.detached else f", Ctrl-C, or `kill {state.pid}`")
    )


def _key_header(plan: Plan) -> str:
    """The line of a curl command that sends a key, without the key; empty if none is needed."""
    keys = plan.profile.server.api_keys
    if not keys:
        return ""
    shell = f"${{{keys[0].env}}}" if keys[0].env else f"$(cat {shlex.quote(keys[0].file)})"
    return f'    -H "Authorization: Bearer {shell}" \\\n'
