"""Read JSON files that others may have written: their nesting is limited, and their memory by that of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .host_memory import require_memory

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that may stand for half of a character
# Bytes that CPython takes for what starts or follows at each of these characters. A text has two quotation marks.
_VALUE_BYTES = {b"{": 184, b"[": 72, b",": 36, b":": 24, b'"': 28}


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32.

    Raises OSError if the file cannot be read, ValueError if it is not valid, or UserError if it needs more memory than
    this machine has.
    """
    require_memory(path, path.stat().st_size)
    encoded = path.read_bytes()
    require_memory(path, _needed_memory(encoded))
    return parse_json(encoded)


def parse_json(encoded: bytes | str) -> Any:
    r"""Parse JSON.

    Raises ValueError if it is not valid, is nested too deeply, or contains half of a character, such as "\ud800", which
    no file can contain.
    """
    text = encoded if isinstance(encoded, str) else encoded.decode(json.detect_encoding(encoded))
    try:
        value = json.loads(text)
        if _HALF_CHARACTER.search(text):  # rare, and also in valid pairs
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("the values are nested too deeply") from None
    except UnicodeEncodeError as error:
        place = error.object[max(error.start - 30, 0) : error.start + 1]
        raise ValueError(f"a text contains half of a character (a surrogate) at the end of {place!r}") from None
    return value


def _needed_memory(encoded: bytes) -> int:
    """Estimate the memory in bytes that parsing takes, up to three times too high for annotations, ten for others."""
    values = sum(num_bytes * encoded.count(mark) for mark, num_bytes in _VALUE_BYTES.items())
    return 1024 + values + len(encoded) * (2 if encoded.isascii() else 5)  # the text, and the strings in it
