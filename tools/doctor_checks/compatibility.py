"""Versions of MindSpore, CANN and driver that work together."""

from __future__ import annotations

import re
from typing import NamedTuple


class Release(NamedTuple):
    """Versions that were published as a set. Driver and firmware packages have the same version."""

    mindspore: str
    cann: str
    driver: str


# Installation pages of MindSpore Transformers 1.2 to 1.9, https://www.mindspore.cn/mindformers/docs/en/master/,
# newest release first. No row is published for MindSpore 2.10.
RELEASES = (
    Release(mindspore="2.9.0", cann="9.0.0", driver="26.0.RC1"),
    Release(mindspore="2.7.2", cann="8.5.0", driver="25.5.0"),
    Release(mindspore="2.7.1", cann="8.3.RC1", driver="25.3.RC1"),
    Release(mindspore="2.7.0", cann="8.2.RC1", driver="25.2.0"),
    Release(mindspore="2.6.0", cann="8.1.RC1", driver="25.0.RC1"),
    Release(mindspore="2.4.10", cann="8.0.0", driver="24.1.0"),
    Release(mindspore="2.3.1", cann="8.0.RC2.beta1", driver="24.1.RC2"),
)
# Versions of CANN that MindSpore accepts without a warning: AscendEnvChecker in the package's
# mindspore/run_check/_check_version.py.
ACCEPTED_CANN = {"2.10": ("8.2", "8.3", "8.5", "9.0", "9.1")}


def major_minor(version: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version, (8, 3) for "8.3.RC1"; None if the text does not start with them."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


def expected_cann(mindspore: str) -> tuple[str, ...]:
    """Return the versions of CANN for a version of MindSpore, as "major.minor"; () if none are known."""
    wanted = major_minor(mindspore)
    for version, accepted in ACCEPTED_CANN.items():
        if major_minor(version) == wanted:
            return accepted
    published = [release.cann for release in RELEASES if release.mindspore == mindspore]
    published = published or [release.cann for release in RELEASES if major_minor(release.mindspore) == wanted]
    return tuple(dict.fromkeys(".".join(version.split(".")[:2]) for version in published))


def expected_driver(cann: str) -> str | None:
    """Return the version of the driver that was published with a version of CANN or with the next lower version.

    Returns None if the version of CANN is lower than all published versions.
    """
    found = major_minor(cann)
    for release in RELEASES:
        published = major_minor(release.cann)
        if found and published and published <= found:
            return release.driver
    return None


def alternatives(names: tuple[str, ...]) -> str:
    """Return names as text, for example "8.5, 9.0 or 9.1"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
