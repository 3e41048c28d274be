"""POST /detect and /huggingface: the detections of files, and one line for each mistake."""

import base64
import io
import json
import tempfile

import numpy as np
import pytest
from PIL import Image

from fake_detector import FakeDetector
from rotated_images import store


def test_detections_have_the_keys_of_coco_and_pixels_of_the_image(url, call, picture):
    answer = call("POST", f"{url}/detect", picture(red=102), Content_Type="image/png")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    (image,) = document["images"]
    times = image.pop("times_ms")
    assert image == {"id": 1, "file_name": "", "width": 96, "height": 64}
    assert set(times) == {"decode", "wait", "model"} and min(times.values()) >= 0
    assert document["total_ms"] >= times["decode"]
    cat, dog = document["detections"]
    assert cat.pop("score") == pytest.approx(0.4) and dog["score"] == pytest.approx(0.05)
    assert cat == {"image_id": 1, "category_id": 7, "category_name": "cat", "file_name": "", "bbox": [0, 0, 48, 32]}
    assert dog["bbox"] == [24, 32, 48, 32] and dog["category_id"] == 9


def test_a_form_gives_the_same_detections_as_the_file_alone(url, call, picture, form):
    body, content_type = form({"a.png": picture(51), "b.png": picture(204, size=(30, 20))})
    document = call("POST", f"{url}/detect", body, Content_Type=content_type).json()
    assert [(image["id"], image["file_name"], image["width"]) for image in document["images"]] == [
        (1, "a.png", 96),
        (2, "b.png", 30),
    ]
    alone = call("POST", f"{url}/detect", picture(204, size=(30, 20))).json()["detections"]
    fields = ("bbox", "score", "category_id")
    second = [row for row in document["detections"] if row["image_id"] == 2]
    assert [[row[name] for name in fields] for row in second] == [[row[name] for name in fields] for row in alone]
    assert {row["file_name"] for row in second} == {"b.png"}


def test_the_body_of_curl_and_a_body_in_chunks_are_files(url, call, picture):
    expected = call("POST", f"{url}/detect", picture()).json()["detections"]
    curl = call("POST", f"{url}/detect", picture(), Content_Type="application/x-www-form-urlencoded")
    content = picture()
    chunks = call("POST", f"{url}/detect", iter([content[:50], content[50:]]))
    assert curl.json()["detections"] == chunks.json()["detections"] == expected


def test_boxes_are_those_of_the_upright_photograph(url, call, tmp_path):
    store(tmp_path / "a.jpg", 6)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (64, 96)  # as stored
    document = call("POST", f"{url}/detect", (tmp_path / "a.jpg").read_bytes()).json()
    assert (document["images"][0]["width"], document["images"][0]["height"]) == (96, 64)
    assert document["detections"][0]["bbox"] == [0, 0, 48, 32]


def test_lower_scores_are_left_out(url, call, picture):
    document = call("POST", f"{url}/detect?min_score=0.1", picture(red=102)).json()
    assert [row["category_name"] for row in document["detections"]] == ["cat"]
    answer = call("POST", f"{url}/detect?min_score=2", picture())
    assert answer.status == 422 and "min_score" in answer.error()


def test_a_bad_image_fails_alone(url, call, picture, form):
    body, content_type = form({"a.png": picture(51), "bad.png": picture()[:60], "c.png": picture(204)})
    answer = call("POST", f"{url}/detect", body, Content_Type=content_type)
    assert answer.status == 200
    errors = [image.get("error") for image in answer.json()["images"]]
    assert errors[0] is None and errors[2] is None and "PNG" in errors[1]
    assert sorted({row["image_id"] for row in answer.json()["detections"]}) == [1, 3]


