"""The class names of a YOLO set: where they are looked for, and which are refused."""

from __future__ import annotations

from pathlib import Path

import yaml

from ...errors import UserError
from .annotations import read_lines

TABLES = (".yaml", ".yml")
LISTS = ("classes.txt", "obj.names", "labels/classes.txt")


def find_names(folder: Path) -> Path:
    """data.yaml or another table with `names`, else a list of names. Raises UserError."""
    usual = [folder / "data.yaml", folder / "data.yml"]
    others = [path for suffix in TABLES for path in sorted(folder.glob(f"*{suffix}")) if path not in usual]
    unreadable = None
    for path in [*usual, *others]:
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            if "names" in _load_table(path):
                return path
        except UserError as error:  # another program's table may be none of YAML's
            if path in usual:
                raise
            unreadable = unreadable or error
    for path in [folder / name for name in LISTS] + sorted(folder.glob("*.names")):
        if path.is_file():
            return path
    raise unreadable or UserError(
        f"{folder}: got no data.yaml with `names` and no classes.txt, expected the class names, one a line; "
        "give --names FILE"
    )


def read_names(path: Path) -> dict:
    """What data.yaml says, or of a list of names the same: `names` is a list of text. Raises UserError."""
    if path.suffix.lower() in TABLES:
        settings = _load_table(path)
        names = settings.get("names")
        if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
            names = [names[index] for index in range(len(names))]
    elif path.is_file():
        settings, names = {}, _read_list(path)
    else:
        raise UserError(f"{path}: got no such file, expected the class names; check --names")
    if not isinstance(names, list) or not names or len({str(name) for name in names}) < len(names):
        raise UserError(
            f"{path}: got names {names}, expected a list of class names, each once, numbered from 0; mend the file"
        )
    for number, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, (str, int, float)) or name == "":
            raise UserError(
                f"{path}: got {name!r} as the name of class {number}, expected text; put the name in quotes, because "
                "YAML takes yes, no, null and dates for something else"
            )
    return {**settings, "names": [str(name) for name in names]}


def _read_list(path: Path) -> list[str]:
    """A name a line. An empty line among them would shift the numbers of all that follow, so it is refused."""
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise UserError(
            f"{path}: line {lines.index('') + 1}: got an empty line, expected a class name, because classes are "
            "numbered by lines; remove the line or name the class"
        )
    return lines


def _load_table(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: got {str(error).splitlines()[0]}, expected YAML; mend the file") from None
    return values if isinstance(values, dict) else {}
