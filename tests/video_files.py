"""Small video files for tests: written with OpenCV, then changed in place, because no FFmpeg command is needed."""

import cv2
import numpy as np

from ssd.inference.container_check import _CLUSTER, _SEGMENT, _read_number


def write_video(path, num_frames=5, size=(64, 48), codec="MJPG", fps=12.5):
    """Write a video. Frame i is grey with the value 40 * i % 240."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps=fps, frameSize=size)
    for number in range(num_frames):
        writer.write(np.full((size[1], size[0], 3), 40 * number % 240, np.uint8))
    writer.release()
    return path


def blocks(path):
    """Return (position of the frame's 2-byte time, position behind the frame) of each frame in a Matroska file."""
    found = []
    with open(path, "rb") as file:
        end = len(file.read())
        file.seek(0)
        while file.tell() < end:
            element = _read_number(file, max_bytes=4, keep_marker=True)
            size = _read_number(file, max_bytes=8, keep_marker=False)
            if element == 0xA3:  # SimpleBlock: track (1 byte), time (2 bytes), flags, frame
                found.append((file.tell() + 1, file.tell() + size))
            if element not in (_SEGMENT, _CLUSTER):
                file.seek(size, 1)
    return found


def set_times(path, milliseconds):
    """Change the times of the frames of a Matroska file, which has one cluster."""
    content = bytearray(path.read_bytes())
    for (position, _), time in zip(blocks(path), milliseconds, strict=True):
        content[position : position + 2] = time.to_bytes(2, "big")
    path.write_bytes(content)
    return path


def rotate(path):
    """Make players turn an MP4 file by 90 degrees clockwise, as phones do with videos in portrait format."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    values = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(content)
    return path


def read_video(path):
    """Return the frame rate and the list of frames of a video file."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        success, frame = capture.read()
        if not success:
            return capture.get(cv2.CAP_PROP_FPS), frames
        frames.append(frame)
