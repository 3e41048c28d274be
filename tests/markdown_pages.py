"""Parse pages of the documentation as GitHub shows them: headings with anchors, links, pictures, code and tables."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "examples" / "det" / "ssd" / "docs"
READMES = (ROOT / "README.md", ROOT / "README_CN.md")
ENGLISH_ONLY = (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
PAGES = tuple(sorted(DOCS.glob("*.md")))
ENGLISH_PAGES = tuple(path for path in PAGES if not path.stem.endswith("_CN"))
ALL = (*READMES, *ENGLISH_ONLY, *PAGES)


@dataclasses.dataclass
class Page:
    """The parts of a page, in their order.

    text: whole Markdown text
    headings: (level, anchor) of each heading
    anchors: anchors of headings and HTML elements, to which a link may point
    links: targets of links, as written
    pictures: (target, alternative text)
    code: (language, content) of each fenced block
    tables: number of rows of each table, with the row of headings
    unresolved: texts that look like reference-style links without a definition
    """

    text: str
    headings: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    anchors: set[str] = dataclasses.field(default_factory=set)
    links: list[str] = dataclasses.field(default_factory=list)
    pictures: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    code: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    tables: list[int] = dataclasses.field(default_factory=list)
    unresolved: list[str] = dataclasses.field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """The lines of blocks with commands, without comments. Trees of folders and other languages are left out."""
        blocks = [content for language, content in self.code if language in ("", "bash", "sh", "shell", "console")]
        lines = [line.strip() for block in blocks if "── " not in block for line in block.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]


class HtmlReader(HTMLParser):
    """Add the links, pictures and anchors of HTML inside Markdown to a page."""

    def __init__(self, page: Page):
        super().__init__()
        self.page = page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        if tag == "img":
            self.page.pictures.append((values.get("src", ""), values.get("alt", "")))
        if tag == "source" and "srcset" in values:  # a picture for dark mode; its text is that of the <img>
            self.page.links.append(values["srcset"])


def parse_page(text: str) -> Page:
    """Parse the Markdown text of a page."""
    page, repeated = Page(text), Counter[str]()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, following in zip(tokens, [*tokens[1:], None]):
        if token.type == "heading_open" and following is not None:
            anchor = github_anchor(heading_text(following))
            page.headings.append((int(token.tag[1]), anchor))
            page.anchors.add(anchor + f"-{repeated[anchor]}" * (repeated[anchor] > 0))
            repeated[anchor] += 1
        elif token.type == "fence":
            page.code.append((token.info.strip(), token.content))
        elif token.type == "table_open":
            page.tables.append(0)
        elif token.type == "tr_open":
            page.tables[-1] += 1
        elif token.type == "html_block":
            HtmlReader(page).feed(token.content)
        for child in token.children or []:
            _read_inline(child, page)
    return page


def _read_inline(token: Token, page: Page) -> None:
    if token.type == "link_open":
        page.links.append(str(token.attrs["href"]))
    elif token.type == "image":
        page.pictures.append((str(token.attrs["src"]), token.content))
    elif token.type == "html_inline":
        HtmlReader(page).feed(token.content)
    elif token.type == "text":
        page.unresolved += re.findall(r"\[[^\]\[]+\]\[[^\]\[]*\]", token.content)


def heading_text(inline: Token) -> str:
    """Return the text of a heading as displayed, without marks of emphasis, code and links."""
    return "".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline"))


def github_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading: lower case, hyphens for spaces, and no punctuation.

    Letters, marks, decimal digits, connectors such as "_", and hyphens stay, in any script.
    """
    kept = [
        character
        for character in heading.lower()
        if character in " -"
        or unicodedata.category(character)[0] in "LM"
        or unicodedata.category(character) in ("Nd", "Pc")
    ]
    return "".join(kept).replace(" ", "-")


def twin_of(path: Path) -> Path:
    """Return the path of the same page in Chinese."""
    return path.with_name(f"{path.stem}_CN.md")
