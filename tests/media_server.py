"""A web server for tests: files, streams of JPEGs as network cameras send them, and answers that go wrong."""

import contextlib
import http.server
import threading
import time

import cv2
import numpy as np


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            answer(self)
        else:
            kind, content = answer
            send(self, content, **{"Content-Type": kind, "Content-Length": len(content)})

    def log_message(self, *_):
        pass


def send(handler, content, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(content)


def jpeg_stream(num_frames, seconds=0.02, size=(64, 48)):
    """Return an answer that streams frames in the way of network cameras. Frame i is grey with the value 40 * i % 240.

    seconds: time between two frames
    """

    def answer(handler):
        send(handler, b"", **{"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        with contextlib.suppress(OSError):  # the client has gone
            for number in range(num_frames):
                pixels = np.full((size[1], size[0], 3), 40 * number % 240, np.uint8)
                jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                handler.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(seconds)

    return answer


@contextlib.contextmanager
def serve(answers):
    """Yield (address of a server without a path, list of requested paths).

    answers: {path: (content type, content), or a function that answers a request}
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.answers, server.requests = answers, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        server.server_close()
