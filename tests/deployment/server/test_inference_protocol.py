"""Open Inference Protocol v2: with a real client of Triton, with JSON, and with wrong requests."""

import json

import numpy as np
import pytest

from fake_detector import FakeDetector

MODEL = "v2/models/fake"
SHAPE = [1, 32, 48, 3]


@pytest.fixture(scope="module")
def client(url):
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def infer_input(images, binary=True):
    from tritonclient.http import InferInput

    tensor = InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return tensor


def test_a_client_of_triton_finds_the_server_and_the_model(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("fake")
    assert client.is_model_ready("fake", "1") and not client.is_model_ready("other")
    assert not client.is_model_ready("fake", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("fake")
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 48, 3]}]
    assert [output["name"] for output in metadata["outputs"]] == ["boxes", "scores", "labels"]


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_triton_gets_the_outputs_of_the_network(binary, client):
    from tritonclient.http import InferRequestedOutput

    images = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    names = ("boxes", "scores", "labels")
    # Without requested outputs, the client asks for binary data.
    outputs = None if binary else [InferRequestedOutput(name, binary_data=False) for name in names]
    result = client.infer("fake", [infer_input(images, binary)], outputs=outputs, request_id="7")
    assert result.get_response()["id"] == "7" and result.get_response()["model_name"] == "fake"
    for name, expected in zip(names, FakeDetector().run(images)):
        found = result.as_numpy(name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_client_of_triton_can_ask_for_one_output(client):
    from tritonclient.http import InferRequestedOutput

    images = np.full((1, 32, 48, 3), 51, np.uint8)
    result = client.infer("fake", [infer_input(images)], outputs=[InferRequestedOutput("scores")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["scores"]
    np.testing.assert_allclose(result.as_numpy("scores"), [[0.2, 0.05]], rtol=1e-6)


def test_a_client_of_triton_gets_the_line_of_an_error(client):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as caught:
        client.infer("fake", [infer_input(np.zeros((1, 8, 8, 3), np.uint8))])
    assert caught.value.status() == "400" and "[1, 8, 8, 3]" in caught.value.message()


def test_json_alone_works(url, call):
    data = np.full(SHAPE, 102, np.uint8).tolist()
    body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": SHAPE, "data": data}]}
    answer = call("POST", f"{url}/{MODEL}/versions/1/infer", json.dumps(body))
    document = answer.json()
    assert answer.status == 200 and (document["model_version"], "id" in document) == ("1", False)
    boxes, scores, labels = document["outputs"]
    assert boxes["shape"] == [1, 2, 4] and boxes["data"] == [0, 0, 0.5, 0.5, 0.5, 0.25, 1, 0.75]
    assert (scores["datatype"], scores["shape"], scores["data"]) == ("FP32", [1, 2], pytest.approx([0.4, 0.05]))
    assert (labels["datatype"], labels["data"]) == ("INT32", [1, 2])


def test_batches_are_not_larger_than_the_fixed_size_of_a_model(start, call):
    detector = FakeDetector(batch_size=4)
    url = start(detector)
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 48, 3), np.uint8)
    body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.tolist()}]}
    scores = call("POST", f"{url}/{MODEL}/infer", json.dumps(body)).json()["outputs"][1]
    assert scores["shape"] == [6, 2] and scores["data"][::2] == pytest.approx([red / 255 for red in range(6)])
    assert sum(detector.batch_sizes) == 6 and max(detector.batch_sizes) <= 4


def tensor(**changes):
    entry = {"name": "image", "datatype": "UINT8", "shape": SHAPE, "data": [0] * 32 * 48 * 3}
    return {"inputs": [{**entry, **changes}]}


WRONG = {
    "no inputs": ({}, "inputs"),
    "two inputs": ({"inputs": tensor()["inputs"] * 2}, "inputs"),
    "other name": (tensor(name="pixels"), "'pixels'"),
    "other type": (tensor(datatype="FP32"), "'FP32'"),
    "no batch": (tensor(shape=SHAPE[1:]), "[32, 48, 3]"),
    "negative": (tensor(shape=[-1, 32, 48, 3]), "[-1, 32, 48, 3]"),
    "too few data": (tensor(data=[0] * 5), "4608"),
    "ragged data": (tensor(data=[[0], [0, 0]]), "4608"),
    "fractions": (tensor(data=[0.5] * 4608), "4608"),
    "large numbers": (tensor(data=[256] * 4608), "255"),
    "huge numbers": (tensor(data=[10**30] * 4608), "255"),
    "binary size without binary data": (tensor(parameters={"binary_data_size": 4608}), "binary_data_size 4608"),
    "parameters of another type": (tensor(parameters=[1]), "parameters"),
    "other output": ({**tensor(), "outputs": [{"name": "masks"}]}, "'masks'"),
    "id of another type": ({**tensor(), "id": 3}, "id"),
    "flag of another type": ({**tensor(), "parameters": {"binary_data_output": 1}}, "binary_data_output"),
    "too many images": (tensor(shape=[65, 32, 48, 3], data=[0] * 65 * 4608), "65"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_answered_with_one_line(name, url, call):
    document, place = WRONG[name]
    answer = call("POST", f"{url}/{MODEL}/infer", json.dumps(document))
    assert answer.status == (413 if name == "too many images" else 400) and place in answer.error()


@pytest.mark.parametrize("length", ["-1", "x", "99999"])
def test_a_wrong_length_of_the_json_is_refused(length, url, call):
    answer = call("POST", f"{url}/{MODEL}/infer", json.dumps(tensor()), Inference_Header_Content_Length=length)
    assert answer.status == 400 and "Inference-Header-Content-Length" in answer.error()


def test_binary_data_must_have_the_stated_size(url, call):
    document = tensor(parameters={"binary_data_size": 4608})
    del document["inputs"][0]["data"]
    head = json.dumps(document).encode()
    length, statuses = str(len(head)), {}
    for size in (4607, 4608, 4609):
        answer = call("POST", f"{url}/{MODEL}/infer", head + bytes(size), Inference_Header_Content_Length=length)
        statuses[size] = answer.status
    assert statuses == {4607: 400, 4608: 200, 4609: 400}


def test_another_model_is_not_found(url, call):
    for method, path in (("GET", "other"), ("GET", "other/ready"), ("POST", "other/infer"), ("GET", "fake/versions/2")):
        answer = call(method, f"{url}/v2/models/{path}")
        assert answer.status == 404 and "'fake'" in answer.error()
