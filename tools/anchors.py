"""Fit the sizes and aspect ratios of a recipe's default boxes to a dataset, and report recall before and after:

    python tools/anchors.py --config RECIPE --data_dir D [--output FOLDER] [--ratios 1,2,2,2,2,2] [--key value …]

D is the output folder of create_data.py. The default boxes are fitted to the training split and evaluated on the
validation split. Without a validation split, a fifth of the training images is held out for the evaluation. Images are
stretched to image_size, as in evaluation. Recall is the fraction of ground-truth boxes whose IoU with at least one
anchor is above a threshold.

The command prints recall and the fitted values, as lines for the recipe and as command-line options. The command also
writes the figure anchors.png to FOLDER, which is output_dir by default. If the search finds no better values, the
command prints no values.

The number of anchors and the model size do not change, unless --ratios sets the number of aspect ratios for each level.
A level has two squares and two anchors per aspect ratio at each location. Without --ratios, a first level without
aspect ratios keeps its three anchors: one anchor of fixed size, and two anchors whose size depends on min_scale.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anchor_fit import GroundTruth
from anchor_fit.figure import draw_figure
from anchor_fit.overlap import anchor_shapes, best_iou
from anchor_fit.search import AnchorSettings, create_anchors_with, fit_default_boxes, is_better
from anchor_fit.text import (
    command_line_options,
    explain_missed_boxes,
    recall_table,
    recipe_lines,
    summarize_anchors,
    summarize_split,
)
from ssd.boxes.anchors import Anchors
from ssd.config.command_line import parse_recipe_and_options
from ssd.config.schema import Config
from ssd.errors import UserError, exit_cleanly, os_reason
from ssd.runtime.archive import archive_files
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.launch import leave_launch

OPTIONS = {
    "output": {"help": "output folder for anchors.png [output_dir of the recipe]"},
    "ratios": {"metavar": "N,N", "help": "number of aspect ratios (0 to 4) for each feature level [as in the recipe]"},
}


def parse_ratios(text: str | None, num_levels: int) -> list[int] | None:
    """Parse the value of --ratios into the number of aspect ratios for each feature level.

    text: value of --ratios; None if the option is not set
    num_levels: number of feature levels
    Returns None if the option is not set.
    Raises UserError if the value is not a list of `num_levels` numbers from 0 to 4.
    """
    if text is None:
        return None
    numbers = [number.strip() for number in text.split(",")]
    if len(numbers) != num_levels or any(number not in list("01234") for number in numbers):
        example = ",".join(["1", *["2"] * (num_levels - 1)])
        raise UserError(
            f"--ratios: {text!r} is not a list of {num_levels} numbers from 0 to 4, one for each level in `steps`. "
            f"Set, for example, --ratios {example}."
        )
    return [int(number) for number in numbers]


def make_output_folder(path: Path) -> Path:
    """Create a folder if it does not exist, and return its path. Raises UserError if the folder cannot be created."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = os_reason(error)
        raise UserError(f"{path}: the folder cannot be created ({reason}). Set --output to another folder.") from None
    return path


