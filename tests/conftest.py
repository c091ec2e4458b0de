"""What the tests share: small real networks, and datasets written in their real file layouts."""

import base64
import contextlib
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ddpm_demo import load
from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.models import checkpoint
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.codec import Codec
from ddpm_demo.models.networks import build_unet
from ddpm_demo.training.distillation import bake_table, build_student
from ddpm_demo.ui.catalogue import Catalogue

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "checkpoints/mnist"
LONGEST = {
    "test_api.py", "test_app.py", "test_app_tabs.py", "test_hub.py", "test_killed.py", "test_soak.py", "test_space.py",
    "test_train_command.py", "test_training.py",
}  # fmt: skip
# Offline in every test: nothing may reach for the Hub.
os.environ |= {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
# Three tests run at once (pyproject.toml): with more than a thread each they would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_collection_modifyitems(items):
    """Start the files that take longest first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Decoded images are cached in the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tiny_model(classes: int = 3, size: int = 16, channels: int = 1, patch: int = 2, **options) -> Model:
    """A real, untrained U-Net, whose output depends on x, the timestep and the label."""
    torch.manual_seed(0)
    codec = Codec(patch)
    net = build_unet(codec.shape(channels, size), (8, 16), classes, layers=1, **options).eval().requires_grad_(False)
    names = tuple("abcdefghij"[:classes])
    condition = options.get("condition", "add")
    return Model(
        Denoiser(adapt(net, condition), Schedule.named("cosine"), "v_prediction"), codec, names, channels, size, "tiny"
    )


class KnownNetwork(torch.nn.Module):
    """A network that is a known function of (x, timestep, label, image)."""

    def __init__(self, function):
        super().__init__()
        self.function, self.unused = function, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timestep, label=None, image=None):
        return self.function(x, timestep, label, image)


def tiny_student(teacher: Model, name: str = "tiny") -> Model:
    """A distilled model like ``teacher``, the checkpoint called name, with a table of random embeddings."""
    net = build_student(teacher, teacher.label_names)
    for parameter in net.class_embedding.weights.parameters():
        torch.nn.init.normal_(parameter)
    torch.nn.init.normal_(net.class_embedding.sizes.weight)
    distilled = bake_table(net.eval().requires_grad_(False))
    denoiser = replace(teacher.denoiser, net=adapt(net))
    more = {"distilled": distilled, "sampling": distilled.defaults, "training": {"distill": name}}
    return replace(teacher, denoiser=denoiser, **more)


@pytest.fixture
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory) -> Path:
    """A small MNIST in torchvision's layout: drawn digits, 320 to train on and 40 to test."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 320), ("t10k", 40)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        for i, label in enumerate(labels):
            drawn = Image.new("L", (28, 28))
            ImageDraw.Draw(drawn).text(rng.integers(4, 10, 2).tolist(), str(label), 255, font_size=18)
            images[i] = np.asarray(drawn)
        header = struct.pack(">HBB", 0, 8, 3) + struct.pack(">III", *images.shape)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">HBB", 0, 8, 1) + struct.pack(">I", count)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
    return root


@pytest.fixture
def image_dir(tmp_path) -> Path:
    """A folder of images, DIR/<class>/*: red and blue, of several formats and sizes."""
    root = tmp_path / "pictures"
    for name, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        (root / name).mkdir(parents=True)
        for i, suffix in enumerate(["png", "jpg", "webp"] * 14):
            Image.new("RGB", (20 + i, 30), colour).save(root / name / f"{i:02}.{suffix}")
    return root


@pytest.fixture
def pets_dir(tmp_path) -> Path:
    """A small Oxford-IIIT Pet in torchvision's layout: three breeds, three images each to train on and one to test."""
    root = tmp_path / "oxford-iiit-pet"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    lines = {"trainval": [], "test": []}
    for number, breed in enumerate(["Abyssinian", "Egyptian_Mau", "Bombay"], 1):
        for i in range(4):
            Image.new("RGB", (40, 30 + i), (number * 60, 0, 0)).save(root / "images" / f"{breed}_{i}.jpg")
            lines["test" if i == 3 else "trainval"].append(f"{breed}_{i} {number} 1 1")
    for split, rows in lines.items():
        (root / "annotations" / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def run(*command: str | Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
    """A command of the project, as a user gives it, in a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@contextlib.contextmanager
def interrupted_renaming(k: int):
    """Within it, the renaming number k of a file or folder, from 0, and all later ones raise KeyboardInterrupt."""
    rename, calls = Path.replace, []

    def interrupt(path, target):
        calls.append(path)
        if len(calls) > k:
            raise KeyboardInterrupt
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        yield


@pytest.fixture
def catalogue(model) -> Catalogue:
    """The tiny model as the app's only checkpoint."""
    return Catalogue(model, "tiny")


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Catalogue:
    """The tiny model, and beside it the one distilled from it."""
    folder = tmp_path_factory.mktemp("others")
    checkpoint.save(tiny_student(tiny_model()), folder / "tiny-instant")
    return Catalogue(tiny_model(), "tiny", None, folder)


@pytest.fixture(scope="session")
def shipped() -> Catalogue:
    """The shipped model as the app's only checkpoint."""
    return Catalogue(load(SHIPPED), "mnist", SHIPPED)


def reset_peak() -> int:
    """Make the present memory of this process its peak; return it in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return read_peak()


def read_peak() -> int:
    """Return the peak of the resident memory of this process in MiB, since ``reset_peak``."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


def opened(uri: str) -> Image.Image:
    """The picture in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def frames(film: dict) -> list[dict]:
    """All frames of a film, over its chunks."""
    return [frame for chunk in film["chunks"] for frame in chunk["frames"]]


def last_picture(film: dict, panel: str = "x0") -> Image.Image:
    """The last frame of a film's panel."""
    sprite = opened(film["chunks"][-1]["sprites"][panel])
    return sprite.crop((0, sprite.height - film["height"], film["width"], sprite.height))


class Server:
    """The app as a process of its own."""

    def __init__(self, folder: Path = ROOT, *command: str | Path, **environment: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = 7860 if command else probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = command or (sys.executable, "app.py", "--port", str(self.port))
        began = time.monotonic()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 open as long as the server runs
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=self.log, stderr=self.log, env=os.environ | environment, start_new_session=True
        )
        while True:
            assert self.process.poll() is None, self.said()
            try:
                urllib.request.urlopen(self.url, timeout=1)
                break
            except OSError:
                assert time.monotonic() < began + 120
                time.sleep(0.1)
        self.seconds_to_start = time.monotonic() - began

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident memory in MiB."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def memory_peak(self, reset: bool = False) -> float:
        """The largest resident memory in MiB so far, or since it was reset."""
        if reset:
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def said(self) -> str:
        """All that it printed."""
        self.log.seek(0)
        return self.log.read().decode()

    def interrupt(self) -> int:
        """End it as Ctrl-C does; return its exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):  # ZeroGPU's workers outlive the app
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def server():
    """The app on the shipped model, for all tests."""
    server = Server()
    yield server
    server.stop()
