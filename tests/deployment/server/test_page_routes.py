"""The page, its files, /docs and /model: nothing is loaded from another host."""

import re

import pytest

from ssd.deployment.server.page_routes import PAGE
from ssd.inference.drawing import class_color


def test_the_page_names_only_files_of_the_server(url, call):
    page = call("GET", url + "/")
    assert page.status == 200 and "default-src 'self'" in page.headers["Content-Security-Policy"]
    names = re.findall(r'(?:href|src)="(page/[^"]+)"', page.content.decode())
    assert len(names) == 2
    for name in [*names, *(f"page/{path.name}" for path in PAGE.iterdir() if path.suffix != ".html")]:
        answer = call("GET", f"{url}/{name}")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/")
    sources = "".join(path.read_text() for path in PAGE.iterdir()).replace("http://www.w3.org/2000/svg", "")
    assert "://" not in sources and "innerHTML" not in sources


def test_docs_are_loaded_from_the_server(url, call):
    page = call("GET", f"{url}/docs").content.decode()
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert links and all(link.startswith("/") for link in links)
    assert [call("GET", url + link).status for link in links] == [200] * len(links)
    paths = call("GET", f"{url}/openapi.json").json()["paths"]
    assert {"/detect", "/huggingface", "/metrics", "/v2/models/{model}/infer"} <= set(paths)


def test_the_model_is_described(url, call):
    model = call("GET", f"{url}/model").json()
    assert (model["name"], model["image_size"], model["min_score"]) == ("fake", [32, 48], 0.01)
    assert model["classes"][1] == {
        "label": 2,
        "id": 9,
        "name": "<b>dog</b>",
        "color": "#{:02x}{:02x}{:02x}".format(*class_color(2)),
    }


@pytest.mark.parametrize("path", ["page/..%2fapp.py", "page/index.html%00", "page/../../app.py"])
def test_no_other_file_can_be_read(path, url, call):
    assert call("GET", f"{url}/{path}").status == 404


def test_metrics_count_requests_by_route_and_status(url, call, picture, metric):
    name = 'ssd_requests_total{route="/detect",status="200"}'
    before, count = metric(url, name), 'ssd_request_seconds_count{route="/detect"}'
    num_measured = metric(url, count)
    assert call("POST", f"{url}/detect", picture()).status == 200
    assert metric(url, name) == before + 1 and metric(url, count) == num_measured + 1
    assert metric(url, "process_resident_memory_bytes") > 10**7
