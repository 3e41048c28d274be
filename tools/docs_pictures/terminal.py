"""Record a command in a pseudo-terminal, and draw the screen as SVG."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.text import Text

from ssd.errors import UserError

COLUMNS, LINES = 140, 18


def record_command(command: Sequence[str], until: str, timeout_s: float) -> list[str]:
    """Run a command in a pseudo-terminal until a line of its screen matches a pattern, then stop it with Ctrl-C.

    A command that has not ended timeout_s seconds after the Ctrl-C is killed.

    command: program and arguments
    until: regular expression that is searched in each line of the screen
    timeout_s: maximum time between two outputs of the command, in seconds
    Returns the lines of the screen at that moment, without trailing spaces and empty lines at the end.
    Raises UserError if the command ends or is silent for too long before its screen matches.
    """
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    # These variables would take precedence over the size of the terminal.
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = pexpect.spawn(
        command[0], args=list(command[1:]), dimensions=(LINES, COLUMNS), env=variables, timeout=timeout_s
    )
    try:
        while True:
            stream.feed(process.read_nonblocking(65536, timeout=timeout_s))
            lines = [line.rstrip() for line in screen.display]
            if any(re.search(until, line) for line in lines):
                process.sendintr()
                # A Ctrl-C that comes just before a program begins a long wait is seen after that wait only.
                process.expect([pexpect.EOF, pexpect.TIMEOUT])
                return "\n".join(lines).rstrip().split("\n")
    except (pexpect.EOF, pexpect.TIMEOUT):
        raise UserError(
            f"{shlex.join(command)}: did not show {until!r} on its screen. Run the command to see why."
        ) from None
    finally:
        process.close(force=True)


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
