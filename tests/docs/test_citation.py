"""CITATION.cff and CHANGELOG.md are for the version of the package."""

import re
from pathlib import Path

import yaml

import ssd

ROOT = Path(__file__).resolve().parents[2]


def test_citation():
    """The required keys of CFF 1.2.0, here and in references, and a string as the version."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["message"]
    assert citation["version"] == ssd.__version__ and citation["license"] == "Apache-2.0"
    for work in (citation, *citation["references"]):
        assert work["type"] and work["title"]
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"given-names", "family-names"})
    identifiers = {reference.get("doi") or reference["repository-code"] for reference in citation["references"]}
    assert identifiers == {
        "10.1007/978-3-319-46448-0_2",  # SSD
        "10.1109/ICCV.2017.324",  # focal loss
        "10.1109/CVPR.2017.106",  # feature pyramid networks
        "https://github.com/mindspore-lab/mindcv",
    }


def test_the_first_section_of_the_changelog_is_this_version():
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in sections if name != "Unreleased"][0] == ssd.__version__
