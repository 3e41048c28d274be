"""JSON and YAML that others have written: every fault of a text is one kind of error."""

import pytest
import yaml

from ssd.runtime.read_json import parse_json
from ssd.runtime.read_yaml import parse_yaml

DEEP = 20_000  # levels; Python's parsers give up after some thousands


def test_values_are_parsed():
    assert parse_json('{"a": [1, 2.5, null, "\\ud83d\\ude00"]}') == {"a": [1, 2.5, None, "😀"]}
    assert parse_json(b'\xef\xbb\xbf"a"') == parse_json('"a"'.encode("utf-16")) == "a"
    assert parse_yaml("a: [1, 2.5, null, '\\ud800', \"\\U0001F600\"]") == {"a": [1, 2.5, None, "\\ud800", "😀"]}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", "NaN2", "[" * DEEP, '{"a":' * DEEP, '"\\ud800"', '["\\uDFFF"]', '{"\\ud800": 1}', "9" * 5000],
)
def test_invalid_json(text):
    for content in (text, text.encode()):
        with pytest.raises(ValueError) as error:
            parse_json(content)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"\xff", b'"\xed\xa0\x80"', b'"\xe9"', b"\xff\xfe\x00"])
def test_bytes_that_are_no_text(content):
    with pytest.raises(ValueError):
        parse_json(content)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[",
            "a: b: c",
            "- " * DEEP,
            "{a: " * DEEP,
            "&a [*a]",
            "\0",
            "&a [*b]",
            "!!python/object:os.system {}",
            "[" * DEEP,
            '"\\ud800"',
            "? [1]\n: 1",
        ),
        # PyYAML raises ValueError, KeyError, AttributeError and IndexError for these values.
        *("2026-99-99", "!!int x", "!!float x", "0x_", "!!bool x", "!!timestamp x", "!!int ''", "!!float ''"),
        "2026-01-01T99:99:99",
    ],
)
def test_invalid_yaml(text):
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
