"""`--config F [--key value …]`, the command line of every script that reads a recipe."""

from __future__ import annotations

import argparse
import difflib
from typing import Any, Optional

import yaml
from pydantic import BaseModel

from ..errors import UserError
from .loading import Config, load_config


def parse_command_line(description: str, argv: list[str] | None = None) -> Config:
    """The Config of a recipe and its overrides. argv: sys.argv[1:] if None. Raises UserError."""
    return parse_recipe_and_options(description, {}, argv)[0]


def parse_recipe_and_options(
    description: str, options: dict[str, dict], argv: list[str] | None = None
) -> tuple[Config, argparse.Namespace]:
    """The Config of a recipe and its overrides, and a script's own options, none of which is a recipe key.

    options: {name: what ArgumentParser.add_argument takes for --name}; argv: sys.argv[1:] if None. Raises UserError.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog="recipe keys, each of which can be given as --key value:\n" + "\n".join(_describe(Config)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", required=True, help="recipe, a YAML file")
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    args, rest = parser.parse_known_args(argv)
    overrides = parse_overrides(rest)
    _refuse_misspelt(overrides, options)
    return load_config(args.config, overrides), args


def parse_overrides(words: list[str]) -> dict[str, Any]:
    """["--lr", "0.1", "--augment.flip_prob=0"] to {"lr": 0.1, "augment.flip_prob": 0}.

    Values are read as YAML, but for text.
    """
    overrides: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if not key.startswith("--") or len(key) == 2:
            raise UserError(f"command line: got {word!r}, expected --key value")
        if not equals:
            if not rest or (rest[0].startswith("--") and len(rest[0]) > 2):
                raise UserError(f"command line: got {key} without a value, expected {key} value")
            value = rest.pop(0)
        name = key[2:].replace("-", "_")
        overrides[name] = value if _is_text(name) else _read(value)
    return overrides


def _refuse_misspelt(overrides: dict[str, Any], options: dict[str, dict]) -> None:
    """Refuse a key that is none of Config, which tells about all others, but nearly an option of the script."""
    for name in set(overrides) - set(Config.model_fields):
        near = difflib.get_close_matches(name, [*Config.model_fields, *options], n=1)
        if near and near[0] in options:
            raise UserError(
                f"command line: got unknown key '--{name}', expected an option or a recipe key; "
                f"did you mean '--{near[0]}'?"
            )


def _is_text(name: str) -> bool:
    """Whether a key holds text, which is taken by the letter: a folder may be called 007."""
    field = Config.model_fields.get(name)
    return field is not None and field.annotation in (str, Optional[str])


def _read(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _describe(section: type[BaseModel], prefix: str = "") -> list[str]:
    """A line for each key of a section: name, default, description."""
    lines = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += _describe(field.annotation, f"{prefix}{name}.")
            continue
        default = "" if field.is_required() else f" [{field.default}]"
        lines.append(f"  --{prefix}{name:<24}{field.description or ''}{default}")
    return lines
