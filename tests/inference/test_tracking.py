"""Tracks of the real library: ids of moving objects, gaps, low scores, and a missing library."""

import sys

import numpy as np
import pytest

from ssd.boxes.multiclass_nms import Detections
from ssd.errors import UserError
from ssd.inference import tracking
from ssd.inference.tracking import Tracker, require_byte_track


def detections(*rows):
    """rows: (y0, x0, score); boxes have 40 x 40 pixels"""
    table = np.array(rows, np.float32).reshape(-1, 3)
    boxes_yxyx = np.hstack([table[:, :2], table[:, :2] + 40])
    return Detections(boxes_yxyx, table[:, 2], np.ones(len(table), np.int32))


def track(frames, **options):
    pytest.importorskip("supervision")
    tracker = Tracker(**{"frames_per_second": 25, "start_score": 0.3, **options})
    return [tracker.update(detections(*rows)).track_ids.tolist() for rows in frames], tracker.num_tracks


def test_moving_objects_keep_their_ids_in_any_order():
    frames = [[(0, 5 * i, 0.9), (200, 300 - 5 * i, 0.8)][:: 1 if i % 2 else -1] for i in range(6)]
    assert track(frames) == ([[1, 2], [2, 1]] * 3, 2)


def test_a_new_object_has_an_id_from_its_second_frame_on():
    frames = [[(0, 0, 0.9)], *[[(0, 0, 0.9), (200, 200, 0.8)]] * 3]
    assert track(frames) == ([[1], [1, 0], [1, 2], [1, 2]], 2)
    assert track([rows[::-1] for rows in frames]) == ([[1], [0, 1], [2, 1], [2, 1]], 2)


def test_an_object_keeps_its_id_for_a_second_without_detections():
    def ids_after(num_missing):
        ids, _ = track([[(0, 0, 0.9)]] * 3 + [[]] * num_missing + [[(0, 0, 0.9)]] * 2)
        return ids[-1]

    assert ids_after(24) == [1] and ids_after(30) == [2]


def test_detections_with_low_scores_continue_tracks_but_start_none():
    frames = [[(0, 5 * i, 0.15 if i == 3 else 0.9), (200, 200, 0.29)] for i in range(6)]
    assert track(frames) == ([[1, 0]] * 6, 1)
    assert track(frames, start_score=0.28) == ([[1, 2]] * 6, 2)


def test_a_new_tracker_counts_from_1():
    frames = [[(0, 0, 0.9)]] * 2
    assert track(frames) == track(frames) == ([[1], [1]], 1)


@pytest.mark.filterwarnings("error")
def test_frames_without_detections_have_no_tracks():
    assert track([[], []]) == ([[], []], 0)


def test_only_track_ids_are_added():
    pytest.importorskip("supervision")
    before = detections((0, 0, 0.9), (100, 100, 0.05))
    after = Tracker(25, start_score=0.3).update(before)
    for field in ("boxes_yxyx", "scores", "labels"):
        assert getattr(after, field) is getattr(before, field)


def test_a_missing_library_is_an_error_with_the_line_for_pip(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    for function in (require_byte_track, detections((0, 0, 0.9)).to_supervision):
        with pytest.raises(UserError, match=r"^supervision: .*pip install -e '.\[track\]'"):
            function()


def test_a_version_without_byte_track_is_an_error_with_the_line_for_pip(monkeypatch):
    newer = type(sys)("supervision")
    newer.__version__ = "0.31.2"
    monkeypatch.setattr(tracking, "import_supervision", lambda: newer)
    with pytest.raises(UserError, match=r"^supervision: .*0.31.2.*pip install -e '.\[track\]'"):
        require_byte_track()
