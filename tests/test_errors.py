"""Commands end without a traceback after Ctrl-C, at whatever moment it comes."""

import subprocess
import sys

CTRL_C = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
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


def test_ctrl_c_cleans_up(tmp_path):
    assert run(tmp_path, work=CTRL_C) == (130, "cleaned up\n", "interrupted\n")


def test_ctrl_c_at_an_import_exits_at_once(tmp_path):
    """MindSpore aborts if an exception ends its import. Here ZeroDivisionError would replace the interruption."""
    assert run(tmp_path, work="import slow_module") == (130, "", "interrupted\n")


def test_a_second_ctrl_c_prints_nothing_more(tmp_path):
    code, _, err = run(tmp_path, work="raise KeyboardInterrupt", free=CTRL_C)
    assert code in (130, -2) and err == "interrupted\n"
