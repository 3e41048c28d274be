"""Parse `--config FILE [--key value ...]`, the command line of every script that reads a recipe."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import UserError
from ..runtime.log import set_up_logging
from ..runtime.read_yaml import parse_yaml
from .loading import describe_first_error, load_config, refuse_unknown_keys
from .schema import Config

Section = TypeVar("Section", bound=BaseModel)


def parse_command_line(description: str, argv: list[str] | None = None) -> Config:
    """Parse a command line, and load the recipe with its overrides.

    description: text that --help shows
    argv: arguments without the name of the script; None reads sys.argv[1:]
    Returns the Config of the recipe.
    Raises UserError if an argument, the recipe or a key is invalid.
    """
    return parse_recipe_and_options(description, options={}, argv=argv)[0]


def parse_recipe_and_options(
    description: str, options: dict[str, dict], argv: list[str] | None = None
) -> tuple[Config, argparse.Namespace]:
    """Parse a command line with additional options of a script, and load the recipe with its overrides.

    The function also sets up logging, with more details if --verbose is given.

    description: text that --help shows
    options: {name: keyword arguments of ArgumentParser.add_argument for --name}. An option with the name of a recipe
        key hides that key. If the option takes a list of texts, YAML lists and null are values of the recipe key.
    argv: arguments without the name of the script; None reads sys.argv[1:]
    Returns the Config of the recipe, and the values of the options.
    Raises UserError if an argument, the recipe or a key is invalid.
    """
    args, overrides = _parse(description, options, section=Config, argv=argv, needs_recipe=True)
    if args.config is None:
        raise UserError("--config: no recipe is set. Set --config to a recipe, or --model to an exported model.")
    for name in options.keys() & Config.model_fields.keys():
        if "nargs" not in options[name]:
            continue
        values = getattr(args, name) or []
        setattr(args, name, [value for value in values if not _is_list(value)])
        for value in filter(_is_list, values):
            overrides[name] = _parse_value(value)
    return load_config(args.config, overrides), args


def parse_options(
    description: str, options: dict[str, dict], section: type[Section], argv: list[str] | None = None
) -> tuple[Section, argparse.Namespace]:
    """Parse a command line with an exported model instead of a recipe, with additional options of a script.

    description: text that --help shows
    options: {name: keyword arguments of ArgumentParser.add_argument for --name}
    section: class of the keys that can be set with --key value
    argv: arguments without the name of the script; None reads sys.argv[1:]
    Returns the values of the keys, and the values of the options.
    Raises UserError if an argument or a key is invalid.
    """
    args, overrides = _parse(description, options, section=section, argv=argv, needs_recipe=False)
    for key in overrides:
        if key in ("config", "ckpt_path", "ckpt_save_dir", "data_dir"):
            raise UserError(
                f"--{key}: an exported model needs no recipe, checkpoint or data. Remove --{key} or --model."
            )
        if key in Config.model_fields and key not in section.model_fields:
            raise UserError(f"--{key}: the value was fixed when the model was exported. Remove it, or export again.")
    refuse_unknown_keys(overrides, section=section, source="command line")
    try:
        return section.model_validate(overrides), args
    except ValidationError as error:
        raise UserError(describe_first_error(error, "command line")) from None


def _parse(
    description: str, options: dict[str, dict], *, section: type[BaseModel], argv: list[str] | None, needs_recipe: bool
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Parse a command line, and set up logging. Returns the options, and {key: value} of the keys of a section."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog="recipe keys (override a key with --key value):\n" + "\n".join(_list_keys(section)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if needs_recipe:
        parser.add_argument("-c", "--config", required="model" not in options, help="YAML file of the recipe")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log more details, with the time and module of each message"
    )
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    arguments = sys.argv[1:] if argv is None else argv
    args, rest = parser.parse_known_args([_with_underscores(argument) for argument in arguments])
    set_up_logging(args.verbose)
    overrides = parse_overrides(rest)
    _refuse_misspelt_options(overrides, options)
    return args, overrides


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Parse command-line overrides of recipe keys.

    For example, ["--lr", "0.1", "--augment.flip_prob=0"] becomes {"lr": 0.1, "augment.flip_prob": 0}. Values are parsed
    as YAML, except for keys whose value is text.

    Raises UserError if an argument is not an option, or if an option has no value.
    """
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        option, equals, value = argument.partition("=")
        if not option.startswith("--") or len(option) == 2:
            raise UserError(f"command line: {argument!r} is not an option. Write recipe keys as --key value.")
        if not equals:
            if not rest or (rest[0].startswith("--") and len(rest[0]) > 2):
                raise UserError(f"command line: {option} has no value. Write a value after {option}.")
            value = rest.pop(0)
        key = option[2:].replace("-", "_")
        overrides[key] = value if _is_text(key) else _parse_value(value)
    return overrides


def _refuse_misspelt_options(overrides: dict[str, Any], options: dict[str, dict]) -> None:
    """Raise UserError if an unknown key resembles an option of the script.

    `load_config` raises UserError for all other unknown keys.

    overrides: {key: value} from the command line
    options: {name: keyword arguments of ArgumentParser.add_argument}, the options of the script
    """
    for name in set(overrides) - set(Config.model_fields):
        nearest = difflib.get_close_matches(name, [*Config.model_fields, *options], n=1)
        if nearest and nearest[0] in options:
            raise UserError(f"command line: '--{name}' is not a known option. Did you mean '--{nearest[0]}'?")


def _with_underscores(argument: str) -> str:
    """Return an option with underscores in place of dashes, so that --vid-stride 2 is --vid_stride 2."""
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else argument


def _is_list(value: str) -> bool:
    """Return whether a value is a YAML list, such as [background, cat], or null."""
    return isinstance(_parse_value(value), list | None)


def _is_text(name: str) -> bool:
    """Return whether the value of a recipe key is text.

    Text is not parsed as YAML, because a folder may have a name such as 007, and because YAML reads "" as null.
    """
    field = Config.model_fields.get(name)
    return field is not None and (field.annotation in (str, str | None) or "" in get_args(field.annotation))


def _parse_value(value: str) -> Any:
    try:
        return parse_yaml(value)
    except yaml.YAMLError:
        return value


def _list_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return one line of help for each key of a section: name, description and default.

    section: class of the recipe section
    prefix: prefix of nested keys, for example "augment."
    """
    lines = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += _list_keys(field.annotation, f"{prefix}{name}.")
            continue
        default = "" if field.is_required() else f" [{field.default}]"
        lines.append(f"  --{prefix}{name:<24}{field.description or ''}{default}")
    return lines
