"""Convert annotated images to MindRecord shards:

    python examples/det/ssd/create_data.py coco --data_path D --out_path O
    python examples/det/ssd/create_data.py voc --data_path D --out_path O --train_split trainval --val_split 2007/test
    python examples/det/ssd/create_data.py yolo --data_path D --out_path O --val_fraction 0.2

A report comes first: what is in the data, what is wrong with it, and with --config what a recipe makes of it.
O gets train/coco0 …, val/coco0 …, the validation annotations, and dataset.json, from which recipes take the classes; it
is what recipes call `data_dir`. docs/own-data.md says how each form lies on the disk.
"""

import argparse
import os
from pathlib import Path

from ssd.errors import exit_cleanly


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["coco", "voc", "yolo"], help="form of the annotations")
    parser.add_argument("--data_path", type=Path, required=True, help="folder of the annotated images")
    parser.add_argument("--out_path", type=Path, required=True, help="folder to write")
    parser.add_argument("--train_split", nargs="+", metavar="NAME", help="splits to train on [train2017 or train]")
    parser.add_argument("--val_split", nargs="+", metavar="NAME", help="splits to validate on [val2017, val or valid]")
    parser.add_argument("--val_fraction", type=float, help="validate on this share of the training split instead")
    parser.add_argument("--keep_empty", choices=["true", "false"], default="true", help="images without objects train")
    parser.add_argument("--names", type=Path, help="yolo: data.yaml or a list of class names, where it is not found")
    parser.add_argument("--config", help="recipe whose anchors the report compares with the objects")
    parser.add_argument("--report_only", action="store_true", help="read every image, and write nothing")
    parser.add_argument("--num_workers", type=int, default=min(8, os.cpu_count()), help="threads that read images")
    parser.add_argument("--overwrite", action="store_true", help="replace the shards that are there")
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    args = parse_args()  # before MindSpore loads, so that a mistake is told at once

    from ssd.boxes.anchors import create_anchors
    from ssd.config.loading import load_config
    from ssd.data.inspection.anchor_recall import AnchorSet
    from ssd.data.inspection.image_check import check_images
    from ssd.data.inspection.report import describe
    from ssd.data.readers.splits import open_folder, read_splits

    # Not the recipe's own data_dir, which may hold a finished set with other classes.
    cfg = load_config(args.config, {"data_dir": str(args.data_path)}) if args.config else None
    folder = open_folder(args.kind, args.data_path, args.names)
    train, val = read_splits(folder, args.train_split, args.val_split, args.val_fraction, args.keep_empty == "true")
    recipe = AnchorSet(create_anchors(cfg).boxes_yxyx, cfg.image_size, cfg.match_threshold) if cfg else None
    num_workers = max(args.num_workers, 1)
    # A conversion looks at each image itself, and stops at the first that is broken.
    broken = check_images(train, val, num_workers) if args.report_only else {}
    print(describe(train, val, recipe, broken), flush=True)
    if args.report_only:
        return

    from ssd.data.mindrecord import convert

    info = convert(train, val, args.out_path, args.overwrite, num_workers)
    crowds = "difficult objects" if args.kind == "voc" else "crowd regions"
    for name, split in (("train", info.train), ("val", info.val)):
        print(
            f"{args.out_path / name}: {split.images} images, {split.boxes} boxes, {split.max_boxes} at most in an "
            f"image; left out: {split.crowd_boxes} {crowds}, {split.dropped_boxes} degenerate boxes"
        )
    print(f"{len(info.classes) - 1} classes: {', '.join(info.classes[1:])}")


if __name__ == "__main__":
    main()
