"""Mutation of JSON: replace, copy and remove single values, which random changes of bytes would rarely do."""

from __future__ import annotations

import json
import random
from typing import Any

# Values that readers have to refuse or to survive. Long names cannot be names of files.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e-9, 1e9, 1e308, -1e308, 2**31, 2**53, 2**63, -(2**63), 10**30),
    *(
        float("inf"),
        float("-inf"),
        float("nan"),
        "",
        "0",
        "1",
        " 1 ",
        "-1",
        "1e400",
        "nan",
        "a",
        "a.png",
        "b.png",
        "cat",
    ),
    *(
        ".",
        "..",
        "/",
        "~",
        "a/b",
        "a\0b",
        "a\nb",
        "é",
        "e\u0301",
        "\ud800",
        "\u2028",
        "x" * 300,
        "9" * 5000,
        "2001-01-01",
    ),
    *([], {}, [[]], [0], [1, 2], [0, 0, 1, 1], [0, 0, 0, 0], [1, 2, 3, 4, 5, 6], {"a": 1}, ["a", "b"], [None]),
)


def mutate_json(data: bytes, max_size: int, seed: int) -> bytes | None:
    """Change one to three random values of a JSON document.

    max_size: largest number of bytes of the result
    Returns None if the data are not JSON or nested too deeply, or if the result would be too long.
    """
    start = data.find(b"\n") + 1 if data[:1] not in b"{[" else 0  # some targets have a line or bytes before the JSON
    prefix = data[:start]
    try:
        root = [json.loads(data[start:])]
    except (ValueError, RecursionError):
        return None
    rng = random.Random(seed)
    try:
        for _ in range(rng.randint(1, 3)):
            _change_value(root, rng)
        result = prefix + json.dumps(root[0]).encode()
    except (ValueError, RecursionError):
        return None
    return result if len(result) <= max_size else None


def _change_value(root: list, rng: random.Random) -> None:
    """Change a random value below the root."""
    places = list(_places(root))
    container, key = rng.choice(places)
    other_container, other_key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0 and container is not root:
        del container[key]
    elif action == 1 and isinstance(container, list) and container is not root:
        container.append(json.loads(json.dumps(container[key])))
    elif action == 2:
        container[key] = json.loads(json.dumps(other_container[other_key]))
    elif action == 3 and isinstance(container, dict):
        container[rng.choice([*container, *map(str, VALUES[:40])])] = rng.choice(VALUES)
    elif action == 4 and isinstance(container[key], (int, float)):
        container[key] = rng.choice([str(container[key]), -container[key], container[key] * 1000, [container[key]]])
    else:
        container[key] = rng.choice(VALUES)


def _places(container: list | dict) -> Any:
    """Yield (container, key) of each value below a container."""
    for key in range(len(container)) if isinstance(container, list) else list(container):
        yield container, key
        if isinstance(container[key], (list, dict)):
            yield from _places(container[key])
