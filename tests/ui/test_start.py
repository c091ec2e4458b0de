"""How ``app.py`` starts: from any folder, and with a sentence where the port is taken."""

import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT


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
