"""Write the generated files of the documentation, in examples/det/ssd/docs:

    python tools/make_docs.py            # write the files
    python tools/make_docs.py --check    # only check that the files are current

recipe-keys.md and recipe-keys_CN.md list the keys of the schema. The Chinese meanings are in
tools/docs_pages/recipe_keys_zh.yaml. images/architecture.svg draws the package from its imports.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import sys
from pathlib import Path

from docs_pages import drawing, recipe_keys
from ssd.errors import UserError, exit_cleanly, os_reason

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "examples" / "det" / "ssd" / "docs"


def generate() -> dict[str, str]:
    """Return the generated files: {path inside the folder of the pages: text}.

    Raises UserError if the translation of the recipe keys is not current.
    """
    return {**recipe_keys.write_pages(), drawing.NAME: drawing.draw_package(ROOT)}


def find_stale_files(docs: Path) -> list[Path]:
    """Return the files that are missing or differ from the generated text. docs: folder of the pages"""
    paths = {docs / name: text for name, text in generate().items()}
    return [path for path, text in paths.items() if not path.is_file() or path.read_bytes() != text.encode()]


def write_files(docs: Path) -> None:
    """Write the generated files, and print their paths. docs: folder of the pages"""
    for name, text in generate().items():
        path = docs / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        except OSError as error:
            raise UserError(
                f"{path}: the file cannot be written ({os_reason(error)}). Make the folder writable."
            ) from None
        print(path)


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with code 1 if a file is not current")
    args = parser.parse_args()
    if not args.check:
        write_files(DOCS)
        return
    stale = find_stale_files(DOCS)
    for path in stale:
        print(f"error: {path.relative_to(ROOT)}: the file is not current. Run `make docs`.", file=sys.stderr)
    sys.exit(int(bool(stale)))


if __name__ == "__main__":
    main()
