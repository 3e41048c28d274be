"""Who may import whom: boxes and data know nothing of models, nothing below the engine reads recipes."""

import ast

import pytest

from ssd.config.loading import CONFIGS

PACKAGE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd"
LOWER = {"boxes", "errors"}
ALLOWED = {  # a module or a folder of them: what of the package it may import besides its own folder
    "__init__": set(),
    "errors": set(),
    "progress": set(),
    "interrupt": set(),
    "launch": set(),
    "drawing": set(),
    "boxes": {"errors"},
    "data": {*LOWER, "progress"},
    "models": LOWER,
    "published": {"errors"},
    "recipe_files": {"errors"},
    "recipe_keys": set(),
    "config": {*LOWER, "data.info", "published", "recipe_files", "recipe_keys"},
    "command_line": {"config", "errors"},
    "engine": {*LOWER, "data", "models", "progress", "interrupt", "drawing", "config"},
}
WITH_MINDSPORE = ("models.", "engine.", "data.mindrecord", "data.dataset")
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name):
    """Names that a module imports anywhere in it: those of the package start with a dot."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            folder = name.split(".")[: -node.level]
            found = [".".join([*folder, *filter(None, [node.module])])]
            # `from . import a, b` names modules only in its list
            found = found if node.module else [".".join([*folder, alias.name]) for alias in node.names]
            yield from (f".{module}" for module in found)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    layer, _, _ = name.partition(".")
    allowed = {*ALLOWED[layer], *([layer] if "." in name else [])}
    for imported in imports_of(name):
        assert not imported.startswith("ssd."), "within the package, imports are relative"
        if imported.startswith("."):
            assert any(f"{imported}.".startswith(f".{module}.") for module in allowed), imported
        if imported.split(".")[0] in ("mindspore", "mindcv"):
            assert name.startswith(WITH_MINDSPORE), imported
