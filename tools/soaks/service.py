"""Run serve.py at its limit with some bad requests, and check answers, memory and open files."""

from __future__ import annotations

import collections
import http.client
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.serve import read_images
from make_shapes import make_shapes
from ssd.errors import UserError
from ssd.runtime.heartbeat import activity

from .bad_requests import BAD_REQUESTS
from .leftovers import Leftovers
from .marked_processes import VARIABLE, kill_processes, wait_until_gone
from .samples import Samples

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
BAD_FRACTION = 0.01  # of the requests
TIMEOUT_SECONDS = 60  # of a client
WARM_UP_SECONDS = 120  # until the memory of decoders and of the model is flat
STOP_SECONDS = 30  # until the server has stopped
STOPPED = 130  # exit code of a server after SIGTERM


class Clients:
    """Clients that send images one after the other, each over one connection, and sometimes a bad request.

    url: address of the server
    images: image files to send
    seed: random seed of the bad requests
    """

    def __init__(self, url: str, images: list[bytes], seed: int):
        parts = urlsplit(url)
        self.address = (str(parts.hostname), int(parts.port or 80))
        self.images, self.seed = images, seed
        self.lock = threading.Lock()
        self.kinds = itertools.cycle(BAD_REQUESTS)
        self.good: list[tuple[float, float]] = []  # (time of the answer, seconds until the answer) with status 200
        self.failed: collections.Counter[str] = collections.Counter()  # of good requests, by status or error
        self.bad: collections.Counter[tuple[str, str]] = collections.Counter()  # by kind and status

    def run(self, clients: int, seconds: float) -> None:
        """Send requests from some clients at the same time, for some seconds."""
        deadline = time.monotonic() + seconds
        threads = [threading.Thread(target=self._run, args=(number, deadline)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, number: int, deadline: float) -> None:
        rng = random.Random(f"{self.seed} {number}")
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT_SECONDS)
        while time.monotonic() < deadline:
            image = rng.choice(self.images)
            if rng.random() < BAD_FRACTION:
                self._send_bad(image)
            else:
                self._send_good(connection, image)
        connection.close()

    def _send_good(self, connection: http.client.HTTPConnection, image: bytes) -> None:
        start = time.monotonic()
        try:
            connection.request("POST", "/detect", image)
            response = connection.getresponse()
            response.read()
            status = str(response.status)
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
            connection.close()  # http.client opens it again for the next request
        now = time.monotonic()
        with self.lock:
            if status == "200":
                self.good.append((now, now - start))
            else:
                self.failed[status] += 1

    def _send_bad(self, image: bytes) -> None:
        with self.lock:
            kind = next(self.kinds)
        try:
            status = BAD_REQUESTS[kind].send(self.address, image, TIMEOUT_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        with self.lock:
            self.bad[kind, status] += 1

    def report(self, seconds: float) -> list[str]:
        """Print counts and times, and return a text for each request with an unexpected answer."""
        times, latencies = np.array(self.good or [(0.0, 0.0)]).T
        thirds = np.array_split(latencies[np.argsort(times)], 3)
        percentiles = [np.percentile(third, [50, 99]) if len(third) else (0, 0) for third in thirds]
        number_of_bad = sum(self.bad.values())
        print(f"good requests: {len(self.good)} with status 200, {sum(self.failed.values())} others", flush=True)
        print(f"bad requests: {number_of_bad} of {len({kind for kind, _ in self.bad})} kinds")
        texts = ", ".join(f"{p50:.2f} and {p99:.2f} s" for p50, p99 in percentiles)
        print(f"{len(self.good) / seconds:.1f} requests/s; median and 99th percentile in each third: {texts}")
        faults = [f"{count} good requests ended with {status}" for status, count in self.failed.items()]
        for (kind, status), count in sorted(self.bad.items()):
            print(f"  {kind}: {count} with status {status}")
            if status not in BAD_REQUESTS[kind].statuses:
                faults.append(f"{kind}: {count} requests ended with {status}")
        return faults if self.good else [*faults, "no request had status 200"]


def soak_service(folder: Path, model: Path | None, *, minutes: float, clients: int, seed: int) -> list[str]:
    """Send requests to a server for some minutes, and return a text for each fault.

    folder: working folder
    model: folder of an exported ONNX model; None trains and exports a small detector first
    minutes: time with requests
    clients: number of clients; no more than --queue_size of serve.py, which would refuse some of their images
    seed: random seed of the bad requests
    """
    model = model or export_small_detector(folder)
    leftovers, mark = Leftovers(), uuid.uuid4().hex
    log = folder / "server.log"
    command = [sys.executable, str(SSD / "serve.py"), "--model", str(model), "--port", "0"]
    with open(log, "w") as errors:
        process = subprocess.Popen(
            command, env={**os.environ, VARIABLE: mark}, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise UserError(log.read_text().strip().removeprefix("error: "))
        senders, samples = Clients(line.split()[0], read_images(None), seed), Samples()
        with samples.watch(mark), activity(f"sending requests for {minutes:g} minutes"):
            senders.run(clients, 60 * minutes)
        process.send_signal(signal.SIGTERM)
        orphans = wait_until_gone(mark, STOP_SECONDS)
    finally:
        kill_processes(mark)
        code = process.wait()
    faults = senders.report(60 * minutes) + samples.report("service", min(WARM_UP_SECONDS, 15 * minutes))
    faults += [f"process {number}, {name}, runs {STOP_SECONDS} s after SIGTERM" for number, name in orphans.items()]
    if code != STOPPED and not orphans:
        faults.append(f"the server exited with code {code}, expected {STOPPED}")
    if "Traceback" in log.read_text():
        faults.append(f"the server printed a traceback: {log.read_text()[:2000]}")
    return [*faults, *leftovers.find()]


def export_small_detector(folder: Path) -> Path:
    """Train a small detector for one epoch, export it to ONNX, and return the folder of the model."""
    make_shapes(folder / "coco", train=16, val=4, size=96, seed=0)
    recipe = ["--config", SSD / "ssd_shapes.yaml", "--data_dir", folder / "records", "--ckpt_save_dir", folder / "ckpt"]
    commands = [
        ["create_data.py", "coco", "--data_path", folder / "coco", "--out_path", folder / "records"],
        ["train.py", *recipe, "--epoch_size", "1"],
        ["export.py", *recipe, "--format", "onnx", "--output", folder / "output"],
    ]
    for script, *arguments in commands:
        with activity(f"running {script}"):
            command = [sys.executable, *map(str, (SSD / str(script), *arguments))]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "output" / "ssd_shapes_onnx"
