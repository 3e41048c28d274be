"""Read the imports of the package, and the order of its folders."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

# From the ground up. An import points to a lower floor or stays in its own room, a folder or a file of the package.
# tests/test_import_direction.py enforces this order.
FLOORS = [
    {"", "startup"},  # "" is the package's own __init__.py
    {"errors", "normalization", "__main__"},
    {"boxes"},
    {"runtime", "models"},
    {"data", "checkpoints"},
    {"config"},
    {"inference"},
    {"deployment"},
    {"evaluation"},
    {"training"},
]
FRAMEWORKS = {"mindspore", "mindcv"}


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module.

    module: dotted name; below the package for relative imports, as in "boxes.ops"; "" is the package itself
    line: line number of the statement
    is_relative: True for imports inside the package
    """

    module: str
    line: int
    is_relative: bool


class ImportVisitor(ast.NodeVisitor):
    """Collect the import statements of a file, at any depth, except those under `if TYPE_CHECKING:`."""

    def __init__(self) -> None:
        self.statements: list[ast.Import | ast.ImportFrom] = []

    def visit_Import(self, node: ast.Import) -> None:
        self.statements.append(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.statements.append(node)

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else None
        for child in [*([] if name == "TYPE_CHECKING" else node.body), *node.orelse]:
            self.visit(child)


def read_package(package: Path) -> dict[str, list[Import]]:
    """Return {module below the package: its imports}. "boxes.ops" is a file, "boxes" a folder's __init__.py."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {module: list(imports_of(module, path, set(paths))) for module, path in paths.items()}


def imports_of(module: str, path: Path, modules: set[str]) -> Iterator[Import]:
    """Yield the imports of one file. modules: those of the package, which `from . import name` may name."""
    visitor = ImportVisitor()
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    for node in visitor.statements:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, is_relative=False) for alias in node.names)
        elif node.level == 0:
            yield Import(node.module or "", node.lineno, is_relative=False)
        else:
            parts = module.split(".") if module else []
            steps_up = node.level - (path.name == "__init__.py")
            folder = parts[: len(parts) - steps_up]
            base = ".".join([*folder, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            for target in sorted(names & modules) or [base]:
                yield Import(target, node.lineno, is_relative=True)
