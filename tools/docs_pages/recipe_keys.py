"""Write the pages of recipe keys from the schema of recipes, in English and Chinese."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ssd.config import schema
from ssd.config.loading import CONFIGS, read_recipe
from ssd.config.sections import ANCHORS, CLASSES, EVALUATION, INPUT, NETWORK, Augment, ExtraLayer
from ssd.errors import UserError

from .recipe_key_texts import CHINESE, ENGLISH, Texts

PAGES = ("recipe-keys.md", "recipe-keys_CN.md")  # files that write_pages returns
TRANSLATION = Path(__file__).with_name("recipe_keys_zh.yaml")
DEVICES = ("Ascend", "CPU")
WIDTH = 120  # characters of a line of prose
LONGEST_CHOICE = 60  # characters; longer lists of values are written below the table
STORED, SCORED = "¹", "²"  # marks of keys; the notes at the end of the page explain them


@dataclasses.dataclass(frozen=True)
class Key:
    """A recipe key as the pages show it.

    name: name on the command line, for example "augment.flip_prob"
    section: comment above the key in schema.py, or the name of the nested section
    type: notation of the type, for example "list[int]"
    limits: notation of the range, for example "> 0, ≤ 1", or the possible values; empty for no limits
    default: notation of the default; None if a recipe must contain the key or if loading a recipe determines the value
    meaning: description in the schema
    marks: STORED and SCORED, if they apply
    """

    name: str
    section: str
    type: str
    limits: str
    default: str | None
    meaning: str
    marks: str = ""


def read_keys() -> list[Key]:
    """Return all recipe keys in the order of the schema. Nested keys follow the section of the key they belong to."""
    fragments = {device: read_recipe(CONFIGS / "runtime" / f"{device.lower()}.yaml") for device in DEVICES}
    nested: dict[str, type[BaseModel]] = {"augment": Augment, "extra_layers": ExtraLayer}
    keys: list[Key] = []
    waiting: list[Key] = []  # nested keys of the current section
    for section, names in read_sections(inspect.getsource(schema)):
        for name in names:
            field = schema.Config.model_fields[name]
            if name in nested:
                waiting += [
                    _create_key(f"{name}.{key}", section=name, field=item)
                    for key, item in nested[name].model_fields.items()
                ]
            if field.annotation not in nested.values():  # `augment` itself has no value
                of_devices = {device: values.get(name, field.default) for device, values in fragments.items()}
                keys.append(_create_key(name, section, field=field, of_devices=of_devices))
        keys, waiting = keys + waiting, []
    return keys


def read_sections(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the comment sections of the class Config with the names of their keys.

    source: source of schema.py
    """
    lines = source.splitlines()
    (config,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    title = ""
    names: list[str] = []
    position = config.lineno
    for node in config.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        for line in lines[position : node.lineno - 1]:
            comment = re.fullmatch(r"    # (.+)", line)
            if comment:
                if names:
                    yield title, names
                title, names = comment[1], []
        names.append(node.target.id)
        position = node.end_lineno or node.lineno
    yield title, names


def _create_key(name: str, section: str, field: FieldInfo, of_devices: dict[str, Any] | None = None) -> Key:
    """Describe a key. of_devices: {device: default on the device}; None if the default is the same on all devices."""
    type_name, limits = describe_type(field.annotation, field.metadata)
    default = None if field.is_required() else f"`{format_value(field.default)}`"
    if default is not None and of_devices and len({format_value(value) for value in of_devices.values()}) > 1:
        default = ", ".join(f"{device} `{format_value(value)}`" for device, value in of_devices.items())
    is_stored = any(marker in field.metadata for marker in (CLASSES, ANCHORS, NETWORK, INPUT))
    marks = (STORED if is_stored else "") + (SCORED if EVALUATION in field.metadata else "")
    if field.description is None:
        raise UserError(f"{name}: the key has no description. Add a description to the schema.")
    return Key(name, section, type=type_name, limits=limits, default=default, meaning=field.description, marks=marks)


def format_value(value: Any) -> str:
    """Return a value as a recipe contains it, in YAML's flow style, with floats of at most 4 digits."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, float):
        return f"{value:.4g}" if value != int(value) else f"{value:.1f}"
    return json.dumps(value) if value in (None, True, False, "") else str(value)


def describe_type(annotation: Any, metadata: list[Any]) -> tuple[str, str]:
    """Return the notation of a type and of its range.

    annotation: type of a field
    metadata: limits of the field, objects of the package annotated_types; other objects are ignored
    """
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        more = [limit for item in more for limit in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return describe_type(inner, [*more, *metadata])
    limits = ", ".join(_format_limit(limit) for limit in metadata if isinstance(limit, (Gt, Ge, Lt, Le)))
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = [item for item in get_args(annotation) if item is not NoneType]
        return describe_type(inner, metadata)
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
        return type(values[0]).__name__, ", ".join(f"`{format_value(value)}`" for value in values)
    if get_origin(annotation) is tuple:
        items = [describe_type(item, []) for item in get_args(annotation) if item is not Ellipsis]
        if Ellipsis in get_args(annotation):
            return f"list[{items[0][0]}]", items[0][1]
        return f"[{', '.join(item for item, _ in items)}]", items[0][1]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "dict", ""
    return annotation.__name__, limits


def _format_limit(limit: Gt | Ge | Lt | Le) -> str:
    (value,) = vars(limit).values() if hasattr(limit, "__dict__") else dataclasses.astuple(limit)
    sign = {Gt: ">", Ge: "≥", Lt: "<", Le: "≤"}[type(limit)]
    return f"{sign} 2³¹" if value == 2**31 else f"{sign} {value:g}"


def read_translation(keys: list[Key], path: Path = TRANSLATION) -> dict[str, str]:
    """Return {key: Chinese meaning}, and check that the translation is that of the current schema.

    keys: keys of the schema
    path: YAML file, {key: {en: description that was translated, zh: translation}}
    Raises UserError if a key is missing or left over, or if its description has changed since the translation.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in keys:
        if key.name not in entries:
            raise UserError(f"{path}: {key.name}: the key has no translation. Add `en` and `zh`.")
        if entries[key.name]["en"] != key.meaning:
            raise UserError(
                f"{path}: {key.name}: the description in the schema is now {key.meaning!r}. Correct `zh`, and copy the "
                "description to `en`."
            )
    for name in set(entries) - {key.name for key in keys}:
        raise UserError(f"{path}: {name}: the schema has no such key. Remove the entry.")
    return {name: entry["zh"] for name, entry in entries.items()}


def write_pages() -> dict[str, str]:
    """Return the pages of recipe keys: {file name: Markdown}. Raises UserError if the translation is not current."""
    keys = read_keys()
    meanings = {key.name: key.meaning for key in keys}, read_translation(keys)
    return {name: write_page(keys, of, texts) for name, of, texts in zip(PAGES, meanings, (ENGLISH, CHINESE))}


def write_page(keys: list[Key], meanings: dict[str, str], texts: Texts) -> str:
    """Return one page as Markdown. meanings: {key: meaning in the language of the page}"""
    lines = [f"# {texts.title}", "", texts.switch, "", texts.introduction, ""]
    for section in dict.fromkeys(key.section for key in keys):
        lines += [f"## {texts.sections[section]}", ""]
        if section in texts.notes:
            lines += [texts.notes[section], ""]
        lines += ["| " + " | ".join(texts.columns) + " |", "|---" * len(texts.columns) + "|"]
        members = [key for key in keys if key.section == section]
        for key in members:
            default = texts.defaults.get(key.name) or key.default or texts.required
            limits = key.limits if len(key.limits) <= LONGEST_CHOICE else ""
            cells = (f"`{key.name}`{key.marks}", key.type, limits, default, meanings[key.name])
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        for key in members:
            if len(key.limits) > LONGEST_CHOICE:
                lines += [*textwrap.wrap(texts.choices.format(key=key.name, values=key.limits), WIDTH), ""]
    return "\n".join([*lines, texts.see_also, ""])
