"""A soak of the app: mixed requests over every endpoint and the page, while its memory, files and threads are counted.

PYTHONPATH=. python tests/soak.py --requests 3000        prints the figures as JSON, from the root of the repository

The exit status is 1 if the memory grows by more than 5 MB per 1,000 requests, or if a file or a thread is left.
"""

import argparse
import http.client
import io
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from conftest import Server
from PIL import Image

CLIENTS = 4
SLOPE = "slope after the warm-up, MB per 1,000 requests"
THREADS = "threads, most in each half"
LEFT = "files left after its end"
WARM_UP = 0.5  # the part of the requests that is left out of the slope
STEEPEST = 5.0  # MB of memory per 1,000 requests after the warm-up
BOUNDARY = "soak"
SETTINGS = {"class_label": "3", "sampler": "dpm++2m", "schedule": "cosine", "steps": 2, "weight": 1.0,
            "variance": "posterior", "classifier_scale": 0.0, "autoguidance": 0.0, "corrector_snr": 0.16, "ode_tolerance": 0.1, "seed": 0,
            "interval_from": -20.0, "interval_to": 20.0, "count": 1, "checkpoint": "", "place": ""}  # fmt: skip


class Visitor:
    """A client that asks for pages, uploads pictures and calls endpoints, each time as a new session."""

    def __init__(self, server: Server, picture: bytes):
        self.server, self.picture = server, picture

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """Make one HTTP request. Raises RuntimeError unless it is answered with status 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=300)
        connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return content

    def upload(self) -> dict:
        """Upload the picture. Return the value of an image input."""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="three.png"\r\n\r\n'
        body = head.encode() + self.picture + f"\r\n--{BOUNDARY}--\r\n".encode()
        path = json.loads(self.ask("POST", "/gradio_api/upload", body, f"multipart/form-data; boundary={BOUNDARY}"))[0]
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def call(self, endpoint: str, data: list) -> None:
        """Call an endpoint and read its answer. Raises RuntimeError unless it completes."""
        url = f"/gradio_api/call/{endpoint}"
        event = json.loads(self.ask("POST", url, json.dumps({"data": data}).encode()))["event_id"]
        answer = self.ask("GET", f"{url}/{event}")
        if b"event: complete" not in answer:
            raise RuntimeError(f"{endpoint}: {answer[:500]!r}")

    def leave(self, settings: dict) -> None:
        """Call /generate, and leave before its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=300)
        body = json.dumps({"data": [*settings.values()]})
        connection.request("POST", "/gradio_api/call/generate", body, {"Content-Type": "application/json"})
        event = json.load(connection.getresponse())["event_id"]
        connection.request("GET", f"/gradio_api/call/generate/{event}")
        connection.getresponse().close()
        connection.close()

    def visit(self, number: int) -> None:
        """Make the request of a number: each kind in turn, mostly as cheap as it can be."""
        settings = SETTINGS | {"seed": number}
        kinds = [
            lambda: self.ask("GET", "/"),
            lambda: self.call("generate", [*settings.values()]),
            lambda: self.call("generate", [*(settings | {"sampler": "ode"}).values()]),
            lambda: self.call("forward", [self.upload(), 300, "cosine", number]),
            lambda: self.call("compare", ["steps", "1, 2", "seed", "0, 1", {"class_label": "5", "steps": 2}]),
            lambda: self.call("complete", [self.upload(), self.upload(), "3", 0.0, number]),
            lambda: self.call("classify", [self.upload(), 1, number]),
            lambda: self.call("interpolate", [self.upload(), self.upload(), 2, 0.1]) if number % 40 == 7 else None,
            lambda: self.leave(settings | {"steps": 1000}),
            lambda: self.ask("GET", "/config"),
        ]
        kinds[number % len(kinds)]()


def count_files(folder: Path) -> int:
    """Count the files below a folder."""
    return sum(path.is_file() for path in folder.rglob("*"))


def count_threads(server: Server) -> int:
    """Count the threads of the server."""
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def soak(requests: int) -> dict:
    """Make so many requests to a new server. Return the slope of its memory, its threads and the files that it left."""
    picture = io.BytesIO()
    Image.new("L", (28, 28), 200).save(picture, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(GRADIO_TEMP_DIR=folder, TMPDIR=folder, OMP_NUM_THREADS="1")
        visitor, curve, threads, began = Visitor(server, picture.getvalue()), [], [], time.monotonic()
        try:
            part = max(requests // 50, 1)
            for first in range(0, requests, part):
                with ThreadPoolExecutor(CLIENTS) as pool:
                    list(pool.map(visitor.visit, range(first, min(first + part, requests))))
                curve.append((first + part, server.memory()))
                threads.append(count_threads(server))
                print(
                    f"{curve[-1][0]} of {requests} requests: {curve[-1][1]:.1f} MB, {threads[-1]} threads",
                    file=sys.stderr,
                )
            written = count_files(Path(folder))
        finally:
            server.interrupt()
        late = [point for point in curve if point[0] > WARM_UP * requests]
        slope = np.polyfit(*zip(*late), 1)[0] * 1000
        half = len(threads) // 2
        return {
            "requests": requests,
            "seconds": round(time.monotonic() - began),
            "memory, MB": [round(curve[0][1]), round(late[0][1]), round(curve[-1][1])],
            SLOPE: round(float(slope), 2),
            THREADS: [max(threads[:half]), max(threads[half:])],
            "files while it runs": written,
            LEFT: count_files(Path(folder)),
        }


def is_steady(found: dict, steepest: float = STEEPEST) -> bool:
    """Return whether memory grew by at most ``steepest`` MB per 1,000 requests, and no file and no thread was left."""
    first, second = found[THREADS]
    return found[SLOPE] <= steepest and found[LEFT] == 0 and second <= first + 2


def main(arguments: list[str] | None = None) -> int:
    """Run a soak and print its figures. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    found = soak(parser.parse_args(arguments).requests)
    print(json.dumps(found, indent=2))
    return 0 if is_steady(found) else 1


if __name__ == "__main__":
    sys.exit(main())
