"""Pages of the documentation: links, pictures, lengths, twins in the other language, and generated files."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from make_docs import find_stale_files
from markdown_pages import (
    ALL,
    DOCS,
    ENGLISH_PAGES,
    PAGES,
    READMES,
    ROOT,
    Page,
    github_anchor,
    parse_page,
    twin_of,
)

LONGEST_LINE = 160  # characters
MOST_LINES = {**dict.fromkeys(READMES, 180), **dict.fromkeys(PAGES, 200)}
MOST_PICTURE_BYTES = 2 * 10**6
# Pages of the repository on GitHub, relative to its root there: OWNER/REPOSITORY/blob/BRANCH.
GITHUB_PAGES = tuple(f"../../{name}" for name in ("actions", "issues", "pulls", "releases", "discussions"))
TWINS = (READMES[0], *ENGLISH_PAGES)


def read(path: Path) -> Page:
    assert path.is_file(), f"{name_of(path)}: the page is missing"
    return parse_page(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def link_faults(path: Path) -> list[str]:
    """Return a line for each relative link or picture of a page whose file or anchor does not exist."""
    page = read(path)
    faults = [f"{text}: no definition" for text in page.unresolved]
    switch = switch_links(path)
    for target in [*page.links, *(target for target, _ in page.pictures)]:
        parts, target = urlsplit(target), unquote(target)
        if parts.scheme or parts.netloc:
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchor = unquote(parts.fragment)
        if is_github_page(path.parent, parts.path):
            continue
        if not file.exists():
            faults.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in read(file).anchors:
            faults.append(f"{target}: no such anchor")
        elif path.stem.endswith("_CN") and twin_of(file).is_file() and target not in switch:
            faults.append(f"{target}: not the Chinese page")
    return faults


def is_github_page(folder: Path, target: str) -> bool:
    """Return True for a link from a page in this folder to a page of the repository on GitHub, such as its issues."""
    return os.path.normpath(os.path.join(os.path.relpath(folder, ROOT), target)).startswith(GITHUB_PAGES)


def switch_links(path: Path) -> set[str]:
    """Return the targets of the links in the line that switches to the other language."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {link for line in lines if is_switch(line, path) for link in parse_page(line).links}


def is_switch(line: str, path: Path) -> bool:
    if path.stem.endswith("_CN"):
        return line == f"[English]({path.name.replace('_CN', '')}) | 简体中文"
    return line == f"English | [简体中文]({twin_of(path).name})"


