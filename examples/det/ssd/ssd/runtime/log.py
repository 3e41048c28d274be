"""Set up the console log of this project: plain lines, and only warnings and errors on ranks above 0."""

from __future__ import annotations

import logging
import os
import sys

PROJECT_LOGGER = __name__.partition(".")[0]  # the package name, parent of the loggers of all modules


class RankFilter(logging.Filter):
    """Drop messages below level WARNING on all ranks except rank 0, so that these messages are printed once."""

    def filter(self, record: logging.LogRecord) -> bool:
        # RANK_ID alone may be left in the shell by another launch.
        is_launched = "MS_ROLE" in os.environ or os.environ.get("RANK_SIZE", "") not in ("", "1")
        is_main = not is_launched or os.environ.get("RANK_ID", "0") in ("", "0")
        return is_main or record.levelno >= logging.WARNING


class _BelowWarning(logging.Filter):
    """Drop messages of level WARNING and above, which another handler prints to stderr."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING


class _CurrentStream(logging.StreamHandler):
    """Handler that looks up the current sys.stdout or sys.stderr for each message.

    name: "stdout" or "stderr"
    The stream may have been replaced since the previous message, for example by a test.
    """

    def __init__(self, name: str):
        super().__init__()
        self.stream_name = name

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = getattr(sys, self.stream_name)
        super().emit(record)


def set_up_logging(verbose: bool = False) -> None:
    """Print the log messages of this project: DEBUG and INFO to stdout, WARNING and above to stderr.

    verbose: True to print debug messages too, and to add time and module to each message
    A second call replaces the settings of the first call.
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