BAD_FILES = {
    "no image": lambda picture: b"no image",
    "empty": lambda picture: b"",
    "truncated PNG": lambda picture: picture()[:-20],
    "truncated JPEG": lambda picture: picture(image_format="JPEG")[:-20],
    "damaged WebP": lambda picture: picture(image_format="WEBP")[:40],
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("path", ["detect", "huggingface"])
def test_a_bad_file_is_answered_with_one_line(name, path, url, call, picture):
    answer = call("POST", f"{url}/{path}", BAD_FILES[name](picture))
    assert answer.status == 422 and answer.error().startswith("image: ")


def test_large_images_are_refused_before_they_are_decoded(start, call, picture, monkeypatch):
    monkeypatch.setattr("ssd.deployment.server.image_decoding.decode_image_file", None)
    url = start(FakeDetector(), max_pixels=96 * 64 - 1)
    for image_format in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        answer = call("POST", f"{url}/detect", picture(image_format=image_format))
        assert answer.status == 413 and "96x64" in answer.error() and "6,143" in answer.error()


def test_large_bodies_are_refused_with_and_without_a_length(start, call, form):
    url = start(FakeDetector(), max_bytes=1000)
    assert call("POST", f"{url}/detect", b"x" * 1000).status == 422
    for path in ("detect", "huggingface", "v2/models/fake/infer"):
        for body in (b"x" * 1001, iter([b"x" * 600] * 2)):
            answer = call("POST", f"{url}/{path}", body)
            assert answer.status == 413 and "1,000" in answer.error()
    body, content_type = form({"a.png": b"x" * 1000})
    assert call("POST", f"{url}/detect", iter([body]), Content_Type=content_type).status == 413


@pytest.mark.parametrize(
    "body, content_type, status",
    [
        (b"--line--\r\n", "multipart/form-data; boundary=line", 400),
        (b"nonsense", "multipart/form-data; boundary=line", 400),
        (b"nonsense", "multipart/form-data", 400),
        (b'--line\r\nContent-Disposition: form-data; name="a"\r\n\r\ntext\r\n--line--\r\n',
         "multipart/form-data; boundary=line", 400),
    ],
)  # fmt: skip
def test_a_form_without_files_is_refused(body, content_type, status, url, call):
    answer = call("POST", f"{url}/detect", body, Content_Type=content_type)
    assert answer.status == status and answer.error().startswith("form: ")


def test_a_compressed_body_is_refused(url, call, picture):
    answer = call("POST", f"{url}/detect", picture(), Content_Encoding="gzip")
    assert answer.status == 415 and "gzip" in answer.error()


def test_no_file_of_a_client_is_written(url, call, form, monkeypatch):
    """Starlette's own parser writes files above 1 MiB to the disk."""

    def refuse(*args, **options):
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1000, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "BMP")
    body, content_type = form({"large.bmp": file.getvalue()})
    assert len(body) > 3 * 2**20
    assert call("POST", f"{url}/detect", body, Content_Type=content_type).status == 200


def test_hugging_face_gets_its_schema_for_bytes_and_base64(url, call, picture):
    expected = [
        {"label": "cat", "score": pytest.approx(0.4), "box": {"xmin": 0, "ymin": 0, "xmax": 48, "ymax": 32}},
        {"label": "<b>dog</b>", "score": pytest.approx(0.05), "box": {"xmin": 24, "ymin": 32, "xmax": 72, "ymax": 64}},
    ]
    assert call("POST", f"{url}/huggingface", picture(102), Content_Type="image/png").json() == expected
    document = {"inputs": base64.b64encode(picture(102)).decode()}
    answer = call("POST", f"{url}/huggingface", json.dumps(document), Content_Type="application/json")
    assert answer.json() == expected
    document["parameters"] = {"threshold": 0.1}
    answer = call("POST", f"{url}/huggingface", json.dumps(document), Content_Type="application/json")
    assert answer.json() == expected[:1]


@pytest.mark.parametrize(
    "body, place",
    [
        ("{", "body"),
        ("[1]", "body"),
        ("[" * 100_000, "body"),
        ("{}", "inputs"),
        ('{"inputs": 3}', "inputs"),
        ('{"inputs": "$$"}', "inputs"),
        ('{"inputs": "AAAA", "parameters": {"threshold": "high"}}', "parameters.threshold"),
        ('{"inputs": "AAAA", "parameters": 3}', "parameters.threshold"),
    ],
)
def test_wrong_json_is_answered_with_its_place(body, place, url, call):
    answer = call("POST", f"{url}/huggingface", body, Content_Type="application/json")
    assert answer.status == 400 and answer.error().startswith(f"{place}: ")
