"""Log messages of this project on the console: plain lines, from the main process only."""

from __future__ import annotations

import logging
import os
import sys

PROJECT_LOGGER = __name__.partition(".")[0]  # parent of the loggers of all modules


class RankFilter(logging.Filter):
    """Drop messages below a warning in all processes of a launch but rank 0, so that each is printed once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or int(os.environ.get("RANK_ID") or 0) == 0


class _BelowWarning(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING


class _CurrentStream(logging.StreamHandler):
    """A handler that looks up sys.stdout or sys.stderr at each message, which may have been replaced since."""

    def __init__(self, name: str):
        super().__init__()
        self.stream_name = name

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = getattr(sys, self.stream_name)
        super().emit(record)


def set_up_logging(verbose: bool = False) -> None:
    """Print the messages of this project: information to stdout, warnings and errors to stderr.

    verbose: also print debug messages, with time and module. Calling it again replaces the settings.
    """
    logger = logging.getLogger(PROJECT_LOGGER)
    logger.handlers.clear()
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    form = "%(asctime)s %(name)s: %(message)s" if verbose else "%(message)s"
    for name in ("stdout", "stderr"):
        handler = _CurrentStream(name)
        handler.setFormatter(logging.Formatter(form))
        handler.addFilter(RankFilter())
        if name == "stdout":
            handler.addFilter(_BelowWarning())
        else:
            handler.setLevel(logging.WARNING)
        logger.addHandler(handler)
