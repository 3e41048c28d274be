"""Export a checkpoint as ONNX or MINDIR model. A model is written only after its outputs equal those of MindSpore."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import logging
from pathlib import Path

import mindspore as ms
import mindspore.nn as nn
import numpy as np
import onnx
from mindspore import Tensor, ops

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
from ..models.layers import NormalizeImage
from ..models.postprocess import DecodeBoxes
from ..normalization import IMAGENET_MEAN, IMAGENET_STD
from ..runtime.atomic_write import replace_folder
from ..runtime.device import create_runtime
from ..runtime.folder_lock import lock_folder
from ..runtime.heartbeat import activity
from .comparison import (
    ComparisonImages,
    Outputs,
    check_candidates,
    check_detections,
    compare_anchors,
    compare_candidates,
    load_images,
    select_with_host_nms,
)
from .detector import to_model_input
from .exportable_layers import make_exportable
from .mindir_session import MindirSession
from .model_metadata import MODEL_NAMES, InputInfo, ModelMetadata, Thresholds, file_sha256, write_metadata
from .onnx_network import INPUT_NAME, convert_network
from .onnx_postprocess import NmsSettings, append_postprocess, with_all_anchors
from .sessions import OnnxSession

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Options of an exported model.

    batch_size: number of images of a batch; None for any number in ONNX, and for 1 in MINDIR
    nms: True for NMS inside an ONNX model
    raw_input: True for normalized float32 values (B, 3, H, W) as input; False for uint8 pixels (B, H, W, 3)
    """

    batch_size: int | None = None
    nms: bool = False
    raw_input: bool = False


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

    def export(self, model_format: str, folder: Path, options: ExportOptions) -> ModelMetadata:
        """Export the checkpoint, compare the model with MindSpore, and write the folder of the model.

        model_format: "onnx" or "mindir"
        folder: folder for the model, its metadata and its labels; replaced if it exists
        Returns the metadata of the model.
        Raises UserError if the model differs from MindSpore, or if a file cannot be written.
        """
        if options.nms and self.cfg.nms != "hard":
            raise UserError("--nms: ONNX has no Soft-NMS. Export without --nms, or set nms to hard.")
        try:
            with lock_folder(folder.parent, "--output"), replace_folder(folder) as work:
                if model_format == "onnx":
                    differences, versions = self._write_onnx(work, folder, options)
                else:
                    differences, versions = self._write_mindir(work, folder, options)
                metadata = self._describe(
                    work / MODEL_NAMES[model_format], options, differences=differences, versions=versions
                )
                write_metadata(work, metadata)
                return metadata
        except OSError as error:
            raise UserError(
                f"{error.filename or folder}: cannot be written ({os_reason(error)}). Free some disk space, or set "
                "--output to another folder."
            ) from None

    def _load_detector(self) -> SSD:
        with zero_weights():
            detector = create_detector(self.cfg)
        metadata = model_metadata(self.cfg)
        load_weights(detector, self.checkpoint, use_ema=self.cfg.use_ema, metadata=metadata)
        detector.set_train(False)
        return detector

    def _input_info(self, options: ExportOptions, batch_size: int | None) -> InputInfo:
        height, width = self.cfg.image_size
        return InputInfo(
            name=INPUT_NAME,
            layout="NCHW" if options.raw_input else "NHWC",
            height=height,
            width=width,
            batch_size=batch_size,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )

    def _write_onnx(self, work: Path, folder: Path, options: ExportOptions) -> tuple[dict[str, float], dict[str, str]]:
        """Write and check the ONNX model. Returns the largest differences, and versions of packages."""
        exported = self._load_detector()
        make_exportable(exported, self.cfg.image_size)
        path = work / MODEL_NAMES["onnx"]
        with activity("exporting the network"):
            model = convert_network(
                exported,
                self.cfg.image_size,
                batch_size=options.batch_size,
                raw_input=options.raw_input,
                scratch=path,
            )
        settings = None
        if options.nms:
            settings = NmsSettings(self.cfg.min_score, self.cfg.nms_threshold, self.cfg.max_detections)
        append = {
            "anchors_cyxhw": self.detector.anchors.boxes_cyxhw,
            "prior_scaling": self.cfg.prior_scaling,
            "num_classes": self.cfg.num_classes,
            "softmax": self.cfg.loss == "multibox",
            "top_k": self.cfg.pre_nms_top_k,
        }
        candidates_model = onnx.ModelProto()
        candidates_model.CopyFrom(model)
        append_postprocess(candidates_model, nms=None, **append)
        append_postprocess(model, nms=settings, **append)
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
        info = self._input_info(options, options.batch_size)
        reference = _run_reference(self.cfg, self.detector, self.images)
        check_model = OnnxSession(with_all_anchors(candidates_model).SerializeToString(), input_name=INPUT_NAME)
        outputs = _in_chunks(check_model.run_all, self.images.pixels, info)
        candidates, all_anchors = Outputs(*outputs[:3]), Outputs(*outputs[3:])
        differences = compare_anchors(all_anchors, reference, place=place)
        check_candidates(candidates, all_anchors, place=place)
        written = _in_chunks(OnnxSession(path, input_name=INPUT_NAME).run_all, self.images.pixels, info)
        if options.batch_size is None:  # single images give the same outputs as a batch
            single = OnnxSession(path, input_name=INPUT_NAME).run_all(to_model_input(self.images.pixels[:1], info))
            compare_candidates(Outputs(*single), Outputs(*(output[:1] for output in written)), place=place)
        if nms:
            boxes, scores, labels = written
            kept = scores > 0
            found = [Detections(boxes[i][kept[i]], scores[i][kept[i]], labels[i][kept[i]]) for i in range(len(boxes))]
            check_detections(found, select_with_host_nms(candidates, create_nms(self.cfg)), place=place)
        else:
            compare_candidates(Outputs(*written), candidates, place=place)
        return differences

    def _write_mindir(
        self, work: Path, folder: Path, options: ExportOptions
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Write and check the MINDIR model. Returns the largest differences, and versions of packages."""
        path = work / MODEL_NAMES["mindir"]
        info = self._input_info(options, options.batch_size or 1)
        net = create_inference_net(self.cfg, self.detector)
        if options.raw_input:
            net.normalize = nn.Identity()
        net.set_train(False)
        image = to_model_input(self.images.pixels[: info.batch_size], info)
        with activity("exporting the network"):
            ms.export(net, Tensor(image), file_name=str(path), file_format="MINDIR")
        path.chmod(0o644)  # MindSpore makes the file read-only
        with activity("comparing the model with MindSpore"):
            session = MindirSession(path)
            outputs = _in_chunks(session.run, self.images.pixels, info)
            net = create_inference_net(self.cfg, self.detector)
            net.set_train(False)
            pixels_info = self._input_info(ExportOptions(), info.batch_size)
            reference = _in_chunks(
                lambda batch: [output.asnumpy() for output in net(Tensor(batch))], self.images.pixels, pixels_info
            )
        return compare_candidates(Outputs(*outputs), Outputs(*reference), place=str(folder / path.name)), {}

    def _describe(
        self, path: Path, options: ExportOptions, differences: dict[str, float], versions: dict[str, str]
    ) -> ModelMetadata:
        cfg = self.cfg
        is_onnx = path.suffix == ".onnx"
        anchors = self.detector.anchors.boxes_cyxhw
        progress = read_progress(self.checkpoint)
        return ModelMetadata(
            name=self.name,
            file=path.name,
            sha256=file_sha256(path),
            input=self._input_info(options, options.batch_size if is_onnx else options.batch_size or 1),
            outputs="detections" if options.nms and is_onnx else "candidates",
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
            compared_images=self.images.description,
        )


class _AllAnchors(nn.Cell):
    """Boxes and scores of all anchors, as the reference of a comparison."""

    def __init__(self, cfg: Config, detector: SSD):
        super().__init__(auto_prefix=False)
        self.normalize = NormalizeImage()
        self.detector = detector
        self.decode = DecodeBoxes(detector.anchors.boxes_cyxhw, cfg.prior_scaling)
        self.softmax = cfg.loss == "multibox"

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute boxes (B, A, 4) as fractions of the image size, and scores (B, A, K - 1) of the object classes."""
        box_offsets, cls_logits = self.detector(self.normalize(image))
        scores = ops.softmax(cls_logits, axis=-1) if self.softmax else ops.sigmoid(cls_logits)
        return self.decode(box_offsets), scores[..., 1:]


def _run_reference(cfg: Config, detector: SSD, images: ComparisonImages) -> Outputs:
    net = _AllAnchors(cfg, detector)
    net.set_train(False)
    boxes, scores = net(Tensor(images.pixels))
    return Outputs(boxes.asnumpy(), scores.asnumpy())


def _in_chunks(run, pixels: np.ndarray, info: InputInfo) -> list[np.ndarray]:
    """Run a model on images in batches of its batch size. The number of images is padded to a multiple of it."""
    size = info.batch_size or len(pixels)
    padding = np.repeat(pixels[-1:], -len(pixels) % size, axis=0)
    padded = np.concatenate([pixels, padding])
    chunks = [run(to_model_input(padded[start : start + size], info)) for start in range(0, len(padded), size)]
    return [np.concatenate(outputs)[: len(pixels)] for outputs in zip(*chunks)]
