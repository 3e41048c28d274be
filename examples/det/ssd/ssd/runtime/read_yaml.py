"""Read YAML files that others may have written: their size, nesting and aliases are limited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**21  # the names of 20,000 classes take a third of it
# Values of a file, with those that aliases repeat. Ten lines of aliases of aliases can stand for a billion values: they
# take no memory until a program copies or prints them.
MAX_VALUES = 100_000
MAX_DEPTH = 50  # PyYAML takes minutes for a thousand brackets


def read_yaml(path: Path, encoding: str = "utf-8") -> Any:
    """Read a YAML file as yaml.safe_load does.

    Raises OSError or UnicodeDecodeError if the file cannot be read, or yaml.YAMLError if it is not valid or too large.
    """
    with open(path, "rb") as file:
        encoded = file.read(MAX_BYTES + 1)
    if len(encoded) > MAX_BYTES:
        raise yaml.YAMLError(f"the file has more than {MAX_BYTES:,} bytes")
    return parse_yaml(encoded.decode(encoding))


class _LimitedLoader(yaml.SafeLoader):
    """Loader that stops at the first value that is too deep or too much."""

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = self.num_values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.num_values += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"values are nested more than {MAX_DEPTH} levels deep")
        _check_number(self.num_values)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(text: str) -> Any:
    """Parse YAML as yaml.safe_load does.

    Raises yaml.YAMLError if the text is not valid, has too many values, is nested too deeply, or contains half of a
    character.
    """
    loader = _LimitedLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_number(_count_values(node, {}))
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("the values are nested too deeply") from None
    except UnicodeEncodeError:
        raise yaml.YAMLError("a text contains half of a character (a surrogate)") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML converts values without a check: `!!int x`, `!!bool x`, `!!float ""` and 2026-99-99 raise other errors.
        raise yaml.YAMLError(f"a value cannot be read: {error or type(error).__name__}") from None
    finally:
        loader.dispose()


def _check_number(num_values: int) -> None:
    if num_values > MAX_VALUES:
        raise yaml.YAMLError(f"there are more than {MAX_VALUES:,} values, with those that aliases repeat")


def _count_values(node: yaml.Node, counts: dict[yaml.Node, int | None]) -> int:
    r"""Return the number of values in a node. A node that aliases repeat is counted each time.

    counts: {node: its number, or None while it is counted}
    Raises yaml.YAMLError if a node contains itself, or UnicodeEncodeError if it contains half of a character, such as
    "\ud800", which no file can contain.
    """
    if node not in counts:
        counts[node] = None
        children = []
        if isinstance(node, yaml.ScalarNode):
            node.value.encode()
        else:
            children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        counts[node] = 1 + sum(_count_values(child, counts) for child in children)
    count = counts[node]
    if count is None:
        raise yaml.YAMLError("a value contains itself")
    return count
