"""Logs: one line a record on stderr, `time level component: message` or an object of JSON."""

from __future__ import annotations

import json
import logging
import sys

from kvtier_engine.config import LogFormat, LogLevel

DATE = "%Y-%m-%dT%H:%M:%S"
TEXT = "%(asctime)s.%(msecs)03d %(levelname)s {component}: %(message)s"


def set_up_logging(level: LogLevel, component: str, layout: LogFormat = "text") -> None:
    """Configures the root logger of this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(component, layout))
    logging.root.handlers = [handler]
    logging.root.setLevel(level.upper())


def formatter(component: str, layout: LogFormat) -> logging.Formatter:
    if layout == "json":
        return JsonFormatter(component)
    return logging.Formatter(TEXT.format(component=component), datefmt=DATE)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "component", "message"}`, and `traceback` where there is one."""

    def __init__(self, component: str) -> None:
        super().__init__(datefmt=DATE)
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{self.formatTime(record, DATE)}.{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "component": self._component,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
