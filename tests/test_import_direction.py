"""The layout of the package: imports point downwards, and only some files load MindSpore. Also the style of calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs_pages.imports import FLOORS, FRAMEWORKS, read_package

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "examples" / "det" / "ssd" / "ssd"

FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Rooms and files that may import FRAMEWORKS. All other files work with NumPy alone, so commands can check their input
# without waiting for MindSpore to load.
WITH_MINDSPORE = [
    "models",
    "runtime.collectives",
    "runtime.device",
    "runtime.compile_cache",
    "data.mindrecord",
    "data.dataset",
    "data.thread_errors",
    "checkpoints",
    "inference.network",
    "inference.predictor",
    "deployment.export",
    "deployment.exportable_layers",
    "deployment.mindir_session",
    "deployment.onnx_network",
    "deployment.reference",
    "evaluation",
    "training",
]
MOST_POSITIONAL_ARGUMENTS = 3
# functions that accept positional arguments only; `bn_train` and `bn_infer` are primitives of MindSpore
WITHOUT_KEYWORDS = {"os.posix_fadvise", "self.bn_train", "self.bn_infer"}


def is_inside(module: str, rooms: list[str]) -> bool:
    """Return True if a module is one of these rooms and files, or below one of them."""
    return any(f"{module}.".startswith(f"{room}.") for room in rooms)


def layout_faults(package: Path) -> list[str]:
    """Return a line for each import that points upwards, is absolute, or loads MindSpore in a NumPy file."""
    faults = []
    for module, imports in read_package(package).items():
        room = module.partition(".")[0]
        if room not in FLOOR_OF:
            faults.append(f"{module}: room without a floor")
            continue
        for found in imports:
            place = f"{module or '__init__'}:{found.line}: imports {found.module}"
            target = found.module.partition(".")[0]
            if not found.is_relative:
                if target == package.name:
                    faults.append(f"{place}, which is no relative import")
                if target in FRAMEWORKS and not is_inside(module, WITH_MINDSPORE):
                    faults.append(f"{place} in a file without MindSpore")
            elif target != room and FLOOR_OF.get(target, len(FLOORS)) >= FLOOR_OF[room]:
                faults.append(f"{place}, which is not on a lower floor")
    return faults


def import_circles(package: Path) -> list[list[str]]:
    """Return circles of files that import each other, one for each import that closes a circle."""
    edges = {
        module: sorted({found.module for found in imports if found.is_relative and found.module != module})
        for module, imports in read_package(package).items()
    }
    circles: list[list[str]] = []
    finished: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            circles.append([*trail[trail.index(module) :], module])
        elif module not in finished:
            for target in edges.get(module, []):
                visit(target, [*trail, module])
            finished.add(module)

    for module in edges:
        visit(module, [])
    return circles


def positional_faults(root: Path, folders: list[str]) -> list[str]:
    """Return a line for each call with too many positional arguments. Starred ones are not counted."""
    faults = []
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                count = sum(not isinstance(argument, ast.Starred) for argument in node.args)
                if count > MOST_POSITIONAL_ARGUMENTS and name not in WITHOUT_KEYWORDS:
                    faults.append(f"{path.relative_to(root)}:{node.lineno}: {count} positional arguments of {name}")
    return faults


def test_imports_point_downwards_and_only_some_files_load_mindspore():
    faults = layout_faults(PACKAGE)
    assert not faults, "\n".join(faults)


def test_no_files_import_each_other_in_a_circle():
    circles = import_circles(PACKAGE)
    assert not circles, "\n".join(" -> ".join(circle) for circle in circles)


def test_listed_files_with_mindspore_exist_and_import_it():
    """A stale entry would allow an import that nobody needs."""
    package = read_package(PACKAGE)
    for room in WITH_MINDSPORE:
        imports = [found for module in package if is_inside(module, [room]) for found in package[module]]
        assert any(found.module.partition(".")[0] in FRAMEWORKS for found in imports), room


def test_calls_have_at_most_three_positional_arguments():
    faults = positional_faults(ROOT, ["examples", "tools"])
    assert not faults, "\n".join(faults)


# --- the checks themselves, on small packages with planted faults ---


@pytest.fixture
def plant(tmp_path):
    """plant({"boxes/ops.py": source, ...}) writes a package and returns its folder."""

    def write(files: dict[str, str]) -> Path:
        package = tmp_path / "ssd"
        for name, source in files.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(source)
        return package

    return write


@pytest.mark.parametrize(
    "file, source, place",
    [
        ("boxes/ops.py", "from ..models import layers", "boxes.ops:1: imports models.layers"),
        ("boxes/ops.py", "from ..models.layers import Conv", "boxes.ops:1: imports models.layers"),
        ("boxes/ops.py", "from .. import models", "boxes.ops:1: imports models"),
        ("data/readers/coco.py", "from ...config.schema import Config", "data.readers.coco:1: imports config.schema"),
        (
            "data/readers/coco.py",
            "\n\ndef f():\n    from ...training import a",
            "data.readers.coco:4: imports training",
        ),
        ("runtime/device.py", "from ..models.layers import Conv", "runtime.device:1: imports models.layers"),
        ("errors.py", "from .boxes.ops import iou", "errors:1: imports boxes.ops"),
        ("inference/__init__.py", "from ..training.trainer import train", "inference:1: imports training.trainer"),
        ("__init__.py", "from .errors import UserError", "__init__:1: imports errors"),
        ("training/trainer.py", "from ..engine.meaning import words", "training.trainer:1: imports engine.meaning"),
        ("engine/meaning.py", "", "engine.meaning: "),
        ("training/trainer.py", "from ssd.boxes.ops import iou", "training.trainer:1: imports ssd.boxes.ops"),
        ("training/trainer.py", "import ssd.boxes", "training.trainer:1: imports ssd.boxes"),
        ("config/schema.py", "import mindspore as ms", "config.schema:1: imports mindspore"),
        ("data/images.py", "def f():\n    from mindspore.mint import nn", "data.images:2: imports mindspore.mint"),
        ("data/dataset_info.py", "import mindcv", "data.dataset_info:1: imports mindcv"),
        (
            "boxes/ops.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from ..config.schema import Config",
            "boxes.ops:4: imports config.schema",
        ),
    ],
)
def test_planted_import_is_found(file, source, place, plant):
    package = plant({"models/layers.py": "", "models/__init__.py": "", file: source})
    assert any(fault.startswith(place) for fault in layout_faults(package))


@pytest.mark.parametrize(
    "file, source",
    [
        ("boxes/anchors.py", "from .. import __version__\nfrom ..errors import UserError"),
        (
            "data/readers/coco.py",
            "from ..images import read\nfrom . import voc\nfrom ...runtime.progress import Progress",
        ),
        ("training/trainer.py", "from ..models import layers\nfrom ..config import Config"),
        ("data/dataset.py", "import mindspore.dataset as ds\nimport numpy"),
        ("models/layers.py", "if TYPE_CHECKING:\n    from ..config.schema import Config"),
        ("models/layers.py", "if typing.TYPE_CHECKING:\n    from ..config.schema import Config"),
    ],
)
def test_allowed_import_is_no_fault(file, source, plant):
    assert layout_faults(plant({"data/readers/voc.py": "", file: source})) == []


def test_planted_circle_is_found(plant):
    files = {
        "training/a.py": "from .b import f",
        "training/b.py": "def f():\n    from . import c",
        "training/c.py": "from .a import g\nfrom ..errors import UserError",
        "training/d.py": "from .a import g",
    }
    assert import_circles(plant(files)) == [["training.a", "training.b", "training.c", "training.a"]]
    files["training/c.py"] = "if TYPE_CHECKING:\n    from .a import g"
    assert import_circles(plant(files)) == []


def test_planted_positional_arguments_are_found(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "a.py").write_text(
        "f(1, 2, 3)\n"
        "f(1, 2, 3, four=4)\n"
        "f(1, 2, 3, *rest) or os.posix_fadvise(1, 2, 3, 4)\n"
        "f(1, 2,\n  g.h(1, 2, *rest, 3, 4))\n"  # line 5
        "f(1, 2, 3, 4)\n"
    )
    faults = positional_faults(tmp_path, ["tools"])
    assert [fault.split(" ")[0] for fault in faults] == ["tools/a.py:6:", "tools/a.py:5:"]
    assert "f" in faults[0] and "g.h" in faults[1]
