"""Fit the sizes and ratios of a recipe's default boxes to your data, and show what they reach before and after:

    python tools/anchors.py --config RECIPE --data_dir D [--output FOLDER] [--ratios 1,2,2,2,2,2] [--key value …]

D is what create_data.py wrote. Values are fitted to the objects of train and judged on those of val, or where it has
none, on a fifth of train's images, held back for it. Boxes are those of whole images stretched to image_size, as
evaluation sees them. Recall is the share of objects that some anchor, at its place, overlaps by more than an IoU.

Prints recall, lines to paste into the recipe, and the same as options; FOLDER, by default output_dir, gets anchors.png.
The number of anchors stays, and with it cost and parameters, unless --ratios says how many aspect_ratios each level
gets: each is two boxes, beside two squares. Without it, a first level without ratios stays as it is: three boxes, two
of which follow min_scale. Where nothing better is found, the recipe's values stay.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"))  # where the package is

import numpy as np  # noqa: E402

from anchor_fit import Objects  # noqa: E402
from anchor_fit.figure import draw_figure  # noqa: E402
from anchor_fit.overlap import best_iou, shapes_of  # noqa: E402
from anchor_fit.search import Values, anchors_of, fit, is_better  # noqa: E402
from anchor_fit.text import advise, describe_anchors, describe_part, options, recipe_lines, tabulate  # noqa: E402
from ssd.config.command_line import parse_recipe_and_options  # noqa: E402
from ssd.config.loading import Config  # noqa: E402
from ssd.errors import UserError, exit_cleanly  # noqa: E402

OPTIONS = {
    "output": {"help": "folder for anchors.png [output_dir]"},
    "ratios": {"metavar": "N,N", "help": "how many ratios each level gets, 0 to 4 [as many as the recipe has]"},
}


def parse_ratios(text: str | None, cfg: Config) -> list[int] | None:
    """Raises UserError."""
    words = (text or "").split(",")
    if text is None:
        return None
    if len(words) != len(cfg.steps) or any(word.strip() not in list("01234") for word in words):
        raise UserError(
            f"--ratios: got {text!r}, expected {len(cfg.steps)} numbers from 0 to 4 with commas between, one for each "
            "of `steps`; write them so: 1,2,2,2"
        )
    return [int(word) for word in words]


def make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: got {error.strerror.lower()}, expected a folder to write to; choose another --output"
        ) from None
    return path


def report(parts: dict[str, Objects], cfg: Config, ratios: list[int] | None, path: Path) -> None:
    """Fit to the first part, judge on the second, print what came of it and draw it."""
    (fitted, train), (judged, others) = parts.items()
    start = time.monotonic()
    before, values = anchors_of(cfg, None), fit(train, cfg, ratios)
    seconds = time.monotonic() - start
    ious = {name: [best_iou(part.boxes_yxyx, before)] for name, part in parts.items()}
    new = {name: best_iou(part.boxes_yxyx, anchors_of(cfg, values)) for name, part in parts.items()}
    if ratios is None and not all(is_better(*ious[name], new[name], parts[name].labels, cfg) for name in parts):
        values, new = None, {}
    for name in new:
        ious[name].append(new[name])
    after = anchors_of(cfg, values)
    drawn = {"before": before, "after": after} if values else {"before": before}
    draw_figure(
        path,
        f"Default boxes fitted to {len(train):,} objects of {fitted}, judged on {len(others):,} objects of {judged}",
        dict(zip(drawn, ious[judged])),
        train.sides(cfg.image_size),
        {name: np.concatenate(shapes_of(anchors)) * cfg.image_size for name, anchors in drawn.items()},
        cfg.image_size,
        cfg.match_threshold,
    )
    print(f"the recipe: {describe_anchors(before)}, input {cfg.image_size[1]}x{cfg.image_size[0]}")
    print(f"fitted to {describe_part(fitted, train)} in {seconds:.1f} s, judged on {describe_part(judged, others)}\n")
    print(*tabulate(parts, ious, cfg), "", sep="\n")
    if values is None:
        print("no better values were found for both: keep the recipe's")
    else:
        print_values(values, before, after)
    if ratios is None and cfg.box_sizes is None and not cfg.aspect_ratios[0]:
        full = ",".join(str(max(1, len(own))) for own in cfg.aspect_ratios)
        print(f"the smallest box of the reduced first level is fixed; with --ratios {full} all boxes are fitted")
    for line in advise(judged, others, ious[judged][-1], after, cfg):
        print(line)
    print(f"figure: {path}")


def print_values(values: Values, before, after) -> None:
    print("into the recipe:", *recipe_lines(values), sep="\n")
    print(f"\nor as options: {options(values)}\n")
    if before.num_per_location == after.num_per_location:
        print(
            f"as many anchors as before: {len(after):,}. The heads must be trained with the new values: a detector "
            "that was trained with others is refused, and --pretrained_detector leaves its predictors out"
        )
    else:
        print(
            f"instead of {len(before):,} anchors: {describe_anchors(after)}. The heads have other channels for it, and "
            "must be trained with the new values"
        )


@exit_cleanly
def main() -> None:
    cfg, args = parse_recipe_and_options(__doc__, OPTIONS)
    if cfg.anchors != "default":
        raise UserError(
            f"anchors: got {cfg.anchors}, whose boxes follow `steps` and have no keys, expected default, whose sizes "
            "and ratios can be fitted; choose another recipe"
        )
    ratios = parse_ratios(args.ratios, cfg)

    from anchor_fit.reading import read_parts  # MindSpore loads here, after all mistakes of the command line

    parts = read_parts(Path(cfg.data_dir))
    output = make_folder(Path(args.output or cfg.output_dir))
    report(parts, cfg, ratios, output / "anchors.png")


if __name__ == "__main__":
    main()
