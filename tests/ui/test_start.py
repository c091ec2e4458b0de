"""How ``app.py`` starts and ends: from any folder, with a sentence where the port is taken, at once after Ctrl-C."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT, Server


@pytest.mark.slow
def test_it_finds_its_checkpoint_from_another_folder_and_says_that_a_port_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, ROOT / "app.py", "--port", str(port)]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: port {port} cannot be used" in done.stderr and "pass another --port" in done.stderr


@pytest.mark.slow
def test_control_c_ends_it_at_once_during_a_run():
    """With an open page, as its heartbeat, and a long solve of the ODE whose answer is awaited."""
    server = Server()
    streams = []
    try:
        page = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        page.request("GET", "/gradio_api/heartbeat/visitor")
        streams.append(page.getresponse())
        run = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        settings = ["all", "ode", "cosine", 2, 1.0, "posterior", 0.0, 0.0, 0.16, 1e-6, 0, -20.0, 20.0, 8, "", ""]
        body = json.dumps({"data": settings})
        run.request("POST", "/gradio_api/call/generate", body, {"Content-Type": "application/json"})
        event = json.load(run.getresponse())["event_id"]
        run.request("GET", f"/gradio_api/call/generate/{event}")
        streams.append(run.getresponse())
        time.sleep(3)  # the run has begun
        before = server.cpu_seconds()
        time.sleep(1)
        assert server.cpu_seconds() > before + 0.1
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
        seconds = time.monotonic() - began
        assert seconds < 3, seconds
        assert "Traceback" not in server.said() and "Error" not in server.said()
    finally:
        server.process.kill()
