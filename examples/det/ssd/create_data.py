"""Convert annotated images to MindRecord shards:

    python examples/det/ssd/create_data.py coco --data_path D --out_path O
    python examples/det/ssd/create_data.py voc --data_path D --out_path O --train_split trainval --val_split 2007/test
    python examples/det/ssd/create_data.py yolo --data_path D --out_path O --val_fraction 0.2

D is the folder of the images and annotations. docs/data.md describes the folder layout of each annotation format.

The command first prints a report: statistics of the dataset, problems in the dataset and, with --config, how well the
anchors of a recipe fit the ground-truth boxes. The command then writes the shards train/coco0 … and val/coco0 …, the
validation annotations and dataset.json to the folder O. Set the recipe key data_dir to O to train on the shards.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import os
from pathlib import Path

from ssd.data.readers.splits import FORMATS, open_dataset_folder, read_splits
from ssd.errors import count_noun, exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.launch import leave_launch


def usual_splits(attribute: str) -> str:
    """Return help text with the usual split names of each format, such as "coco: val2017 or val; voc: val".

    attribute: "train_splits" or "val_splits", an attribute of the classes in FORMATS
    """
    return "; ".join(f"{name}: {' or '.join(getattr(folder, attribute))}" for name, folder in FORMATS.items())


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=list(FORMATS), help="format of the annotations")
    parser.add_argument("--data_path", type=Path, required=True, help="folder of the images and annotations")
    parser.add_argument("--out_path", type=Path, required=True, help="folder to write the shards to")
    parser.add_argument(
        "--train_split",
        nargs="+",
        metavar="NAME",
        help=f"names of the training splits, which are merged [{usual_splits('train_splits')}]",
    )
    parser.add_argument(
        "--val_split",
        nargs="+",
        metavar="NAME",
        help=f"names of the validation splits, which are merged [{usual_splits('val_splits')}]",
    )
    parser.add_argument(
        "--val_fraction",
        type=float,
        metavar="FRACTION",
        help="fraction of the training images to hold out for validation, instead of --val_split; above 0 and below 1",
    )
    parser.add_argument(
        "--keep_empty",
        choices=["true", "false"],
        default="true",
        help="keep images without ground-truth boxes in the training split [true]",
    )
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="yolo only: data.yaml, or a text file with one class name per line; required if --data_path has neither",
    )
    parser.add_argument(
        "--image_dir",
        type=Path,
        metavar="FOLDER",
        help="coco only: folder of the images of both splits; needed only if it is not found in --data_path",
    )
    parser.add_argument(
        "--boxes_in",
        choices=["upright", "stored"],
        help="pixels that boxes refer to if EXIF data rotate images: upright, as labelling tools show the images, or "
        "as stored [decided by boxes and stated image sizes; upright if these leave it open]",
    )
    parser.add_argument(
        "--follow_links",
        action="store_true",
        help="read files outside --data_path and --image_dir too, to which file names in annotations, data.yaml or "
        "links lead; only for datasets that you trust",
    )
    parser.add_argument("--config", help="recipe whose anchors the report compares with the ground-truth boxes")
    parser.add_argument(
        "--report_only", action="store_true", help="decode every image and print the report without writing any file"
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="decode every image, and stop at damaged pixels, not only at incomplete files",
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="number of threads that read images [number of CPU cores, at most 8]",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing shards in --out_path")
    return parser.parse_args()


@exit_cleanly
@report_silence
def main() -> None:
    args = parse_args()  # parse before the slow imports: --help and invalid arguments then do not load MindSpore
    leave_launch()

    from ssd.boxes.anchors import create_anchors
    from ssd.config.loading import load_config
    from ssd.data.inspection.anchor_recall import AnchorSet
    from ssd.data.inspection.image_check import check_images
    from ssd.data.inspection.report import summarize_dataset
    from ssd.runtime.writable_folder import require_writable

    if not args.report_only:
        require_writable(args.out_path, key="--out_path")  # reading the annotations of COCO takes half a minute
    # Override data_dir, because the data_dir of the recipe may contain a dataset with other classes.
    cfg = load_config(args.config, {"data_dir": str(args.data_path)}) if args.config else None
    folder = open_dataset_folder(
        args.format,
        args.data_path,
        names_path=args.names,
        image_dir=args.image_dir,
        follow_links=args.follow_links,
    )
    train, val = read_splits(
        folder,
        train_splits=args.train_split,
        val_splits=args.val_split,
        val_fraction=args.val_fraction,
        keep_empty=args.keep_empty == "true",
        boxes_in=args.boxes_in,
    )
    anchor_set = AnchorSet(create_anchors(cfg).boxes_yxyx, cfg.image_size, cfg.match_threshold) if cfg else None
    num_workers = max(args.num_workers, 1)
    # Without --report_only, the conversion below checks the images and stops at the first unusable image.
    image_problems = check_images(train, val, num_workers) if args.report_only else {}
    print(summarize_dataset(train, val, anchor_set=anchor_set, more_problems=image_problems), flush=True)
    if args.report_only:
        return

    from ssd.data.mindrecord import convert

    info = convert(train, val, args.out_path, overwrite=args.overwrite, num_workers=num_workers, decode=args.decode)
    crowd = "difficult object" if args.format == "voc" else "crowd region"
    for name, split in (("train", info.train), ("val", info.val)):
        images, boxes = count_noun(split.images, "image"), count_noun(split.boxes, "box", "boxes")
        degenerate = count_noun(split.dropped_boxes, "box thinner than 1 pixel", "boxes thinner than 1 pixel")
        print(
            f"{args.out_path / name}: wrote {images} with {boxes}, at most "
            f"{count_noun(split.max_boxes, 'box', 'boxes')} in an image. Boxes left out: "
            f"{count_noun(split.crowd_boxes, crowd)} and {degenerate}."
        )
    print(f"{count_noun(len(info.classes) - 1, 'class', 'classes')}: {', '.join(info.classes[1:])}")


if __name__ == "__main__":
    main()
