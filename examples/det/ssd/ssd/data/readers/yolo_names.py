"""Read the class names of YOLO folders: data.yaml, or a text file with one name per line."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from ...errors import UserError
from ...runtime.read_yaml import read_yaml
from .annotations import read_text_lines
from .yolo_label_rows import YAML_SUFFIXES

NAME_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")


def find_class_names_file(folder: Path) -> Path:
    """Find data.yaml, another YAML file or a text file with class names. Raises UserError if no such file exists."""
    usual = [folder / "data.yaml", folder / "data.yml"]
    others = [path for suffix in YAML_SUFFIXES for path in sorted(folder.glob(f"*{suffix}")) if path not in usual]
    unreadable = None
    for path in [*usual, *others]:
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            if "names" in _load_yaml(path):
                return path
        except UserError as error:  # YAML templates of other programs may not be valid YAML
            if path in usual:
                raise
            unreadable = unreadable or error
    for path in [folder / name for name in NAME_LISTS] + sorted(folder.glob("*.names")):
        if path.is_file():
            return path
    raise unreadable or UserError(
        f"{folder}: the folder contains neither data.yaml with the key `names` nor classes.txt with one class name per "
        "line. Add --names FILE."
    )


def read_settings(path: Path) -> dict:
    """Load data.yaml or a text file of class names as a dictionary whose key `names` is a list of strings.

    Raises UserError if the file is missing or invalid, or the names are not unique strings numbered from 0.
    """
    if path.suffix.lower() in YAML_SUFFIXES:
        settings = _load_yaml(path)
        names = settings.get("names")
        if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
            names = [names[index] for index in range(len(names))]
    elif os.path.isfile(path):
        settings, names = {}, _read_name_list(path)
    else:
        raise UserError(f"{path}: the file of class names does not exist. Check --names.")
    if not isinstance(names, list) or not names or len({str(name) for name in names}) < len(names):
        raise UserError(f"{path}: `names` is {names}, not a list of unique names numbered from 0. Correct the file.")
    for number, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, (str, int, float)) or name == "":
            raise UserError(
                f"{path}: the name of class {number} is {name!r}, which is not a string. Write the name in quotes, "
                "because YAML reads yes, no, null and dates as other types."
            )
    return {**settings, "names": [str(name) for name in names]}


def _read_name_list(path: Path) -> list[str]:
    """Return the class names in a text file with one name per line.

    Raises UserError if a line between names is empty, because the line number is the class index.
    """
    lines = [line.strip() for line in read_text_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise UserError(f"{path}: line {lines.index('') + 1}: a class name is missing. Add a name or remove the line.")
    return lines


def _load_yaml(path: Path) -> dict:
    """Load a YAML file as a dictionary, empty if the content is not a mapping. Raises UserError on invalid YAML."""
    try:
        values = read_yaml(path, encoding="utf-8-sig")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot be read as YAML ({str(error).splitlines()[0]}). Correct the file or --names."
        ) from None
    return values if isinstance(values, dict) else {}
