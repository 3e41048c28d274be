"""prepare_process: Ctrl-C during the imports of a script, and output that cannot be written."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.startup import is_launched

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    path
    for folder in ("examples/det/ssd", "tools", "tools/ascend_checks", "tools/benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '\nif __name__ == "__main__":\n    main(' in path.read_text(encoding="utf-8")
]
COMMAND = """
from ssd.startup import prepare_process

prepare_process()
import os, sys
from ssd.errors import exit_cleanly

@exit_cleanly{options}
def main():
    for number in range(3):
        print("line", number, flush=True)
        print("warning", number, file=sys.stderr)
    os.write(os.open({path!r}, os.O_CREAT | os.O_WRONLY), b"result")

main()
"""


def run(folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, options="", redirect=""):
    """Run a command that prints 3 lines to each stream and then writes a file. Return exit code, stdout and stderr."""
    result = folder / "result.txt"
    (folder / "command.py").write_text(COMMAND.format(path=str(result), options=options))
    command = ["bash", "-c", f'"$0" "$1" {redirect}', sys.executable, folder / "command.py"]
    done = subprocess.run(command, stdout=stdout, stderr=stderr, text=True, timeout=60)
    assert result.read_text() == "result"
    return done.returncode, done.stdout, done.stderr


def test_lines_arrive(tmp_path):
    assert run(tmp_path) == (0, "line 0\nline 1\nline 2\n", "warning 0\nwarning 1\nwarning 2\n")


def test_names_of_other_people_cannot_control_the_terminal(tmp_path):
    (tmp_path / "command.py").write_text(
        "from ssd.startup import prepare_process\nprepare_process()\nimport sys\n"
        r"for file in (sys.stdout, sys.stderr): print('\x1b[2J\x07\x9b\u202ea\rb\tc\udcffé猫', file=file)"
        "\nprint('\\rbar 1', end='')\nprint('\\rbar 2', end='\\r\\n')"
    )
    done = subprocess.run([sys.executable, tmp_path / "command.py"], capture_output=True, timeout=60)
    line = r"\x1b[2J\x07\x9b\u202ea\rb" + "\t" + r"c\udcff" + "é猫\n"
    assert done.stderr.decode() == line
    assert done.stdout.decode() == line + "\rbar 1\rbar 2\r\n"


def test_progress_bars_may_move_the_cursor(tmp_path):
    """tqdm draws the second of two bars in the line below the first."""
    (tmp_path / "command.py").write_text(
        "from ssd.startup import prepare_process\nprepare_process()\nfrom tqdm import tqdm\n"
        "with tqdm(total=2) as outer, tqdm(total=2) as inner:\n    inner.update()\n    outer.update()"
    )
    done = subprocess.run([sys.executable, tmp_path / "command.py"], capture_output=True, timeout=60)
    assert b"\x1b[A" in done.stderr and b"x1b" not in done.stderr


def test_a_reader_that_goes_away_is_reported_once(tmp_path):
    read, write = os.pipe()
    os.close(read)
    code, _, err = run(tmp_path, stdout=write)
    os.close(write)
    assert code == 0 and err.count("\n") == 4 and err.startswith("stdout: ") and err.count("broken pipe") == 1


@pytest.mark.parametrize("options, expected", [("", 1), ("(prints_results=False)", 0)])
def test_results_lost_on_a_full_disk_are_an_error(options, expected, tmp_path):
    code, _, err = run(tmp_path, options=options, redirect=">/dev/full")
    assert code == expected and err.count("\n") == 4 and err.count("stdout: ") == 1


@pytest.mark.parametrize(
    "redirect, out, err",
    [(">&-", "", 3), ("2>&-", "line 0\nline 1\nline 2\n", 0), (">&- 2>&- <&-", "", 0), ("2>/dev/full", None, 0)],
)
def test_closed_streams_are_no_error(redirect, out, err, tmp_path):
    """A closed stream must not give its number to a file: text for stdout would be written to that file."""
    code, text, warnings = run(tmp_path, redirect=redirect)
    assert (code, warnings.count("\n")) == (0, err) and text == (text if out is None else out)


def test_ctrl_c_during_the_imports_of_a_script(tmp_path):
    (tmp_path / "slow_module.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    (tmp_path / "command.py").write_text(
        "from ssd.startup import prepare_process\nprepare_process()\nimport slow_module"
    )
    done = subprocess.run([sys.executable, tmp_path / "command.py"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_prepare_the_process_before_other_imports(path):
    statements = ast.parse(path.read_text(encoding="utf-8")).body[1:]  # the first one is the docstring
    first = next(node for node in statements if getattr(node, "module", None) != "__future__")
    assert isinstance(first, ast.If) and "prepare_process()" in ast.unparse(first)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_ctrl_c_ends_main_with_its_cleanup(path):
    """Without exit_cleanly, Ctrl-C ends a script at once, and temporary folders are left. Children may end at once."""
    is_child = path.parent.name in ("ascend_checks", "benchmarks")
    assert is_child or "\n@exit_cleanly" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, False),
        ({"RANK_SIZE": "1", "RANK_ID": "0"}, False),
        ({"RANK_SIZE": "", "MS_ROLE": ""}, False),
        ({"RANK_SIZE": "8"}, True),
        ({"MS_ROLE": "MS_WORKER"}, True),
    ],
)
def test_launches_are_recognized(variables, expected, monkeypatch):
    for name in ("MS_ROLE", "RANK_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_launched() is expected


def test_scripts_are_found():
    assert {"train.py", "create_data.py", "anchors.py", "time_step.py"} <= {path.name for path in SCRIPTS}
