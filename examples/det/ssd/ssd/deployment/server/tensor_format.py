"""Tensors of the Open Inference Protocol v2, as JSON or in the binary extension.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .json_response import json_object
from .request_error import RequestError

# Types of inputs and outputs. Binary data are little-endian.
DATA_TYPES: dict[str, np.dtype] = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4"), "UINT8": np.dtype("u1")}


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of an input or output. shape: -1 stands for any size; the first is the batch"""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """Return the entry of the model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclasses.dataclass(frozen=True)
class InferRequest:
    """Parsed request.

    tensor: the only input
    request_id: id of the request, or None
    outputs: {name: whether its data are binary} of the requested outputs
    """

    tensor: np.ndarray
    request_id: str | None
    outputs: dict[str, bool]


def parse_infer_request(
    body: bytes, json_length: str | None, input_spec: TensorSpec, *, output_names: Sequence[str]
) -> InferRequest:
    """Parse the body of a request for inference.

    json_length: value of the header Inference-Header-Content-Length; None for a body without binary data
    input_spec: input of the model
    output_names: names of all outputs of the model
    Raises RequestError with status 400.
    """
    length = len(body)
    if json_length is not None:
        if not json_length.isdecimal() or int(json_length) > len(body):
            raise RequestError(
                400,
                f"Inference-Header-Content-Length: {json_length[:40]!r} is not between 0 and the length of the body, "
                f"{len(body)}. Send the length of the JSON.",
            )
        length = int(json_length)
    document = json_object(body[:length])
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(400, f"inputs: the model has 1 input. Send a list with the tensor {input_spec.name!r}.")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError(400, "id: it is not a string. Send a string, or leave out the id.")
    return InferRequest(
        tensor=_read_tensor(inputs[0], memoryview(body)[length:], input_spec),
        request_id=request_id,
        outputs=_read_requested_outputs(document, output_names),
    )


def build_infer_response(
    fields: dict[str, Any], tensors: dict[str, tuple[TensorSpec, np.ndarray]], request: InferRequest
) -> tuple[bytes, dict[str, str]]:
    """Build the body of a response, and its headers.

    fields: name and version of the model
    tensors: {name: (spec, array)} of all outputs of the model
    """
    outputs, binary = [], []
    for name, is_binary in request.outputs.items():
        spec, array = tensors[name]
        array = np.ascontiguousarray(array, DATA_TYPES[spec.datatype])
        output: dict[str, Any] = {"name": name, "datatype": spec.datatype, "shape": list(array.shape)}
        if is_binary:
            output["parameters"] = {"binary_data_size": array.nbytes}
            binary.append(array.tobytes())
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    document = {**fields, **({"id": request.request_id} if request.request_id is not None else {}), "outputs": outputs}
    head = json.dumps(document, separators=(",", ":")).encode()
    if not binary:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *binary]), headers


def _read_tensor(entry: dict[str, Any], binary: memoryview, spec: TensorSpec) -> np.ndarray:
    """Read the only input of a request. binary: bytes after the JSON"""
    place = f"inputs: {spec.name}"
    if entry.get("name") != spec.name or entry.get("datatype") != spec.datatype:
        given = f"{str(entry.get('name'))[:40]!r} of type {str(entry.get('datatype'))[:40]!r}"
        raise RequestError(400, f"inputs: got {given}, expected {spec.name!r} of type {spec.datatype!r}.")
    shape = entry.get("shape")
    if not _fits(shape, spec.shape):
        raise RequestError(400, f"{place}: got shape {str(shape)[:60]}, expected {list(spec.shape)}, -1 for any size.")
    assert isinstance(shape, list)
    dtype, size = DATA_TYPES[spec.datatype], math.prod(shape)
    num_bytes = _parameters(entry).get("binary_data_size")
    if num_bytes is not None:
        if num_bytes != len(binary) or num_bytes != size * dtype.itemsize:
            raise RequestError(
                400,
                f"{place}: got binary_data_size {str(num_bytes)[:20]} and {len(binary)} bytes after the JSON, "
                f"expected {size * dtype.itemsize} bytes for shape {shape}.",
            )
        return np.frombuffer(binary, dtype).reshape(shape)
    if len(binary):
        raise RequestError(400, f"{place}: {len(binary)} bytes follow the JSON. Set the parameter binary_data_size.")
    try:
        array = np.array(entry["data"])
        is_valid = array.size == size and array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255
    except (KeyError, ValueError, OverflowError):  # no data, lists of different lengths, or huge numbers
        is_valid = False
    if not is_valid:
        raise RequestError(400, f"{place}: data must be {size} whole numbers from 0 to 255. Send a list of numbers.")
    return array.astype(dtype).reshape(shape)


def _fits(shape: object, expected: tuple[int, ...]) -> bool:
    """Return whether a value of a request is a shape like the expected one, in which -1 stands for any size."""
    if not isinstance(shape, list) or len(shape) != len(expected):
        return False
    return all(type(side) is int and side > 0 and other in (-1, side) for side, other in zip(shape, expected))


def _read_requested_outputs(document: dict[str, Any], names: Sequence[str]) -> dict[str, bool]:
    """Return {name: whether its data are binary} of the requested outputs, all outputs if none is named."""
    is_binary = _binary_flag(document, "binary_data_output", default=False)
    requested = document.get("outputs") or [{"name": name} for name in names]
    outputs: dict[str, bool] = {}
    for output in requested if isinstance(requested, list) else [requested]:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in names:
            raise RequestError(400, f"outputs: {str(name)[:40]!r} is not an output. Ask for {', '.join(names)}.")
        outputs[name] = _binary_flag(output, "binary_data", default=is_binary)
    return outputs


def _binary_flag(entry: dict[str, Any], key: str, default: bool) -> bool:
    value = _parameters(entry).get(key, default)
    if not isinstance(value, bool):
        raise RequestError(400, f"parameters: {key} is {str(value)[:40]!r}. Send true or false.")
    return value


def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, an input or an output."""
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError(400, f"parameters: got {str(parameters)[:40]!r}, expected an object.")
    return parameters
