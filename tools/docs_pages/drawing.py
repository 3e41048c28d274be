"""Draw the package as SVG: its folders in the order of imports, their modules, and the imports between folders.

A line descends to each folder. A number on the line is the number of imports from the folder of that row.
"""

from __future__ import annotations

import ast
import dataclasses
import html
from collections import Counter
from pathlib import Path

from .imports import FLOORS, FRAMEWORKS, Import, ImportVisitor, read_package

NAME = "images/architecture.svg"  # file that the drawing is written to, inside the folder of the pages
FILES = "ssd/*.py"  # name of the row with the files directly in the package

# Sizes in pixels. The widths of texts are estimated, because an SVG does not contain its font.
WIDTH = 960
MARGIN = 16
NAMES_WIDTH = 116  # column of the folder names
COLUMN = 29  # distance between the lines to folders
BOX_HEIGHT, GAP = 22, 6
CHARACTER = 6.65  # width of a character of a monospace font of 11 px
PADDING = 10  # above and below the boxes of a row
TOP = 74  # height of the title

INK, GREY, LINE = "#1f2328", "#59636e", "#8c959f"
FLOOR_FILL, BOX_FILL, MINDSPORE_FILL, MINDSPORE_INK = "#f6f8fa", "#ffffff", "#ddf4ff", "#0550ae"
SANS = "-apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,'Liberation Mono','DejaVu Sans Mono',monospace"


@dataclasses.dataclass(frozen=True)
class Room:
    """A row of the drawing: a folder of the package, the files directly in it, or a group of scripts.

    name: name that the row shows
    boxes: {folder inside the room, "" for the room itself: {module: True if it imports MindSpore or MindCV}}
    imports: {name of another room: number of imports from that room}
    """

    name: str
    boxes: dict[str, dict[str, bool]]
    imports: dict[str, int]


def read_floors(root: Path) -> list[list[Room]]:
    """Read the rooms of the scripts and the package, floor by floor from the top. root: root of the repository"""
    examples = root / "examples" / "det" / "ssd"
    floors = [[_read_scripts("commands", examples), _read_scripts("tools/", root / "tools")]]
    package = read_package(examples / "ssd")
    for names in reversed(FLOORS[2:]):
        members = [(f"{name}/", {name}) for name in sorted(names)]
        floors.append([room for name, roots in members if (room := _read_room(name, roots, package)).boxes])
    floors.append([_read_room(FILES, FLOORS[0] | FLOORS[1], package)])
    return [rooms for rooms in floors if rooms]


def _read_room(name: str, roots: set[str], package: dict[str, list[Import]]) -> Room:
    """Read a room. roots: first parts of its modules' names; package: {module: its imports}"""
    boxes: dict[str, dict[str, bool]] = {}
    imports: Counter[str] = Counter()
    for module, found in package.items():
        if module.partition(".")[0] not in roots:
            continue
        has_framework = any(item.module.partition(".")[0] in FRAMEWORKS for item in found)
        *folders, file = module.split(".")
        # A folder's __init__.py has no box, except that of the package.
        if name == FILES or (folders and not any(other.startswith(f"{module}.") for other in package)):
            boxes.setdefault("/".join(folders[1:]), {})[file or "__init__"] = has_framework
        imports.update(item.module for item in found if item.is_relative)
    return Room(name, boxes, imports=_count_rooms(imports, without=name))


def _read_scripts(name: str, folder: Path) -> Room:
    """Read a group of scripts, the files of a folder with a line `if __name__ == "__main__":`."""
    boxes: dict[str, bool] = {}
    imports: Counter[str] = Counter()
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if '\nif __name__ == "__main__":' not in source:
            continue
        visitor = ImportVisitor()
        visitor.visit(ast.parse(source))
        modules = []
        for node in visitor.statements:
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        boxes[path.stem] = any(module.partition(".")[0] in FRAMEWORKS for module in modules)
        imports.update(module.partition(".")[2] for module in modules if module.partition(".")[0] == "ssd")
    return Room(name, {"": boxes}, imports=_count_rooms(imports, without=name))


def _count_rooms(imports: Counter[str], without: str) -> dict[str, int]:
    """Return {room: number of imports}. imports: {module: number of imports}; without: room that is left out"""
    counts: Counter[str] = Counter()
    for module, number in imports.items():
        first = module.partition(".")[0]
        counts[FILES if first in FLOORS[0] | FLOORS[1] else f"{first}/"] += number
    counts.pop(without, None)
    return dict(counts)


def draw_package(root: Path) -> str:
    """Return the drawing as SVG. root: root of the repository"""
    floors = read_floors(root)
    rooms = [room for floor in floors for room in floor]
    targets = [room.name for room in rooms if any(room.name in other.imports for other in rooms)]
    columns: dict[str, float] = {
        name: WIDTH - MARGIN - COLUMN * (len(targets) - index) + 10 for index, name in enumerate(targets)
    }
    boxes_right = min(columns.values()) - 30
    parts: list[str] = []
    middles: dict[str, float] = {}
    y: float = TOP
    for floor in floors:
        floor_parts, floor_y = [], y
        for room in floor:
            if y > floor_y:
                line = f"M{MARGIN + 12} {y:.1f}H{boxes_right - 4:.1f}"
                floor_parts.append(f'<path d="{line}" stroke="#d8dee4" stroke-dasharray="3 3" fill="none"/>')
            boxes, height = _draw_boxes(room, MARGIN + NAMES_WIDTH, boxes_right, top=y + PADDING)
            middles[room.name] = y + PADDING + height / 2
            floor_parts += [_text(MARGIN + 12, middles[room.name] + 5, room.name, size=13, weight=600), *boxes]
            y += height + 2 * PADDING
        width = boxes_right + 8 - MARGIN
        parts.append(_rectangle(MARGIN, floor_y, width=width, height=y - floor_y, fill=FLOOR_FILL, radius=8))
        parts += floor_parts
        y += GAP
    parts += _draw_imports(rooms, columns, middles=middles, left=boxes_right + 8)
    return _wrap(parts, height=round(y + MARGIN - GAP))


