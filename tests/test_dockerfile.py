"""The Dockerfiles: the steps of the CPU image run in a clean folder, and its commands work there as in a container."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docker_build import ROOT, build, is_ignored, read_instructions
from ssd.__main__ import SCRIPTS

pytestmark = pytest.mark.slow

DOCKERFILE, ASCEND = (ROOT / "Dockerfile").read_text(), (ROOT / "Dockerfile.ascend").read_text()
COMMANDS = re.findall(r"^#\s+(docker .+)$", DOCKERFILE, re.MULTILINE)


@pytest.fixture(scope="module")
def image(tmp_path_factory, shapes_coco):
    """The image, with drawn shapes mounted as /coco and an empty folder as /trained_models."""
    image = build(tmp_path_factory.mktemp("docker"))
    (image.root / "coco").rmdir()
    (image.root / "coco").symlink_to(shapes_coco)
    return image


def test_the_base_image_is_pinned_and_slim(image):
    version = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-\w+", image.base)
    assert version and 10 <= int(version[1]) <= 12  # requires-python
    assert f"python3.{version[1]}/site-packages" in DOCKERFILE


def test_the_user_is_not_root_and_can_write(image):
    assert int(image.user) > 0  # a number, so that platforms can see that it is not root
    # Any user of --user may write to these folders.
    for folder in ("ssd", "ssd/examples/det/ssd", "trained_models", "home/ssd"):
        assert (image.root / folder).stat().st_mode & 0o777 == 0o777, folder
    assert Path(image.variables["HOME"]) == image.root / "home/ssd"


def test_the_image_contains_the_program_and_nothing_else(image):
    names = {path.name for path in image.workdir.iterdir() if not path.is_symlink() and path.suffix != ".egg-info"}
    assert names == {"LICENSE", "README.md", "pyproject.toml", "configs", "examples", "requirements", "tools"}
    for folder in ("examples", "configs", "tools"):
        missing = [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".yaml", ".j2", ".css", ".sh")
            and not (image.workdir / path.relative_to(ROOT)).exists()
        ]
        assert missing == []


def test_a_shell_starts_in_the_root_of_the_project(image):
    result = image.run(image.command, input="pwd; command -v ssd\n")
    assert result.stdout.splitlines() == [str(image.workdir), f"{image.root}/bin/ssd"] and not result.stderr


def test_ssd_has_all_commands(image):
    """`tests/test_installation.py` asks each command for its help."""
    result = image.run(["ssd", "--help"])
    assert result.returncode == 0 and "usage:" in result.stdout, result.stderr
    for command, script in SCRIPTS.items():
        assert f"ssd {command} " in result.stdout and (image.workdir / script).is_file()


def test_readme_s_conversion_reads_coco_and_keeps_the_shards(image):
    (line,) = re.findall(r"^ *(python \S+create_data.py coco --data_path cocodataset .*)$", readme(), re.MULTILINE)
    result = image.run(shlex.split(line))
    assert result.returncode == 0, result.stderr
    info = json.loads((image.root / "trained_models/data/coco/dataset.json").read_text())
    assert info["train"]["images"] == 10
    # The recipe finds the data, which have 6 classes, and checkpoints and reports go to the mounted folder.
    recipe = "examples/det/ssd/ssd_mobilenetv2.yaml"
    code = f"from ssd.config.loading import load_config; print(load_config({recipe!r}).num_classes)"
    assert image.run(["python", "-c", code]).stdout == "7\n"
    assert (image.workdir / "ckpt").resolve() == image.root / "trained_models"
    assert (image.workdir / "output").resolve() == image.root / "trained_models/output"


def test_a_folder_that_is_not_writable_is_reported(image):
    folder = image.root / "trained_models"
    folder.rename(image.root / "other")
    folder.touch()  # a file, because permissions do not stop tests that run as root
    try:
        result = image.run(["echo", "started"])
    finally:
        folder.unlink()
        (image.root / "other").rename(folder)
    assert result.stdout == "started\n" and str(folder) in result.stderr and "--user" in result.stderr


def test_the_commands_of_docker_are_those_of_the_readme():
    assert [shlex.split(command)[1] for command in COMMANDS] == ["build", "run", "run"]
    assert [shlex.split(command)[-1] for command in COMMANDS[:2]] == [".", "ssd"]
    in_readme = re.findall(r"^ *(docker .+)$", readme(), re.MULTILINE)
    assert in_readme == COMMANDS[:2]
    in_page = re.findall(r"^ *(docker .+)$", (ROOT / "examples/det/ssd/docs/install.md").read_text(), re.MULTILINE)
    assert in_page[:3] == COMMANDS


def test_the_service_has_the_port_that_the_image_exposes(image):
    (published,) = re.findall(r"-p 127\.0\.0\.1:(\d+):(\d+) ", COMMANDS[2])
    assert image.ports == [int(published[0])] == [int(published[1])]
    assert f"port {image.ports[0]}" in image.run(["ssd", "serve", "--help"]).stdout


@pytest.mark.parametrize("text", [DOCKERFILE, ASCEND], ids=["CPU", "Ascend"])
def test_packages_of_the_commands_are_installed_and_those_of_the_tests_are_not(text):
    assert re.findall(r" -r (\S+)", text) == ["requirements/serve.txt"]
    names = re.findall(r"^([\w-]+)==", (ROOT / "requirements/serve.txt").read_text(), re.MULTILINE)
    assert {"mindspore", "onnx", "uvicorn"} <= {*names} and not {"pytest", "mypy"} & {*names}


def test_both_files_have_the_same_steps():
    """The image for Ascend cannot be built here. Its steps are those of the tested image, except base and removals."""
    expected, found = read_instructions(DOCKERFILE), read_instructions(ASCEND)
    assert found[0][0] == "ARG" and found[1] == ("FROM", "quay.io/ascend/cann:${CANN}")
    assert re.fullmatch(r"CANN=9\.[01]\.\d-910b-ubuntu22\.04-py3\.1[0-2]", found[0][1])  # MindSpore 2.10 accepts it
    same = [(name, value.partition(" && rm -rf /usr/local/lib")[0]) for name, value in expected[1:]]
    assert [step for step in found[2:] if step[0] != "ARG"] == same


def test_hadolint_has_no_complaints():
    program = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([program, "Dockerfile", "Dockerfile.ascend"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def readme():
    return (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("path", "ignored"),
    [("data/coco/a", True), ("tools/a.py", False), ("tools/x/__pycache__/a.pyc", True), ("tools/a/b", True)],
)
def test_dockerignore_rules(path, ignored):
    """The last matching line counts, and a line for a folder holds for its files."""
    assert is_ignored(Path(path), ["*", "!tools", "**/__pycache__", "tools/a"]) is ignored


def test_instructions_are_read():
    text = "# a\nFROM x\nRUN a \\\n    && b\n  # c\n\nCOPY a b/\n"
    assert read_instructions(text) == [("FROM", "x"), ("RUN", "a && b"), ("COPY", "a b/")]
