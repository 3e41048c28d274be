"""The forms in .github/ISSUE_TEMPLATE have the keys that GitHub documents; it shows no form with other keys.

https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests
"""

from pathlib import Path

import pytest
import yaml

FORMS = Path(__file__).resolve().parents[2] / ".github" / "ISSUE_TEMPLATE"
NAMES = ["bug_report", "feature_request", "npu_results"]
TEXT = {"label", "description", "placeholder", "value"}
ATTRIBUTES = {
    "markdown": {"value"},
    "input": TEXT,
    "textarea": TEXT | {"render"},
    "dropdown": {"label", "description", "multiple", "options", "default"},
    "checkboxes": {"label", "description", "options"},
}


def read(name):
    return yaml.safe_load((FORMS / f"{name}.yml").read_text(encoding="utf-8"))


def test_all_forms_are_tested():
    assert sorted(path.stem for path in FORMS.iterdir()) == sorted([*NAMES, "config"])


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_forms(name):
    form = read(name)
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "title", "labels"}
    for element in form["body"]:
        kind, attributes = element["type"], element["attributes"]
        assert set(element) <= {"type", "id", "attributes", "validations"}
        assert set(attributes) <= ATTRIBUTES[kind]
        assert attributes["value" if kind == "markdown" else "label"]
        assert set(element.get("validations", {})) <= {"required"}
        if kind == "dropdown":
            options = attributes["options"]
            assert all(isinstance(option, str) for option in options) and len(set(options)) == len(options)
            assert not {option.lower() for option in options} & {"none", "true", "false", "yes", "no"}
    fields = [element for element in form["body"] if element["type"] != "markdown"]
    for values in ([field["id"] for field in fields], [field["attributes"]["label"] for field in fields]):
        assert len(set(values)) == len(values) > 1


def test_a_bug_report_needs_the_command_the_log_and_the_doctor():
    required = {element["id"] for element in read("bug_report")["body"] if "validations" in element}
    assert {"command", "what-happened", "log", "doctor"} == required


def test_links_of_the_chooser():
    config = read("config")
    assert set(config) == {"blank_issues_enabled", "contact_links"}
    for link in config["contact_links"]:
        assert set(link) == {"name", "url", "about"} and link["url"].startswith("https://")
