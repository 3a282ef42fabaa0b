"""Lines of the engine's log, in both layouts, as the launcher reads them."""

from __future__ import annotations

import json
import logging
import sys

from kvtier_engine.log import formatter
from kvtier_ops.launch.engine_log import parse

LAYOUTS = ("text", "json")


def record(*, failed: bool) -> logging.LogRecord:
    error = None
    if failed:
        try:
            raise ValueError("odd\nvalue")
        except ValueError:
            error = sys.exc_info()
    return logging.LogRecord("x", logging.WARNING, "f.py", 1, '%d of "%s"', (3, "é"), error)


def test_both_layouts_say_the_same():
    same = record(failed=False)  # two would be made at two times
    text, line = (formatter("core", layout).format(same) for layout in LAYOUTS)
    assert parse(text) == parse(line) == ("WARNING", "core", '3 of "é"')
    assert json.loads(line)["time"] == text.split(" ")[0]


def test_a_traceback_stays_in_its_line():
    line = formatter("rank-1", "json").format(record(failed=True))
    assert "\n" not in line
    assert "ValueError: odd\nvalue" in json.loads(line)["traceback"]
