"""Convert annotated images to MindRecord shards:

    python examples/det/ssd/create_data.py coco --data_path D --out_path O

D holds annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/ and val2017/.
O gets train/coco0 …, val/coco0 …, the validation annotations, and dataset.json; it is what recipes call `data_dir`.
"""

import argparse
import os
from pathlib import Path

from ssd.errors import exit_cleanly


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["coco"], help="form of the annotations")
    parser.add_argument("--data_path", type=Path, required=True, help="folder of the annotated images")
    parser.add_argument("--out_path", type=Path, required=True, help="folder to write")
    parser.add_argument("--num_workers", type=int, default=min(8, os.cpu_count()), help="threads that read images")
    parser.add_argument("--overwrite", action="store_true", help="replace the shards that are there")
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    args = parse_args()  # before MindSpore loads, so that a mistake is told at once

    from ssd.data.coco import read_coco
    from ssd.data.mindrecord import convert

    train, val = (
        read_coco(args.data_path / "annotations" / f"instances_{split}.json", args.data_path / split)
        for split in ("train2017", "val2017")
    )
    info = convert(train, val, args.out_path, args.overwrite, max(args.num_workers, 1))
    for name, split in (("train", info.train), ("val", info.val)):
        print(
            f"{args.out_path / name}: {split.images} images, {split.boxes} boxes, {split.max_boxes} at most in an "
            f"image; left out: {split.crowd_boxes} crowd regions, {split.dropped_boxes} degenerate boxes"
        )
    print(f"{len(info.classes) - 1} classes: {', '.join(info.classes[1:])}")


if __name__ == "__main__":
    main()
