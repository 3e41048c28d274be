"""The lock files in requirements/ pin what pyproject.toml names and everything below it, with hashes."""

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # a dependency of pytest on Python 3.10

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS, GROUPS = PYPROJECT["project"]["optional-dependencies"], PYPROJECT["dependency-groups"]
BASE = PYPROJECT["project"]["dependencies"]
# What `make lock` writes to each file
LOCKED = {
    "all": [*BASE, *(f"ssd-mindcv[{extra}]" for extra in EXTRAS), *GROUPS["build"]],
    "develop": [*BASE, "ssd-mindcv[test]", *GROUPS["build"]],
    "serve": [*BASE, "ssd-mindcv[deploy,serve]", *GROUPS["build"]],
    "audit": GROUPS["audit"],
    "search": GROUPS["search"],
}
PLATFORMS = [
    {"python_version": version, "python_full_version": f"{version}.1", "platform_machine": machine}
    for version in ("3.10", "3.11", "3.12")
    for machine in ("x86_64", "aarch64")
]


def expand(lines):
    """Return requirements as Requirement objects, with the extras of this project replaced by their packages."""
    requirements = []
    for requirement in map(Requirement, lines):
        if requirement.name == "ssd-mindcv":
            requirements += [item for extra in sorted(requirement.extras) for item in expand(EXTRAS[extra])]
        else:
            requirements.append(requirement)
    return requirements


def is_pin(requirement):
    """Return whether a requirement allows one version only."""
    specifiers = [(specifier.operator, specifier.version) for specifier in requirement.specifier]
    return not requirement.url and [op for op, _ in specifiers] == ["=="] and "*" not in specifiers[0][1]


def read_lock(text):
    """Return [(Requirement, number of its hashes), …]. A line that is neither of these nor a comment is refused."""
    entries = []
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), line
            entries.append((Requirement(requirement), len(hashes)))
    return entries


def pins(entries, platform):
    """Return {canonical name: version} on a platform. Two pins of a package there are refused."""
    found = {}
    for requirement, _ in entries:
        if not requirement.marker or requirement.marker.evaluate(platform):
            (version,) = (specifier.version for specifier in requirement.specifier)
            assert found.setdefault(canonicalize_name(requirement.name), version) == version, requirement
    return found


def missing_pins(lines, entries, platform):
    """Return the requirements of pyproject.toml that a lock file lacks or pins otherwise on a platform."""
    locked = pins(entries, platform)
    wanted = [item for item in expand(lines) if not item.marker or item.marker.evaluate(platform)]
    assert wanted
    return [str(item) for item in wanted if not item.specifier.contains(locked.get(canonicalize_name(item.name), "0"))]


def installed_closure(lines):
    """Return the canonical names of all packages that requirements need in this environment, by the metadata of the
    installed packages."""
    seen, todo = set(), [(item, "") for item in expand(lines)]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for extra in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), extra
            if key not in seen:
                seen.add(key)
                todo += [(Requirement(item), extra) for item in importlib.metadata.requires(key[0]) or ()]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def locks():
    return {name: read_lock((ROOT / f"requirements/{name}.txt").read_text()) for name in LOCKED}


def test_pyproject_pins_every_package():
    build = PYPROJECT["build-system"]["requires"]
    lines = [*BASE, *build, *sum(EXTRAS.values(), []), *sum(GROUPS.values(), [])]
    assert [str(item) for item in map(Requirement, lines) if item.name != "ssd-mindcv" and not is_pin(item)] == []
    assert build == GROUPS["build"]  # a user's `pip install -e .` and `make setup` build with the same version


@pytest.mark.parametrize("line", ["a", "a>=1", "a~=1.2", "a==1.*", "a==1,!=1.1", "a @ https://localhost/a.whl"])
def test_other_requirements_are_no_pins(line):
    assert not is_pin(Requirement(line)) and is_pin(Requirement("a==1.2"))


@pytest.mark.parametrize("name", LOCKED)
def test_a_lock_file_matches_pyproject_on_all_platforms(name, locks):
    """`make lock` writes it again."""
    assert [item for platform in PLATFORMS for item in missing_pins(LOCKED[name], locks[name], platform)] == []


@pytest.mark.parametrize("name", LOCKED)
def test_every_pin_has_hashes_and_no_line_names_a_registry(name, locks):
    assert [str(item) for item, hashes in locks[name] if not hashes or not is_pin(item)] == []
    assert "://" not in (ROOT / f"requirements/{name}.txt").read_text()


@pytest.mark.parametrize("name", ["develop", "serve"])
def test_a_lock_file_is_complete_and_has_nothing_else(name, locks):
    locked = pins(locks[name], platform={})
    assert sorted(locked) == sorted(installed_closure(LOCKED[name]))


@pytest.mark.parametrize("name", ["develop", "serve"])
def test_smaller_files_have_the_versions_of_the_largest(name, locks):
    for platform in PLATFORMS:
        assert pins(locks[name], platform).items() <= pins(locks["all"], platform).items()


def test_a_changed_pyproject_and_a_changed_lock_are_noticed(locks):
    platform = PLATFORMS[0]
    assert missing_pins(["numpy==1.26.4", "numpy==1.0", "absent==1"], locks["all"], platform) == [
        "numpy==1.0",
        "absent==1",
    ]
    hashed = f"a==1 ; python_version < '3.11' \\\n    --hash=sha256:{'0' * 64}\n    # via b\n"
    assert missing_pins(["a==1"], read_lock(hashed), platform) == []
    assert missing_pins(["a==1"], read_lock(hashed), PLATFORMS[-1]) == ["a==1"]
    assert [hashes for _, hashes in read_lock("# a\na==1\n")] == [0]
    for text in ("--index-url x\n", hashed + "a==2\n", hashed.replace("sha256", "md5")):
        with pytest.raises((AssertionError, ValueError)):
            pins(read_lock(text), platform)


def test_packages_are_installed_with_hashes_only():
    """Every `pip install` of our files either compares hashes or installs this project alone."""
    files = ["Makefile", "Dockerfile", "Dockerfile.ascend", ".ci/run", ".github/workflows/ci.yml"]
    text = re.sub(r"\\\n", " ", "\n".join((ROOT / file).read_text() for file in files))
    commands = [line for line in re.findall(r".*pip install.*", text) if not line.startswith("#")]
    assert len(commands) >= 6
    for command in commands:
        assert "--require-hashes" in command or ("--no-deps" in command and " -r " not in command), command
