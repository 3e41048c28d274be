"""requirements/packages.md lists every package of the lock files with a license that we may combine with ours."""

import re
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml

import license_table
from ssd.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / "requirements"
NOTES = yaml.safe_load((FOLDER / "licenses.yaml").read_text())
LOCK = "absent-package==1.0 ; python_version < '3.11' \\\n    --hash=sha256:0\nabsent-package==2.0\nnumpy==1.26.4\n"


@pytest.fixture
def folder(tmp_path):
    """A folder of lock files with two packages, one of which is not installed, and notes that answer nothing."""
    for file in license_table.FILES:
        (tmp_path / f"{file}.txt").write_text(LOCK if file == "all" else "")
    (tmp_path / "licenses.yaml").write_text(
        "compatible: [BSD]\nlicenses: {absent-*: MIT}\nanswers: {absent-*: unused}\n"
    )
    return tmp_path


def site_packages():
    return [str(distribution("numpy").locate_file(""))]


def test_the_table_has_the_packages_of_the_lock_files():
    """`make licenses` writes it again."""
    table = license_table.read_table(FOLDER / "packages.md")
    packages = license_table.read_versions(FOLDER)
    assert list(table) == list(packages)
    for name, files in packages.items():
        assert {*table[name][0].split(", ")} == {version for versions in files.values() for version in versions}, name


def test_every_license_is_compatible_or_answered():
    for name, (_, license_) in license_table.read_table(FOLDER / "packages.md").items():
        answer = license_table.find_note(NOTES["answers"], name)
        assert answer or license_table.is_compatible(license_, NOTES["compatible"]), (name, license_)


def test_the_licenses_are_those_of_the_installed_packages():
    checked = 0
    for name, (versions, license_) in license_table.read_table(FOLDER / "packages.md").items():
        try:
            stated = license_table.stated_license(distribution(name))
        except PackageNotFoundError:
            continue
        # Older versions, for Python 3.10, may state the license in other words.
        if stated and "," not in versions and not license_table.find_note(NOTES["licenses"], name):
            assert license_ == stated, name
            checked += 1
    assert checked > 50


def test_images_contain_no_package_under_the_gpl():
    """Whoever passes on a Docker image passes on the packages of serve.txt."""
    names = re.findall(r"^([\w.-]+)==", (FOLDER / "serve.txt").read_text(), re.MULTILINE)
    answers = {name: license_table.find_note(NOTES["answers"], name) or "" for name in names}
    # libgfortran has the GCC runtime exception.
    assert [name for name, answer in answers.items() if "GPL" in answer.replace("LGPL", "")] == ["numpy"]
    assert len(names) > 50


def test_table_of_packages_that_are_installed_and_not(folder):
    text = license_table.write_table(folder, site_packages())
    assert "| `absent-package` | 1.0, 2.0 | MIT | all |\n| `numpy` | 1.26.4 | BSD | all |\n" in text
    assert "| `absent-package` | unused |" in text
    # A package that is neither installed nor in the notes keeps its license.
    (folder / "packages.md").write_text(text)
    (folder / "licenses.yaml").write_text("compatible: [BSD, MIT]\nlicenses: {}\nanswers: {}\n")
    assert "| `absent-package` | 1.0, 2.0 | MIT | all |" in license_table.write_table(folder, site_packages())


@pytest.mark.parametrize(
    ("notes", "place"),
    [("compatible: [BSD]\nlicenses: {}\nanswers: {}\n", "absent-package"),
     ("compatible: [BSD]\nlicenses: {absent-*: X-1}\nanswers: {}\n", "X-1")],
)  # fmt: skip
def test_a_package_without_a_compatible_license_is_refused(notes, place, folder):
    (folder / "licenses.yaml").write_text(notes)
    with pytest.raises(UserError, match=place):
        license_table.write_table(folder, site_packages())


def test_the_command_writes_the_table(folder, monkeypatch, capsys):
    monkeypatch.setattr(license_table, "ROOT", folder)
    shutil.copytree(folder, folder / "requirements")
    monkeypatch.setattr("sys.argv", ["license_table.py", *site_packages()])
    license_table.main()
    assert "`absent-package`" in (folder / "requirements" / "packages.md").read_text()
    assert "packages.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("license_", "compatible"),
    [("MIT", True), ("MIT AND BSD", True), ("GPL-3.0-only OR MIT", True), ("MIT AND GPL-3.0-only", False), ("", False)],
)
def test_of_a_choice_one_license_suffices(license_, compatible):
    assert license_table.is_compatible(license_, ["MIT", "BSD"]) is compatible