def _draw_boxes(room: Room, left: float, right: float, top: float) -> tuple[list[str], float]:
    """Draw the boxes of a room in lines between left and right. Returns the SVG elements and the height."""
    parts: list[str] = []
    x, y = left, top
    for folder, modules in room.boxes.items():
        start = left
        if folder:  # a frame around the boxes of an inner folder, on lines of its own
            y += (BOX_HEIGHT + GAP) * (x > left)
            parts.append(_text(left + 8, y + 19, f"{folder}/", size=11, family="m", fill=GREY))
            start = left + len(folder) * CHARACTER + 20
            x, y = start, y + 4
        frame_top, frame_right = y - 4, start
        for module, has_framework in modules.items():
            width = len(module) * CHARACTER + 14
            if x + width > right - (GAP if folder else 0):
                x, y = start, y + BOX_HEIGHT + GAP
            fill, ink = (MINDSPORE_FILL, MINDSPORE_INK) if has_framework else (BOX_FILL, INK)
            parts.append(_rectangle(x, y, width=width, height=BOX_HEIGHT, fill=fill, radius=5))
            parts.append(_text(x + 7, y + 15, module, size=11, family="m", fill=ink))
            x += width + GAP
            frame_right = max(frame_right, x)
        if folder:
            frame_height = y + BOX_HEIGHT + 4 - frame_top
            parts.append(
                _rectangle(left, frame_top, width=frame_right - left, height=frame_height, fill="none", radius=6)
            )
            x, y = left, y + BOX_HEIGHT + 4 + GAP
    is_open = x > left
    return parts, y - top + (BOX_HEIGHT if is_open else -GAP)


def _draw_imports(rooms: list[Room], columns: dict[str, float], middles: dict[str, float], left: float) -> list[str]:
    """Draw a line down to each imported room, with the number of imports at the row of each importing room.

    columns: {room: x of its line}
    middles: {room: y of the middle of its row}
    left: x at which the rows end
    """
    parts: list[str] = []
    for room in rooms:  # horizontal lines first, so that numbers cover them
        if room.imports:
            y, end = middles[room.name] + 9 * (room.name in columns), max(columns[name] for name in room.imports)
            parts.append(f'<path d="M{left:.1f} {y:.1f}H{end:.1f}" stroke="#d8dee4" fill="none"/>')
    for target, x in columns.items():
        start = min(middles[room.name] for room in rooms if target in room.imports)
        end = middles[target] - 9
        parts.append(
            f'<path d="M{x:.1f} {start:.1f}V{end - 6:.1f}q0 6 -6 6H{left + 5:.1f}" stroke="{LINE}" fill="none" '
            'stroke-width="1.5" marker-end="url(#arrow)"/>'
        )
    for room in rooms:
        y = middles[room.name] + 9 * (room.name in columns)
        for target, count in room.imports.items():
            x = columns[target]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5" fill="#fff" stroke="{LINE}"/>')
            parts.append(_text(x, y + 4, str(count), size=11, anchor="middle"))
    return parts


def _rectangle(x: float, y: float, *, width: float, height: float, fill: str, radius: int) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="{radius}" fill="{fill}" stroke="#d0d7de"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    weight: int = 400,
    fill: str = INK,
    family: str = "s",
    anchor: str = "start",
) -> str:
    """Draw a line of text. family: "s" for sans serif, "m" for monospace"""
    options = "".join(
        f' {name}="{value}"'
        for name, value, usual in (
            ("font-weight", weight, 400),
            ("fill", fill, INK),
            ("class", family, "s"),
            ("text-anchor", anchor, "start"),
        )
        if value != usual
    )
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{options}>{html.escape(text)}</text>'


def _wrap(parts: list[str], height: int) -> str:
    """Return a complete SVG with background, title and legend."""
    legend_x = MARGIN + 320
    title = [
        _text(MARGIN, 32, "The package ssd", size=18, weight=600),
        _text(MARGIN, 54, "Imports point downwards.", size=12, fill=GREY),
        _rectangle(legend_x, 41, width=16, height=16, fill=BOX_FILL, radius=4),
        _text(legend_x + 22, 54, "Python and NumPy", size=12, fill=GREY),
        _rectangle(legend_x + 142, 41, width=16, height=16, fill=MINDSPORE_FILL, radius=4),
        _text(legend_x + 164, 54, "imports MindSpore", size=12, fill=GREY),
        f'<circle cx="{legend_x + 295}" cy="49" r="9.5" fill="#fff" stroke="{LINE}"/>',
        _text(legend_x + 295, 53, "3", size=11, anchor="middle"),
        _text(legend_x + 311, 54, "number of imports from the folder at the arrow", size=12, fill=GREY),
    ]
    head = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>The package ssd: folders, modules and imports</title>
<style>text{{font-family:{SANS}}}.m{{font-family:{MONO}}}</style>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>
<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12" fill="#fff" stroke="#d0d7de"/>"""
    return "\n".join([head, *title, *parts, "</svg>", ""])