def fit_and_report(
    splits: dict[str, GroundTruth], cfg: Config, ratios_per_level: Sequence[int] | None, figure_path: Path
) -> None:
    """Fit default boxes to the first split, evaluate the boxes on both splits, print the results and draw the figure.

    splits: {name: ground truth} of two splits, for example {"train": …, "val": …}
    cfg: Config of the recipe
    ratios_per_level: number of aspect ratios for each feature level; None for the numbers in the recipe
    figure_path: path of the PNG file to write
    """
    (fitted_name, fitted), (evaluated_name, evaluated) = splits.items()
    start = time.monotonic()
    before = create_anchors_with(cfg, None)
    settings: AnchorSettings | None = fit_default_boxes(fitted, cfg, ratios_per_level)
    seconds = time.monotonic() - start
    ious = {name: [best_iou(split.boxes_yxyx, before)] for name, split in splits.items()}
    new_anchors = create_anchors_with(cfg, settings)
    new_ious = {name: best_iou(split.boxes_yxyx, new_anchors) for name, split in splits.items()}
    all_better = all(
        is_better(before=ious[name][0], after=new_ious[name], labels=split.labels, match_threshold=cfg.match_threshold)
        for name, split in splits.items()
    )
    if all_better or ratios_per_level is not None:
        for name in splits:
            ious[name].append(new_ious[name])
    else:
        settings = None
    after = create_anchors_with(cfg, settings)
    drawn = {"before": before, "after": after} if settings else {"before": before}
    archive = archive_files(figure_path.parent, [figure_path] if figure_path.is_file() else [], key="--output")
    if archive:
        print(f"Moved the figure of an earlier run to {archive}.")
    draw_figure(
        path=figure_path,
        title=f"Default boxes fitted to {len(fitted):,} ground-truth boxes of {fitted_name}, "
        f"evaluated on {len(evaluated):,} ground-truth boxes of {evaluated_name}",
        ious=dict(zip(drawn, ious[evaluated_name])),
        sizes_hw=fitted.sizes_hw(cfg.image_size),
        shapes_hw={name: np.concatenate(anchor_shapes(anchors)) * cfg.image_size for name, anchors in drawn.items()},
        image_size=cfg.image_size,
        match_threshold=cfg.match_threshold,
    )
    print(f"recipe: {summarize_anchors(before)}; network input {cfg.image_size[1]}x{cfg.image_size[0]} pixels")
    print(f"fitted to {summarize_split(fitted_name, fitted)} in {seconds:.1f} s")
    print(f"evaluated on {summarize_split(evaluated_name, evaluated)}\n")
    print(*recall_table(splits, ious, cfg), "", sep="\n")
    if settings is None:
        print("The search found no values that are better on both splits. Keep the values of the recipe.")
    else:
        print_settings(settings, before, after)
    if ratios_per_level is None and cfg.box_sizes is None and not cfg.aspect_ratios[0]:
        all_fitted = ",".join(str(max(1, len(ratios))) for ratios in cfg.aspect_ratios)
        print(f"The smallest anchor of the first level has a fixed size. Set --ratios {all_fitted} to fit all anchors.")
    missed = explain_missed_boxes(
        split=evaluated_name, ground_truth=evaluated, best_ious=ious[evaluated_name][-1], anchors=after, cfg=cfg
    )
    for line in missed:
        print(line)
    print(f"figure: {figure_path}")


def print_settings(settings: AnchorSettings, before: Anchors, after: Anchors) -> None:
    """Print the fitted values as recipe lines and command-line options, and explain why they need a new training run.

    settings: fitted values
    before: anchors of the recipe
    after: anchors with the fitted values
    """
    print("lines for the recipe:", *recipe_lines(settings), sep="\n")
    print(f"\nthe same values as command-line options: {command_line_options(settings)}\n")
    if before.num_per_location == after.num_per_location:
        print(
            f"The number of anchors is {len(after):,}, as before. Train a new detector with these values. Checkpoints "
            "of detectors with other anchors are rejected, and --pretrained_detector skips their box heads."
        )
    else:
        print(
            f"The number of anchors changes from {len(before):,} to {summarize_anchors(after)}. Train a new detector "
            "with these values, because the number of channels of the prediction layers changes too."
        )


@exit_cleanly
@report_silence
def main() -> None:
    cfg, args = parse_recipe_and_options(__doc__, OPTIONS)
    leave_launch()
    if cfg.anchors != "default":
        raise UserError(
            f"anchors: the sizes of {cfg.anchors} anchors are computed from `steps` and cannot be fitted. "
            "Use a recipe with `anchors: default`."
        )
    ratios_per_level = parse_ratios(args.ratios, len(cfg.steps))

    # This import loads MindSpore, which takes seconds, so import after the checks of the command line.
    from anchor_fit.reading import read_train_and_val

    splits = read_train_and_val(Path(cfg.data_dir))
    output = make_output_folder(Path(args.output or cfg.output_dir))
    fit_and_report(splits, cfg, ratios_per_level, figure_path=output / "anchors.png")


if __name__ == "__main__":
    main()
