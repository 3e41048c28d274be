"""`pip install -e .` in a new environment gives the command `ssd`, and tools find the package without help."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import ssd
from ssd.__main__ import SCRIPTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The folder of commands of a new environment in which the project is installed.

    The packages it depends on are those of the environment that runs the tests, because installing them takes minutes.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]  # the environment needs no pip of its own
    install = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-e", ROOT]
    subprocess.run(install, check=True, timeout=300)
    site_packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    Path(site_packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def run(environment, *arguments, cwd):
    """Run a command of the environment, without variables that could help it find the package."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment / arguments[0]), *map(str, arguments[1:])]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=120)


def test_help_shows_each_command_with_an_example(environment, tmp_path):
    result = run(environment, "ssd", cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr
    for command in ("create-data", "anchors", "train", "eval", "predict"):
        assert f"ssd {command} " in result.stdout
    assert run(environment, "ssd", "--help", cwd=tmp_path).stdout == result.stdout
    assert ssd.__version__ in run(environment, "ssd", "--version", cwd=tmp_path).stdout


def test_a_misspelt_command_names_its_neighbor(environment, tmp_path):
    result = run(environment, "ssd", "trian", cwd=tmp_path)
    assert result.returncode != 0 and "'trian'" in result.stderr and "ssd train" in result.stderr


@pytest.mark.parametrize("command", SCRIPTS)
def test_each_command_has_help(command, environment, tmp_path):
    result = run(environment, "ssd", command, "--help", cwd=tmp_path)
    assert result.returncode == 0 and "usage:" in result.stdout


def test_commands_and_tools_work_from_any_folder(environment, tmp_path):
    shapes = [ROOT / "tools" / "make_shapes.py", "coco", "--train", "6", "--val", "2", "--size", "64"]
    assert run(environment, "python", *shapes, cwd=tmp_path).returncode == 0
    result = run(environment, "ssd", "create-data", "coco", "--data_path", "coco", "--out_path", "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["train"]["images"] == 6
    # The exit code and the message of the script are those of the command.
    result = run(environment, "ssd", "train", "--config", "absent.yaml", cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith("error: absent.yaml")


def test_a_wheel_has_the_templates_and_the_page(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", ROOT]
    subprocess.run([*build, "--wheel-dir", tmp_path], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("page.css", "page.html.j2", "page.py"):
        assert f"ssd/evaluation/report/{name}" in names
    for name in ("index.html", "style.css", "page.js", "drawing.js"):
        assert f"ssd/deployment/server/page/{name}" in names
    assert not [name for name in names if name.startswith(("tests/", "train"))]
