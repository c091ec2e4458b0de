"""A stand-in for the service that lends a ZeroGPU Space its GPUs, as the real package `spaces` asks it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

# The one thing that is missing here is the GPU itself: the worker process finds none, and stays on the CPU.
NO_DEVICE = """
import os
if os.environ.get("SPACES_ZERO_GPU"):
    import spaces.zero.torch as patched
    patched.init = patched.move = lambda *args, **kwargs: None
"""


class Lender:
    """Grants every request at once, and remembers what it was asked: (path, parameters)."""

    def __init__(self):
        self.asked: list[tuple[str, dict]] = []
        self.busy = False  # then no GPU is to be had
        lender = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                url = urlparse(self.path)
                parameters = {name: values[0] for name, values in parse_qs(url.query).items()}
                lender.asked.append((url.path, parameters))
                grant = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}
                body = json.dumps(grant).encode()
                self.send_response(503 if lender.busy and url.path == "/schedule" else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def seconds(self) -> list[int]:
        """For how long each run asked for a GPU."""
        return [int(told["durationSeconds"]) for path, told in self.asked if path == "/schedule"]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
