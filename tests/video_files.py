"""Small video files for tests, written without the command ffmpeg."""

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


def write_matroska(path, milliseconds, audio_packets=0):
    """Write a Matroska file with frames at the given times. Frame i is grey with the value 40 * i % 240.

    audio_packets: number of packets of an audio stream before each frame
    """

    def element(number, content):
        content = number_bytes(content) if isinstance(content, int) else content
        return number_bytes(number) + (len(content) | 1 << 56).to_bytes(8, "big") + content

    def number_bytes(number):
        return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")

    def block(track, time, content):
        return element(0xA3, bytes([0x80 | track]) + time.to_bytes(2, "big") + b"\x80" + content)

    size = element(0xB0, 64) + element(0xBA, 48)
    sound = element(0x9F, 1) + element(0x6264, 16)  # channels, bits
    video, audio = (1, b"V_MJPEG", element(0xE0, size)), (2, b"A_PCM/INT/LIT", element(0xE1, sound))
    tracks = b"".join(
        element(0xAE, element(0xD7, kind) + element(0x73C5, kind) + element(0x83, kind) + element(0x86, codec) + format)
        for kind, codec, format in (video, audio)
    )
    frames = b""
    for number, time in enumerate(milliseconds):
        _, jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 40 * number % 240, np.uint8))
        frames += block(2, time, bytes(2)) * audio_packets + block(1, time, jpeg.tobytes())
    cluster = element(_CLUSTER, element(0xE7, 0) + frames)
    segment = element(0x1549A966, element(0x2AD7B1, 1000000)) + element(0x1654AE6B, tracks) + cluster
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(element(0x1A45DFA3, element(0x4282, b"matroska")) + element(_SEGMENT, segment))
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
