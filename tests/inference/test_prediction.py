"""The batch size of prediction."""

from fake_predictor import FakeCapture
from ssd.inference.prediction import MAX_VIDEO_BATCH, choose_batch_size
from ssd.inference.sources import Video


def test_a_batch_is_no_larger_than_the_number_of_inputs(tiny_recipe):
    cfg = tiny_recipe(batch_size=4)
    assert choose_batch_size(cfg, [None] * 9) == 4 and choose_batch_size(cfg, [None]) == 1
    assert choose_batch_size(cfg, Video(FakeCapture(3), "a.mp4", is_camera=False)) == 3
    assert choose_batch_size(cfg, Video(FakeCapture(), "a.mp4", is_camera=False)) == 4
    assert choose_batch_size(cfg, Video(FakeCapture(), "camera0", is_camera=True)) == 1
    large = tiny_recipe(batch_size=64)
    assert choose_batch_size(large, [None] * 99) == 64
    assert choose_batch_size(large, Video(FakeCapture(99), "a.mp4", is_camera=False)) == MAX_VIDEO_BATCH
