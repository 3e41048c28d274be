"""Run the steps of the Dockerfile in a folder, without Docker.

The environment of the tests takes the place of the base image, and a folder that of its file system. Steps that change
the system (apt-get, useradd) and removals are checked, but do not run.
"""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Absolute paths of the image. The tests place them below the folder that takes the place of the file system.
IMAGE_PATH = re.compile(r"(?<![\w./-])/(?=(?:ssd|coco|trained_models|home/ssd)\b)")
SITE_PACKAGES = "/usr/local/lib/python3.11/site-packages/"


def read_instructions(text):
    """Return the instructions of a Dockerfile as (name, value), without comments and line continuations."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def is_ignored(path, patterns):
    """Return whether a .dockerignore file leaves out a path. The last pattern that matches a path or a parent counts.

    path: path relative to the build context
    patterns: lines of the file without comments
    """
    ignored = False
    for pattern in patterns:
        expression = re.escape(pattern.lstrip("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(expression, str(part)) for part in (path, *path.parents[:-1])):
            ignored = not pattern.startswith("!")
    return ignored


def create_context(folder):
    """Copy the repository to a folder, without the files that .dockerignore leaves out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    folder.mkdir()
    for top in ROOT.iterdir():
        if is_ignored(Path(top.name), patterns):  # saves walking data and environments: no pattern goes deeper here
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            relative = path.relative_to(ROOT)
            if path.is_file() and not is_ignored(relative, patterns):
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / relative)
    return folder


@dataclasses.dataclass
class Image:
    """The state of a build, and afterwards the image.

    root: folder that takes the place of /
    base: name of the base image
    workdir: current folder inside of root
    user: user that runs the commands
    variables: environment variables of ENV
    ports: ports of EXPOSE
    entrypoint, command: words of ENTRYPOINT and CMD
    """

    root: Path
    base: str = ""
    workdir: Path = Path("/")
    user: str = "root"
    variables: dict = dataclasses.field(default_factory=dict)
    ports: list = dataclasses.field(default_factory=list)
    entrypoint: list = dataclasses.field(default_factory=list)
    command: list = dataclasses.field(default_factory=list)

    def place(self, text):
        """Replace the absolute paths of the image in a text by those below root."""
        return IMAGE_PATH.sub(f"{self.root}/", text)

    def run(self, words, **options):
        """Run a command in the working folder as `docker run` does, after the entry point."""
        path = f"{self.root}/bin{os.pathsep}{os.environ['PATH']}"
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "XDG_CACHE_HOME")}
        return subprocess.run(
            [*self.entrypoint, *words],
            cwd=self.workdir,
            env={**variables, **self.variables, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )


def create_base(root):
    """Create the environment of the base image: Python, pip and the packages of the tests.

    `pip` leaves out the packages of lock files, because installing them takes minutes.
    """
    venv.create(root, with_pip=False, symlinks=True)
    (site_packages,) = root.glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "dependencies.pth").write_text("\n".join(packages))
    pip = root / "bin/pip"
    install = f'exec {sys.executable} -m pip --python {root}/bin/python "$@"'
    pip.write_text(f'#!/bin/sh\ncase "$*" in *" --require-hashes "*) exit;; esac\n{install}\n')
    pip.chmod(0o755)


def build(folder):
    """Build the image in a folder, and return it. Fails with AssertionError at a step that cannot be right."""
    context, image = create_context(folder / "context"), Image(folder / "image")
    create_base(image.root)
    for name, value in read_instructions((ROOT / "Dockerfile").read_text()):
        if name == "FROM":
            image.base = value
        elif name == "WORKDIR":
            image.workdir = Path(image.place(value))
            image.workdir.mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            image.variables.update(item.split("=", 1) for item in shlex.split(image.place(value)))
        elif name == "USER":
            image.user = value
        elif name == "EXPOSE":
            image.ports += map(int, value.split())
        elif name == "COPY":
            *sources, target = shlex.split(value)
            for source in sources:
                copy(context / source, image, target=target)
        elif name == "RUN":
            run_step(image, value)
        elif name in ("ENTRYPOINT", "CMD"):
            setattr(image, "entrypoint" if name == "ENTRYPOINT" else "command", json.loads(value))
        else:
            raise AssertionError(f"{name}: add this instruction to tests/docker_build.py")
    return image


def copy(source, image, target):
    """Copy a file into a folder of the image, or the content of a folder, as COPY does."""
    assert source.exists(), f"COPY {source.name}: not in the build context"
    assert target.endswith("/") or target == ".", target
    destination = image.workdir / image.place(target)
    if source.is_dir():
        shutil.copytree(source, destination, dirs_exist_ok=True)
    else:
        destination.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)
    for script in destination.rglob("*.sh"):
        script.write_text(image.place(script.read_text()))


def run_step(image, value):
    """Run the commands of one RUN in turn, and check those that would change the system."""
    commands = [command.strip() for command in value.split("&&")]
    for command in commands:
        words = shlex.split(command)
        if words[0] == "apt-get":
            assert words[1] in ("update", "install"), command
            assert words[1] == "update" or {"--yes", "--no-install-recommends"} <= {*words}, command
            assert "rm -rf /var/lib/apt/lists/*" in commands, "the package lists stay in the image"
        elif words[0] == "useradd":
            image.root.joinpath("home", words[-1]).mkdir(parents=True)
        elif words[0] == "rm":
            for path in words[2:]:
                assert path.startswith(("/var/lib/apt/lists/", SITE_PACKAGES)), path
                # The folder of a library must exist in the package, or the path has become wrong.
                if path.startswith(SITE_PACKAGES):
                    assert any(list(Path(root).glob(path.removeprefix(SITE_PACKAGES))) for root in sys.path), path
        else:
            if words[:2] == ["pip", "install"]:
                assert "--no-deps" in words or ("--require-hashes" in words and (image.workdir / words[-1]).is_file())
            result = image.run(["bash", "-ec", image.place(command)])
            assert result.returncode == 0, f"{command}: {result.stderr}"
