"""The batch size of prediction."""

from pathlib import Path

from fake_predictor import FakeCapture
from ssd.inference.prediction import MAX_VIDEO_BATCH, choose_batch_size
from ssd.inference.sources import InputImage, Inputs, InputVideo
from ssd.inference.video_source import Video

IMAGE = InputImage(Path("a.jpg"), name="a.jpg", output_name="a.jpg")
VIDEO = InputVideo(Path("a.mp4"), name="a.mp4", output_stem="a")


def test_a_batch_is_no_larger_than_the_number_of_inputs(tiny_recipe):
    cfg, large = tiny_recipe(batch_size=4), tiny_recipe(batch_size=64)
    camera = Inputs(camera=Video(FakeCapture(), "camera0"))
    assert [choose_batch_size(cfg, Inputs(images=[IMAGE] * number)) for number in (1, 9)] == [1, 4]
    assert choose_batch_size(large, Inputs(images=[IMAGE] * 99)) == 64
    assert choose_batch_size(cfg, Inputs(videos=[VIDEO])) == 4
    assert choose_batch_size(large, Inputs(videos=[VIDEO])) == MAX_VIDEO_BATCH
    assert choose_batch_size(large, Inputs(images=[IMAGE], videos=[VIDEO])) == MAX_VIDEO_BATCH
    assert choose_batch_size(cfg, camera) == 1
