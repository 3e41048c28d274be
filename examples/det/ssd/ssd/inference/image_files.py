"""Detect objects in image files. Threads read the next images and draw the previous images while the network runs."""

from __future__ import annotations

import collections
import dataclasses
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ..boxes.multiclass_nms import Detections
from ..data.images import read_image_file
from ..errors import UserError, os_reason
from ..runtime.interrupt import Interrupt
from ..runtime.prefetch import prefetch
from ..runtime.progress import Progress
from .batch_detector import BatchDetector
from .detections_json import CocoResults
from .drawing import DEFAULT_STYLE, DrawingStyle, draw_detections
from .object_files import ObjectFiles, encode_image, unique_stems
from .output_folder import OutputFolder
from .preprocessing import PreprocessedImage
from .sources import InputImage


@dataclasses.dataclass(frozen=True)
class _BatchItem:
    """One image of a batch.

    image_id: position of the image among all inputs, from 1
    input_image: paths of the image and of its annotated copy
    preprocessed: input of the network
    """

    image_id: int
    input_image: InputImage
    preprocessed: PreprocessedImage


def predict_image_files(
    detector: BatchDetector,
    images: Sequence[InputImage],
    output: OutputFolder,
    results: CocoResults,
    batch_size: int,
    num_workers: int,
    interrupt: Interrupt,
    *,
    object_files: ObjectFiles,
    style: DrawingStyle = DEFAULT_STYLE,
) -> int:
    """Detect objects in images, add the detections to `results`, and write annotated copies of the images.

    Files that cannot be read are reported on stderr and skipped.

    output: folder for the annotated copies
    num_workers: number of threads that read and draw images
    interrupt: stop request, checked after each image; the images of complete batches are still drawn
    object_files: writer of label files and crops, if they are requested
    Returns the number of files that cannot be read.
    Raises UserError if an annotated copy cannot be written.
    """

    def read(image: InputImage) -> PreprocessedImage | OSError | ValueError:
        try:
            return detector.preprocess(read_image_file(image.path))
        except (OSError, ValueError) as error:
            return error

    stems = unique_stems(image.name for image in images)
    num_unreadable = 0
    batch: list[_BatchItem] = []
    drawings: collections.deque[Future[None]] = collections.deque()
    with Progress(len(images), "predicting", "images") as progress, ThreadPoolExecutor(num_workers) as pool:
        preprocessed = prefetch(pool, read, images, ahead=2 * batch_size)
        for image_id, (image, result) in enumerate(zip(images, preprocessed), start=1):
            is_last = image_id == len(images)
            if isinstance(result, Exception):
                num_unreadable += 1
                reason = (
                    f"the file cannot be read ({os_reason(result)})" if isinstance(result, OSError) else str(result)
                )
                progress.bar.write(f"{image.path}: {reason}. The file is skipped.", file=sys.stderr)
                progress.update()
            else:
                batch.append(_BatchItem(image_id, input_image=image, preprocessed=result))
            if len(batch) == batch_size or (batch and is_last):
                found = detector.detect_batch([item.preprocessed for item in batch], batch_size)
                for item, detections in zip(batch, found):
                    results.add(item.image_id, item.input_image.name, detections)
                    drawing = pool.submit(
                        draw_image_file,
                        item.input_image,
                        output=output,
                        detections=detections,
                        classes=detector.classes,
                        style=style,
                        object_files=object_files,
                        stem=stems[item.input_image.name],
                    )
                    drawings.append(drawing)
                batch = []
            while drawings and (drawings[0].done() or len(drawings) > 2 * batch_size or is_last):
                drawings.popleft().result()
                progress.update()
            if interrupt:
                break
        for drawing in drawings:
            drawing.result()
    return num_unreadable


def draw_image_file(
    image: InputImage,
    output: OutputFolder,
    detections: Detections,
    classes: Sequence[str],
    *,
    style: DrawingStyle,
    object_files: ObjectFiles,
    stem: str,
) -> None:
    """Write an annotated copy of an image, with the detections drawn on the image, and its label file and crops.

    The copy of a JPEG file is a JPEG file of quality 95. The copy of a file in any other format is a PNG file. The
    image is read again for drawing, because a batch of large images would take gigabytes of memory.

    output: folder for the annotated copies
    detections: detections with boxes in pixels of the upright image
    classes: class names by label, background first
    stem: path of the label file without its suffix
    Raises UserError if a file cannot be written.
    """
    target = output.path / image.output_name
    try:
        pixels = read_image_file(image.path)
        drawn = draw_detections(
            pixels,
            boxes_yxyx=detections.boxes_yxyx,
            scores=detections.scores,
            labels=detections.labels,
            classes=classes,
            style=style,
        )
        output.unfinished(image.output_name).write_bytes(encode_image(drawn, target.suffix))
        suffix = target.suffix.lower() if target.suffix.lower() == ".png" else ".jpg"
        for name in (image.output_name, *object_files.write(pixels, detections, stem=stem, suffix=suffix)):
            output.publish(name)
    except OSError as error:
        raise UserError(
            f"{target}: the annotated copy of {image.path} cannot be written ({os_reason(error)}). "
            "Check that the folder is writable and the disk has free space."
        ) from None
