"""Follow objects from frame to frame with ByteTrack (arXiv:2110.06864) of the library supervision."""

from __future__ import annotations

import warnings

import numpy as np

from ..boxes.multiclass_nms import Detections
from ..boxes.supervision_package import import_supervision
from ..errors import UserError

# ByteTrack continues tracks with detections of low scores, but does not start tracks with them.
LOWEST_TRACKED_SCORE = 0.1


def require_byte_track() -> type:
    """Return the class ByteTrack of supervision. Raises UserError if it is not installed.

    supervision 0.31 moved the class to the package trackers, which needs NumPy 2 and opencv-python. MindSpore needs
    NumPy 1.x, and opencv-python overwrites files of opencv-python-headless.
    """
    supervision = import_supervision()
    try:
        return supervision.ByteTrack
    except AttributeError:
        raise UserError(
            f"supervision: version {supervision.__version__} has no ByteTrack. "
            "Install 0.30.9 with `pip install -e '.[track]'`."
        ) from None


class Tracker:
    """Give the detections of the same object in successive frames the same id. Each video needs a new Tracker.

    Classes are ignored: an object keeps its id if its class changes.

    frames_per_second: rate of the processed frames; an object that is not detected keeps its id for one second
    start_score: score from which on a detection starts a track; detections with lower scores only continue tracks
    num_tracks: number of ids assigned so far
    Raises UserError if supervision is not installed.
    """

    def __init__(self, frames_per_second: float, *, start_score: float):
        byte_track = require_byte_track()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the class is removed in the next minor version
            self._byte_track = byte_track(
                frame_rate=frames_per_second,
                track_activation_threshold=start_score - 0.1,  # ByteTrack starts tracks 0.1 above this value
            )
        self.num_tracks = 0

    def update(self, detections: Detections) -> Detections:
        """Return the detections of the next frame with track ids: 1, 2, ... by first appearance, 0 for no track.

        A new object has no id in its first frame, unless this is the first frame of the video.

        detections: all detections with scores of at least LOWEST_TRACKED_SCORE
        """
        converted = detections.to_supervision()
        converted.data["index"] = np.arange(len(detections.scores))
        tracked = self._byte_track.update_with_detections(converted)
        track_ids = np.zeros(len(detections.scores), dtype=int)
        if len(tracked):
            track_ids[tracked.data["index"]] = tracked.tracker_id
        self.num_tracks = max(self.num_tracks, int(track_ids.max(initial=0)))
        return Detections(detections.boxes_yxyx, detections.scores, detections.labels, track_ids=track_ids)
