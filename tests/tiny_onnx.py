"""An exported model that is written by hand, so that tests need no export: it takes milliseconds to load."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssd.deployment.model_metadata import InputInfo, ModelMetadata, Thresholds, file_sha256, write_metadata

CLASSES = ("background", "cat", "dog")


def write_model(folder, name="model.onnx", image_size=(32, 48)):
    """Write a model that finds a cat in the upper left quarter of each image. Returns the folder.

    The score is the mean red value / 255.
    """
    folder.mkdir(parents=True)
    constants = {
        "red": np.array([0], np.int64),
        "white": np.array(255, np.float32),
        "box": np.array([[[0, 0, 0.5, 0.5]]], np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.int32),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colors"], axes=[1, 2], keepdims=0),
        helper.make_node("Gather", ["colors", "red"], ["red_mean"], axis=1),
        helper.make_node("Div", ["red_mean", "white"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "last"], ["zeros_3d"]),
        helper.make_node("Add", ["zeros_3d", "box"], ["boxes"]),
        helper.make_node("Cast", ["zeros"], ["whole_zeros"], to=TensorProto.INT32),
        helper.make_node("Add", ["whole_zeros", "one"], ["labels"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *image_size, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 1, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1]),
            helper.make_tensor_value_info("labels", TensorProto.INT32, ["batch", 1]),
        ],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / name)
    write_metadata(
        folder,
        ModelMetadata(
            name="tiny",
            file=name,
            sha256=file_sha256(folder / name),
            input=InputInfo(
                name="image",
                layout="NHWC",
                height=image_size[0],
                width=image_size[1],
                batch_size=None,
                mean=(0, 0, 0),
                std=(1, 1, 1),
            ),
            outputs="candidates",
            classes=CLASSES,
            category_ids=(0, 7, 9),
            thresholds=Thresholds(
                min_score=0.01, nms="hard", nms_threshold=0.6, soft_nms_sigma=0.5, pre_nms_top_k=10, max_detections=10
            ),
            anchors={},
            checkpoint={},
            versions={},
            largest_differences={},
            compared_images="none",
        ),
    )
    return folder
