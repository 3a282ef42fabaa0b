"""Logs: one line a record on stderr, `time level component: message`."""

from __future__ import annotations

import logging
import sys

from kvtier_engine.config import LogLevel


def set_up_logging(level: LogLevel, component: str) -> None:
    """Configures the root logger of this process."""
    handler = logging.StreamHandler(sys.stderr)
    layout = f"%(asctime)s.%(msecs)03d %(levelname)s {component}: %(message)s"
    handler.setFormatter(logging.Formatter(layout, datefmt="%Y-%m-%dT%H:%M:%S"))
    logging.root.handlers = [handler]
    logging.root.setLevel(level.upper())
