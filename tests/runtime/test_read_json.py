"""JSON of other people: deep nesting, and files that would take more memory than there is, are refused."""

import json
import tracemalloc

import pytest

from ssd.data.dataset_info import read_dataset_info
from ssd.data.readers.annotations import load_coco_json
from ssd.errors import UserError
from ssd.runtime import host_memory, read_json
from ssd.runtime.read_json import parse_json

WIDE = {
    "objects": b"[" + b",".join([b"{}"] * 20_000) + b"]",
    "lists": b"[" + b",".join([b"[[]]"] * 20_000) + b"]",
    "small objects": b"[" + b",".join([b'{"a":1}'] * 20_000) + b"]",
    "numbers": b"[" + b",".join([b"1234.5"] * 20_000) + b"]",
    "texts": b"[" + b",".join([b'"%d"' % number for number in range(20_000)]) + b"]",
    "many keys": b"{" + b",".join([b'"%d":0' % number for number in range(20_000)]) + b"}",
    "wide characters": json.dumps("\U0001f600" * 20_000, ensure_ascii=False).encode(),
    "annotations": json.dumps(
        [{"id": n, "image_id": n, "bbox": [1.5, n, 3, 4], "segmentation": [[0.5 * n] * 20]} for n in range(1000)]
    ).encode(),
}


@pytest.mark.parametrize("name", WIDE)
def test_the_estimate_of_the_memory_is_never_too_low(name):
    tracemalloc.start()
    parse_json(WIDE[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = read_json._needed_memory(WIDE[name])
    assert peak <= estimate <= 10 * peak


def test_annotations_are_not_refused_for_memory_that_they_do_not_need():
    tracemalloc.start()
    parse_json(WIDE["annotations"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read_json._needed_memory(WIDE["annotations"]) < 3 * peak


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(WIDE["objects"])
    monkeypatch.setattr(host_memory, "available_host_memory", lambda: 2**21)
    for read in (read_json.read_json, load_coco_json, read_dataset_info):
        with pytest.raises(UserError, match="a.json: .*GiB"):
            read(path)
    monkeypatch.setattr(host_memory, "available_host_memory", lambda: 2**30)
    assert len(read_json.read_json(path)) == 20_000
    monkeypatch.setattr(host_memory, "available_host_memory", lambda: None)  # the system does not report it
    assert len(read_json.read_json(path)) == 20_000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_nesting_is_refused(text, tmp_path):
    with pytest.raises(ValueError):
        parse_json(text)
    (tmp_path / "a.json").write_text(text)
    for read in (load_coco_json, read_dataset_info):
        with pytest.raises(UserError, match="a.json: "):
            read(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_all_encodings_of_json_are_read(encoding, tmp_path):
    (tmp_path / "a.json").write_bytes('["é猫"]'.encode(encoding))
    assert read_json.read_json(tmp_path / "a.json") == ["é猫"]
