"""A message is one line. Commands exit without a traceback after a stop signal, at whatever moment it comes."""

import subprocess
import sys

import pytest

from ssd.errors import UserError

KILL = "import os, signal; os.kill(os.getpid(), signal.{})"
CTRL_C = KILL.format("SIGINT")
SLOW_MODULE = f"""
try:
    {CTRL_C}
finally:
    1 / 0
"""
COMMAND = """
import sys
from ssd.errors import exit_cleanly

class Network:
    def __del__(self):
        {free}

@exit_cleanly
def main():
    network = Network()
    try:
        {work}
    finally:
        print("cleaned up", flush=True)

main()
"""


def run(folder, work, free="pass"):
    (folder / "slow_module.py").write_text(SLOW_MODULE)
    (folder / "command.py").write_text(COMMAND.format(work=work, free=free))
    result = subprocess.run([sys.executable, folder / "command.py"], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[2J\0\x85", "\\x1b[2J\\x00\\x85"),  # would clear the terminal
        ("\u2028\u202e", "\\u2028\\u202e"),  # a line separator, and a mark that reverses the text
        ("\ud800\udcff", "\\ud800\\udcff"),  # halves of characters, also of file names that are not UTF-8
        ("Käfer 猫　😀\xa0", "Käfer 猫　😀\xa0"),
    ],
)
def test_a_message_is_one_line_of_characters(text, escaped):
    assert str(UserError(f"{text}: not found.")) == f"{escaped}: not found."


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stop_signal_cleans_up(name, tmp_path):
    assert run(tmp_path, work=KILL.format(name)) == (130, "cleaned up\n", "interrupted\n")


def test_ctrl_c_within_mindspore_exits_at_once(tmp_path):
    """While MindSpore compiles a graph, a KeyboardInterrupt makes it print up to hundreds of lines."""
    work = f"print('result'); exec({CTRL_C!r}, {{'__name__': 'mindspore.common.api'}})"
    assert run(tmp_path, work=work) == (130, "result\n", "interrupted\n")


def test_ctrl_c_while_an_object_is_freed_is_not_swallowed(tmp_path):
    work = f"network.free = weakref.finalize(network, exec, {CTRL_C!r}); network = None"
    assert run(tmp_path, work=f"import weakref; {work}") == (130, "", "interrupted\n")


def test_ctrl_c_at_an_import_exits_at_once(tmp_path):
    """MindSpore aborts if an exception ends its import. Here ZeroDivisionError would replace the interruption."""
    assert run(tmp_path, work="import slow_module") == (130, "", "interrupted\n")


def test_a_second_ctrl_c_prints_nothing_more(tmp_path):
    code, _, err = run(tmp_path, work="raise KeyboardInterrupt", free=CTRL_C)
    assert code in (130, -2) and err == "interrupted\n"


def test_two_signals_at_once_print_no_traceback(tmp_path):
    """The handler of SIGHUP runs first, and restores the default action of SIGTERM, which has arrived already."""
    lines = (
        "import os, signal",
        "from ssd.runtime.interrupt import Interrupt",
        "both = {signal.SIGHUP, signal.SIGTERM}",
        "interrupt = Interrupt(announce=False).__enter__()",
        "signal.pthread_sigmask(signal.SIG_BLOCK, both)",
        "[os.kill(os.getpid(), number) for number in both]",
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, both)",
        "assert interrupt",
    )
    assert run(tmp_path, work="; ".join(lines)) == (0, "cleaned up\n", "")


@pytest.mark.parametrize(
    "error, part",
    [
        ("MemoryError", "MemoryError"),
        ("ImportError('libicui18n.so.74: failed to map segment from shared object')", "failed to map segment"),
        ("RuntimeError('std::bad_alloc')", "bad_alloc"),
        ("RuntimeError('Resource temporarily unavailable')", "ulimit -u"),
        ("OSError(12, 'Cannot allocate memory')", "Cannot allocate memory"),
    ],
)
def test_a_lack_of_memory_is_one_line(error, part, tmp_path):
    code, out, err = run(tmp_path, work=f"raise {error}")
    assert (code, out) == (2, "cleaned up\n") and err.count("\n") == 1
    assert err.startswith("error: memory: ") and part in err


def test_a_limited_address_space_is_named(tmp_path):
    work = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9,) * 2); bytearray(4 * 10**9)"
    code, _, err = run(tmp_path, work=work)
    assert code == 2 and "3.0 GB" in err and "ulimit -v" in err and err.count("\n") == 1


def test_other_errors_keep_their_traceback(tmp_path):
    code, _, err = run(tmp_path, work="raise RuntimeError('a bug')")
    assert code == 1 and err.startswith("Traceback")
