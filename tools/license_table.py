"""Write requirements/packages.md: the license of every package of the lock files, and who needs the package.

    python tools/license_table.py FOLDER…

FOLDER: site-packages of environments that have the packages. Licenses come from the metadata of the packages there, and
from requirements/licenses.yaml. A package that is in neither keeps its license of the table. `make licenses` runs this.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import fnmatch
import re
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

import yaml

from ssd.errors import UserError, exit_cleanly

ROOT = Path(__file__).resolve().parents[1]
FILES = ("serve", "develop", "all", "audit", "search")  # the order of the column `files`
# Trove classifiers that older packages have instead of an SPDX expression
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
HEAD = """# Packages and their licenses

`make licenses` writes this page from the metadata of the packages and from `licenses.yaml`. The column `files` names
the lock files that contain a package: `serve` is installed in the Docker images and `develop` by `make setup`. `all`
also has the extras `heif` and `torch`, `audit` has the tools of `make audit`, and `search` those of `make fuzz` and
`make mutation`. The license of this project is Apache-2.0. It contains no code of these packages.

"""


def read_versions(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Read the lock files. Returns {package: {lock file without its suffix: versions}}. folder: requirements/"""
    packages: dict[str, dict[str, list[str]]] = {}
    for file in FILES:
        text = (folder / f"{file}.txt").read_text(encoding="utf-8")
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
            versions = packages.setdefault(name, {}).setdefault(file, [])
            if version not in versions:
                versions.append(version)
    return dict(sorted(packages.items()))


def stated_license(distribution: Distribution) -> str | None:
    """Return the license that the metadata of a package state, or None if they state none that is known."""
    metadata = distribution.metadata
    if metadata["License-Expression"]:
        return metadata["License-Expression"]
    lines = [value.rpartition(" :: ")[2] for value in metadata.get_all("Classifier", []) if value.startswith("License")]
    found = [CLASSIFIERS[line] for line in lines if line in CLASSIFIERS]
    if found:
        return " AND ".join(dict.fromkeys(found))
    text = (metadata["License"] or "").strip()
    return text if re.fullmatch(r"[\w.+-]{2,20}", text) else None


def read_table(path: Path) -> dict[str, tuple[str, str]]:
    """Return {package: (versions, license)} of packages.md, or {} if there is none."""
    if not path.is_file():
        return {}
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (versions.strip(), license_.strip()) for name, versions, license_ in rows}


def find_note(notes: dict[str, str], name: str) -> str | None:
    """Return the value of the first key that matches a package; `*` in a key stands for any letters."""
    return next((value for key, value in notes.items() if fnmatch.fnmatch(name, key)), None)


def is_compatible(license_: str, compatible: Sequence[str]) -> bool:
    """Return whether an SPDX expression needs no answer. Of a choice (OR), one license suffices.

    license_: SPDX expression; one with parentheses is never compatible, and needs an answer
    """
    return any(
        all(part.strip() in compatible for part in re.split(r" AND ", choice)) for choice in license_.split(" OR ")
    )


def write_table(folder: Path, site_packages: Sequence[str]) -> str:
    """Return the text of packages.md.

    folder: requirements/
    site_packages: folders with installed packages
    Raises UserError if a package has no license, or a license that is neither compatible nor answered.
    """
    notes = yaml.safe_load((folder / "licenses.yaml").read_text(encoding="utf-8"))
    installed = {
        re.sub(r"[-_.]+", "-", item.name).lower(): stated_license(item) for item in distributions(path=[*site_packages])
    }
    known = read_table(folder / "packages.md")
    rows, answers = [], []
    for name, files in read_versions(folder).items():
        license_ = find_note(notes["licenses"], name) or installed.get(name) or known.get(name, ("", None))[1]
        if not license_:
            raise UserError(f"{name}: no license in its metadata. Add it to `licenses` in requirements/licenses.yaml.")
        answer = find_note(notes["answers"], name)
        if answer is None and not is_compatible(license_, notes["compatible"]):
            raise UserError(
                f"{name}: the license {license_} is not listed as compatible. Remove the package, or write to "
                "`answers` in requirements/licenses.yaml why it may be used."
            )
        versions = ", ".join(dict.fromkeys(version for file in FILES for version in files.get(file, ())))
        rows.append(f"| `{name}` | {versions} | {license_} | {', '.join(files)} |\n")
        if answer is not None:
            answers.append(f"| `{name}` | {answer} |\n")
    table = "| package | versions | license | files |\n|---|---|---|---|\n" + "".join(rows)
    return f"{HEAD}{table}\n## Answers\n\n| package | why it may be used |\n|---|---|\n{''.join(answers)}"


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site_packages", nargs="+", metavar="FOLDER", help="site-packages folder of an environment")
    arguments = parser.parse_args()
    folder = ROOT / "requirements"
    text = write_table(folder, arguments.site_packages)
    (folder / "packages.md").write_text(text, encoding="utf-8")
    print(f"wrote {folder / 'packages.md'}")


if __name__ == "__main__":
    main()
