"""Write a small exported model without a network: the mean colour of an image is the scores of three classes."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssd.deployment.model_metadata import InputInfo, ModelMetadata, Thresholds, file_sha256, write_metadata

SIZE = (8, 6)  # height and width of the input
BOXES_YXYX = [[0.0, 0.0, 0.5, 0.5], [0.25, 0.5, 0.75, 1.0], [0.5, 0.0, 1.0, 0.5]]  # of the classes red, green and blue


def write_model(folder, *, name="model.onnx", opset=13, output_names=("boxes", "scores", "labels")):
    """Write a model file, metadata.yaml and labels.txt to a new folder, and return the folder.

    The scores of the classes are the means of R, G and B, divided by 255.
    """
    folder.mkdir(parents=True)
    constants = {
        "constant_boxes": np.float32([BOXES_YXYX]),
        "constant_labels": np.int32([[1, 2, 3]]),
        "white": np.float32(255),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "white"], [output_names[1]]),
        helper.make_node("Identity", ["constant_boxes"], [output_names[0]]),
        helper.make_node("Identity", ["constant_labels"], [output_names[2]]),
    ]
    types = (TensorProto.FLOAT, [1, 3, 4]), (TensorProto.FLOAT, [1, 3]), (TensorProto.INT32, [1, 3])
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SIZE, 3])],
        [helper.make_tensor_value_info(key, *kind) for key, kind in zip(output_names, types)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    path = folder / name
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    metadata = ModelMetadata(
        name="tiny",
        file=path.name,
        sha256=file_sha256(path),
        input=InputInfo(
            name="image", layout="NHWC", height=SIZE[0], width=SIZE[1], batch_size=1, mean=(0, 0, 0), std=(1, 1, 1)
        ),
        outputs="detections",
        classes=("background", "red", "green", "blue"),
        category_ids=(0, 7, 8, 9),
        thresholds=Thresholds(
            min_score=0.01, nms="hard", nms_threshold=0.6, soft_nms_sigma=0.5, pre_nms_top_k=1000, max_detections=100
        ),
        anchors={},
        checkpoint={},
        versions={},
        largest_differences={},
        compared_images="",
    )
    write_metadata(folder, metadata)
    return folder
