"""Export a checkpoint as ONNX or MINDIR model. A model is written only after its outputs equal those of MindSpore."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import mindspore as ms
import mindspore.nn as nn
import onnx
from mindspore import Tensor

from .. import __version__
from ..boxes.multiclass_nms import Detections
from ..checkpoints.choice import choose_checkpoint, describe_checkpoint
from ..checkpoints.loading import load_weights
from ..checkpoints.metadata import describe_mismatches
from ..checkpoints.metadata import read_metadata as read_checkpoint_metadata
from ..checkpoints.records import read_progress
from ..config.metadata import model_metadata
from ..config.schema import Config
from ..errors import UserError, os_reason
from ..inference.network import create_inference_net, create_nms
from ..inference.stored_classes import find_category_ids, with_stored_classes
from ..models.detector import SSD, create_detector, zero_weights
from ..normalization import IMAGENET_MEAN, IMAGENET_STD
from ..runtime.atomic_write import replace_folder
from ..runtime.device import create_runtime
from ..runtime.folder_lock import lock_folder
from ..runtime.heartbeat import activity
from .atc import write_script
from .comparison import (
    Outputs,
    check_candidates,
    check_detections,
    compare_anchors,
    compare_candidates,
    load_images,
    load_training_images,
    select_with_host_nms,
)
from .detector import to_model_input
from .export_request import ExportOptions, ExportRequest
from .exportable_layers import make_exportable
from .mindir_session import MindirSession
from .model_metadata import (
    MODEL_NAMES,
    InputInfo,
    ModelMetadata,
    Thresholds,
    file_sha256,
    read_metadata,
    write_metadata,
)
from .onnx_network import INPUT_NAME, convert_network
from .onnx_postprocess import NmsSettings, append_postprocess, with_all_anchors
from .reference import run_in_chunks, run_reference
from .sessions import OnnxSession

log = logging.getLogger(__name__)


class Exporter:
    """Checkpoint of a recipe that is exported in one or several formats.

    cfg: recipe; the network is exported in float32 whatever its amp_level is
    Raises UserError if the checkpoint is missing or does not fit the recipe.
    """

    def __init__(self, cfg: Config, *, name: str):
        self.checkpoint = choose_checkpoint(cfg.ckpt_path, cfg.ckpt_save_dir)
        self.name = name
        stored = read_checkpoint_metadata(self.checkpoint)
        self.cfg = with_stored_classes(cfg, stored, path=self.checkpoint)
        self.category_ids = find_category_ids(self.cfg, stored)
        create_runtime(self.cfg)
        self.images = load_images(self.cfg)
        self.detector = self._load_detector()
        log.info(f"checkpoint: {describe_checkpoint(self.checkpoint)}")
        warning = describe_mismatches({"input": model_metadata(self.cfg)["input"]}, stored, self.checkpoint)
        if warning:
            log.warning(warning)

    def export(self, model_format: str, folder: Path, request: ExportRequest) -> ModelMetadata:
        """Export the checkpoint, compare the model with MindSpore, and write the folder of the model.

        model_format: "onnx", "mindir", "air", or "om" for an ONNX model with a script that converts it to OM
        folder: folder for the model, its metadata and its labels; replaced if it exists
        Returns the metadata of the model.
        Raises UserError if the model differs from MindSpore, or if a file cannot be written.
        """
        options = request.options
        if model_format != "onnx":
            options = dataclasses.replace(options, batch_size=options.batch_size or 1)
        with _report_unwritable(folder), lock_folder(folder.parent, "--output"), replace_folder(folder) as work:
            if model_format in ("onnx", "om"):
                path = work / MODEL_NAMES["onnx"]
                differences, versions = self._write_onnx(path, folder, options)
            else:
                options = dataclasses.replace(options, nms=False)
                path = work / MODEL_NAMES[model_format]
                differences, versions = self._write_mindspore(path, folder, options)
            metadata = self._describe(path, options, differences=differences, versions=versions)
            write_metadata(work, metadata)
            if model_format == "om":
                write_script(work, metadata, soc=str(request.soc))
        return metadata

    def quantize(self, source: Path, folder: Path, quantization: Literal["int8", "float16"]) -> None:
        """Write a quantized copy of an exported ONNX model, which is calibrated on training images.

        source: folder of the ONNX model in float32
        folder: folder for the quantized model, which is replaced if it exists
        Raises UserError if data_dir contains no training images, or if a file cannot be written.
        """
        from .quantization import CALIBRATION_IMAGES, quantize_float16, quantize_int8  # slow import, rarely needed

        metadata = read_metadata(source)
        with _report_unwritable(folder), lock_folder(folder.parent, "--output"), replace_folder(folder) as work:
            path = work / metadata.file
            with activity("quantizing the model"):
                if quantization == "int8":
                    pixels = load_training_images(self.cfg, CALIBRATION_IMAGES)
                    quantize_int8(source / metadata.file, path, pixels=pixels, info=metadata.input)
                else:
                    quantize_float16(source / metadata.file, path)
            OnnxSession(path, info=metadata.input)  # onnxruntime can load the model
            update = {"sha256": file_sha256(path), "quantization": quantization, "largest_differences": {}}
            write_metadata(work, metadata.model_copy(update={**update, "compared_images": "not compared, quantized"}))

    def _load_detector(self) -> SSD:
        with zero_weights():
            detector = create_detector(self.cfg)
        metadata = model_metadata(self.cfg)
        load_weights(detector, self.checkpoint, use_ema=self.cfg.use_ema, metadata=metadata)
        detector.set_train(False)
        return detector

    def _input_info(self, options: ExportOptions) -> InputInfo:
        height, width = self.cfg.image_size
        return InputInfo(
            name=INPUT_NAME,
            layout="NCHW" if options.raw_input else "NHWC",
            height=height,
            width=width,
            batch_size=options.batch_size,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )

    def _write_onnx(self, path: Path, folder: Path, options: ExportOptions) -> tuple[dict[str, float], dict[str, str]]:
        """Write and check the ONNX model. Returns the largest differences, and versions of packages."""
        exported = self._load_detector()
        make_exportable(exported, self.cfg.image_size)
        with activity("exporting the network"):
            model = convert_network(
                exported,
                self.cfg.image_size,
                batch_size=options.batch_size,
                raw_input=options.raw_input,
            )
        settings = None
        if options.nms:
            settings = NmsSettings(self.cfg.min_score, self.cfg.nms_threshold, self.cfg.max_detections)
        append = functools.partial(
            append_postprocess,
            anchors_cyxhw=self.detector.anchors.boxes_cyxhw,
            prior_scaling=self.cfg.prior_scaling,
            num_classes=self.cfg.num_classes,
            softmax=self.cfg.loss == "multibox",
            top_k=self.cfg.pre_nms_top_k,
        )
        candidates_model = onnx.ModelProto()
        candidates_model.CopyFrom(model)
        append(candidates_model, nms=None)
        append(model, nms=settings)
        model.producer_name, model.producer_version = "ssd-mindcv", __version__
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))
        with activity("comparing the model with MindSpore"):
            differences = self._compare_onnx(
                path, candidates_model, place=str(folder / path.name), options=options, nms=settings
            )
        return differences, {"onnx": onnx.__version__, "opset": str(model.opset_import[0].version)}

    def _compare_onnx(
        self,
        path: Path,
        candidates_model: onnx.ModelProto,
        *,
        place: str,
        options: ExportOptions,
        nms: NmsSettings | None,
    ) -> dict[str, float]:
        """Compare the boxes and scores of all anchors, the candidates, and the detections."""
        info = self._input_info(options)
        reference = run_reference(self.cfg, self.detector, self.images)
        check_model = OnnxSession(with_all_anchors(candidates_model).SerializeToString(), info=info)
        outputs = run_in_chunks(check_model.run_all, self.images.pixels, info)
        candidates, all_anchors = Outputs(*outputs[:3]), Outputs(*outputs[3:])
        differences = compare_anchors(all_anchors, reference, place=place)
        check_candidates(candidates, all_anchors, place=place)
        written = run_in_chunks(OnnxSession(path, info=info).run_all, self.images.pixels, info)
        if options.batch_size is None:  # single images give the same outputs as a batch
            single = OnnxSession(path, info=info).run_all(to_model_input(self.images.pixels[:1], info))
            compare_candidates(Outputs(*single), Outputs(*(output[:1] for output in written)), place=place)
        if nms:
            boxes, scores, labels = written
            kept = scores > 0
            found = [Detections(boxes[i][kept[i]], scores[i][kept[i]], labels[i][kept[i]]) for i in range(len(boxes))]
            check_detections(found, select_with_host_nms(candidates, create_nms(self.cfg)), place=place)
        else:
            compare_candidates(Outputs(*written), candidates, place=place)
        return differences

    def _write_mindspore(
        self, path: Path, folder: Path, options: ExportOptions
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Write a MINDIR or AIR model, and check the MINDIR model. Returns the largest differences, and {}."""
        info = self._input_info(options)
        net = create_inference_net(self.cfg, self.detector)
        if options.raw_input:
            net.normalize = nn.Identity()
        net.set_train(False)
        image = to_model_input(self.images.pixels[: info.batch_size], info)
        with activity("exporting the network"):
            with tempfile.TemporaryDirectory() as scratch:  # MindSpore refuses paths with spaces
                written = Path(scratch) / path.name
                ms.export(net, Tensor(image), file_name=str(written), file_format=path.suffix[1:].upper())
                shutil.copyfile(written, path)
        if path.suffix == ".air":  # MindSpore can write AIR, but not run it
            return {}, {}
        with activity("comparing the model with MindSpore"):
            session = MindirSession(path)
            outputs = run_in_chunks(session.run, self.images.pixels, info)
            net = create_inference_net(self.cfg, self.detector)
            net.set_train(False)
            pixels_info = self._input_info(ExportOptions(batch_size=info.batch_size))
            reference = run_in_chunks(
                lambda batch: [output.asnumpy() for output in net(Tensor(batch))], self.images.pixels, pixels_info
            )
        return compare_candidates(Outputs(*outputs), Outputs(*reference), place=str(folder / path.name)), {}

    def _describe(
        self, path: Path, options: ExportOptions, differences: dict[str, float], versions: dict[str, str]
    ) -> ModelMetadata:
        cfg = self.cfg
        anchors = self.detector.anchors.boxes_cyxhw
        progress = read_progress(self.checkpoint)
        return ModelMetadata(
            name=self.name,
            file=path.name,
            sha256=file_sha256(path),
            input=self._input_info(options),
            outputs="detections" if options.nms else "candidates",
            classes=cfg.classes or ("background", *(f"class {label}" for label in range(1, cfg.num_classes))),
            category_ids=tuple(self.category_ids),
            thresholds=Thresholds(**{key: getattr(cfg, key) for key in Thresholds.model_fields}),
            anchors={"number": len(anchors), "sha256": hashlib.sha256(anchors.tobytes()).hexdigest()},
            checkpoint={
                "file": self.checkpoint.name,
                "sha256": file_sha256(self.checkpoint),
                **({"epoch": progress.epoch} if progress else {}),
            },
            versions={
                "ssd-mindcv": __version__,
                "mindspore": ms.__version__,
                "mindcv": importlib.metadata.version("mindcv"),
                **versions,
            },
            largest_differences=differences,
            compared_images=self.images.description
            if differences
            else "not compared, because MindSpore cannot run AIR",
        )


@contextlib.contextmanager
def _report_unwritable(folder: Path) -> Iterator[None]:
    """Convert an OSError in the block to a UserError. folder: folder of the model, for the message"""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({os_reason(error)}). Free some disk space, or choose another --output."
        ) from None
