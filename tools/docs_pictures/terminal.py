"""Record a command in a pseudo-terminal, and draw the screen as SVG."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

from ssd.errors import UserError

COLUMNS, LINES = 140, 18


def record_command(command: Sequence[str], until: str, timeout_s: float) -> list[str]:
    """Run a command in a pseudo-terminal until a line of its screen matches a pattern, then stop it with Ctrl-C.

    command: program and arguments
    until: regular expression that is searched in each line of the screen
    timeout_s: maximum time between two outputs of the command, in seconds
    Returns the lines of the screen at that moment, without trailing spaces and empty lines at the end.
    Raises UserError if the command ends before its screen matches.
    """
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=variables, start_new_session=True
    )
    os.close(terminal)
    try:
        while select.select([controller], [], [], timeout_s)[0]:
            try:
                stream.feed(os.read(controller, 65536))
            except OSError:  # the command has ended
                break
            lines = [line.rstrip() for line in screen.display]
            if any(re.search(until, line) for line in lines):
                return "\n".join(lines).rstrip().split("\n")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        _read_to_the_end(controller)
        process.wait()
        os.close(controller)
    raise UserError(f"{shlex.join(command)}: ended before its screen matched {until!r}. Run the command to see why.")


def _read_to_the_end(controller: int) -> None:
    """Read and drop what a command prints until it ends, so that it is not blocked by a full terminal."""
    try:
        while os.read(controller, 65536):
            pass
    except OSError:
        pass


def draw_terminal(path: Path, command: str, lines: Sequence[str]) -> None:
    """Draw a terminal window with a command and the lines on its screen.

    path: SVG file to write
    command: command line, shown after the prompt
    lines: lines of the screen; longer lines than COLUMNS are cut
    """
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), color_system="truecolor")
    console.print(Text("$ ", style="bold green") + Text(command, style="bold"), soft_wrap=False)
    for line in lines:
        console.print(_colored(line[:COLUMNS]), overflow="crop", no_wrap=True)
    svg = console.export_svg(title="train.py", unique_id="terminal")
    # Use fonts of the reader's machine: a page on GitHub must not load fonts from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: ?Fira Code", "font-family: Consolas, Menlo, DejaVu Sans Mono", svg)
    path.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")


def _colored(line: str) -> Text:
    """Return a line with highlighted progress bar, losses and mAP."""
    text = Text(line)
    text.highlight_regex(r"mAP \d\.\d+", "bold green")
    text.highlight_regex(r"loss \d+\.\d+", "bold cyan")
    text.highlight_regex(r"^\s*\d+%\|[^|]*\|", "magenta")
    return text