def layout_faults(path: Path) -> list[str]:
    """Return a line for each rule of layout that a page of docs/ breaks."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    last = "另请参阅：" if path.stem.endswith("_CN") else "See also: "
    faults = []
    if not lines[0].startswith("# "):
        faults.append("no title in the first line")
    if not is_switch(lines[1], path):
        faults.append("no switch of the language after the title")
    if not any(line.startswith(last) for line in lines):
        faults.append(f"no line {last}")
    return faults


def length_faults(path: Path) -> list[str]:
    """Return a line for each line of a page that is too long, and one if the page has too many lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    faults = [f"line {n}: {len(line)} characters" for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    return faults + [f"{len(lines)} lines"] * (len(lines) > MOST_LINES.get(path, 10**6))


def twin_faults(english: Page, chinese: Page) -> list[str]:
    """Return a line for each part that two pages do not share."""
    parts = {
        "code blocks": [page.code for page in (english, chinese)],
        "levels of headings": [[level for level, _ in page.headings] for page in (english, chinese)],
        "rows of tables": [page.tables for page in (english, chinese)],
        "pictures": [[target for target, _ in page.pictures] for page in (english, chinese)],
    }
    return [f"{part}: {one} and {other}" for part, (one, other) in parts.items() if one != other]


def unreferenced_pictures(folder: Path, pages: list[Path]) -> list[str]:
    """Return the names of files in a folder of pictures that no page shows or links to."""
    used = set()
    for path in pages:
        page = read(path)
        targets = [*page.links, *(target for target, _ in page.pictures)]
        used |= {(path.parent / unquote(urlsplit(target).path)).resolve() for target in targets}
    return [file.name for file in sorted(folder.rglob("*")) if file.is_file() and file.resolve() not in used]


# --- the pages ---


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_links_and_anchors_resolve(path):
    faults = link_faults(path)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_lines_and_pages_are_short(path):
    faults = length_faults(path)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_pictures_have_a_text_alternative(path):
    assert [target for target, text in read(path).pictures if not text.strip()] == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_have_title_switch_and_related_pages(path):
    assert layout_faults(path) == []


@pytest.mark.parametrize("path", TWINS, ids=name_of)
def test_chinese_page_has_the_parts_of_the_english_page(path):
    faults = twin_faults(read(path), read(twin_of(path)))
    assert not faults, "\n".join(faults)


def test_chinese_pages_have_an_english_page():
    assert {path.name for path in PAGES} == {name for path in ENGLISH_PAGES for name in (path.name, twin_of(path).name)}


def test_readmes_switch_the_language_near_the_top():
    for path in READMES:
        assert any(is_switch(line, path) for line in path.read_text(encoding="utf-8").splitlines()[:12])


def test_readmes_have_the_same_commands():
    english, chinese = (read(path).commands for path in READMES)
    assert english == chinese and english


def test_pictures_are_used_and_small():
    assert unreferenced_pictures(DOCS / "images", list(ALL)) == []
    assert sum(file.stat().st_size for file in (DOCS / "images").rglob("*")) < MOST_PICTURE_BYTES


def test_generated_files_are_current():
    assert find_stale_files(DOCS) == []


# --- the checks themselves, on small pages with planted faults ---


@pytest.mark.parametrize(
    "heading, anchor",
    [
        ("Train on COCO", "train-on-coco"),
        ("1. Arrange the images: COCO, VOC", "1-arrange-the-images-coco-voc"),
        ("`ema_decay` — 0.9998¹", "ema_decay--09998"),
        ("评估与推理（COCO）", "评估与推理coco"),
        ("What *is* a [link](x.md)?", "what-is-a-link"),
    ],
)
def test_anchors_are_those_of_github(heading, anchor):
    assert parse_page(f"## {heading}\n").headings == [(2, anchor)]


def test_repeated_headings_get_numbers():
    assert parse_page("# A\n\n## A\n\n### a\n").anchors == {"a", "a-1", "a-2"}
    assert github_anchor("") == ""


@pytest.mark.parametrize(
    "text, fault",
    [
        ("[a](other.md)", None),
        ("[a](other.md#two-words)", None),
        ("[a](#here)", None),
        ('<a id="x"></a>[a](#x)', None),
        ("[a][b]\n\n[b]: other.md", None),
        ("[a](https://example.com/x#y)", None),
        ("`[a](missing.md)`", None),
        ("[a](missing.md)", "missing.md: no such file"),
        ("[a](other.md#missing)", "other.md#missing: no such anchor"),
        ("[a](#missing)", "#missing: no such anchor"),
        ("[a][b]\n\n[b]: missing.md", "missing.md: no such file"),
        ("[a][missing]", "[a][missing]: no definition"),
        ("| a |\n|---|\n| [a](missing.md) |", "missing.md: no such file"),
        ("![a](missing.png)", "missing.png: no such file"),
        ('<img src="missing.png" alt="a">', "missing.png: no such file"),
    ],
)
def test_planted_link_is_found(text, fault, tmp_path):
    (tmp_path / "other.md").write_text("# Two words\n")
    (tmp_path / "page.md").write_text(f"# Here\n\n{text}\n")
    assert link_faults(tmp_path / "page.md") == ([fault] if fault else [])


def test_pages_on_github_are_no_files():
    assert is_github_page(ROOT, "../../actions/workflows/ci.yml")
    assert is_github_page(DOCS, "../../../../../../issues")
    assert not is_github_page(DOCS, "../../issues") and not is_github_page(ROOT, "../../configs")


def test_planted_link_from_chinese_to_english_is_found(tmp_path):
    for name in ("page.md", "other.md", "other_CN.md"):
        (tmp_path / name).write_text("# A\n")
    text = "# A\n\n[English](page.md) | 简体中文\n\n[a](other_CN.md) "
    (tmp_path / "page_CN.md").write_text(text)
    assert link_faults(tmp_path / "page_CN.md") == []
    (tmp_path / "page_CN.md").write_text(f"{text} [b](other.md#a)")
    assert link_faults(tmp_path / "page_CN.md") == ["other.md#a: not the Chinese page"]


TEXT = "# A\n\n## B\n\n```\nmake x\n```\n\n| a |\n|---|\n| b |\n\n![c](d.png)\n"


@pytest.mark.parametrize(
    "old, new, part",
    [
        ("## B", "### B", "levels of headings"),
        ("make x", "make y", "code blocks"),
        ("| b |\n", "| b |\n| c |\n", "rows of tables"),
        ("d.png", "e.png", "pictures"),
    ],
)
def test_planted_difference_of_twins_is_found(old, new, part):
    assert twin_faults(parse_page(TEXT), parse_page(TEXT.replace("# A", "# 中文"))) == []
    (fault,) = twin_faults(parse_page(TEXT), parse_page(TEXT.replace(old, new)))
    assert fault.startswith(part)


def test_planted_faults_of_layout_are_found(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# A\n\nEnglish | [简体中文](page_CN.md)\n\nText.\n\nSee also: [B](b.md)\n")
    assert layout_faults(path) == [] and length_faults(path) == []
    path.write_text("## A\n\n[English](page.md) | 简体中文\n\n" + "x" * 161 + "\n")
    assert len(layout_faults(path)) == 3 and length_faults(path) == ["line 5: 161 characters"]


def test_planted_picture_without_page_is_found(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "page.md").write_text("![text](images/a.png)\n")
    assert unreferenced_pictures(tmp_path / "images", [tmp_path / "page.md"]) == ["b.png"]
    assert parse_page("![](a.png) ![ b ](c.png)").pictures == [("a.png", ""), ("c.png", " b ")]


def test_commands_are_lines_of_blocks_without_language():
    text = "```\n# comment\nmake x   # comment\n\nssd train\n```\n\n```text\nno\n```\n\n```\nphotos\n├── a\n```\n"
    assert parse_page(text).commands == ["make x   # comment", "ssd train"]
