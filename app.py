"""Watch a diffusion model turn noise into images, in the browser.

python app.py                                the shipped MNIST model, offline
python app.py --checkpoint runs/mnist        a model you trained
python app.py --checkpoint user/ddpm-mnist   a model on the Hugging Face Hub
"""

import argparse
import os
import sys
import threading
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if os.environ.get("SPACES_ZERO_GPU"):
    import spaces  # noqa: F401 ZeroGPU's, which must come before torch


def main(arguments: list[str] | None = None) -> None:
    """Parse arguments, build the demo, launch."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add(
        "--checkpoint",
        default=os.environ.get("DDPM_CHECKPOINT"),
        help="a folder or a Hub id (default: $DDPM_CHECKPOINT, or else the shipped checkpoints/mnist)",
    )
    add(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        help="0.0.0.0 serves the whole network (default: %(default)s)",
    )
    add("--port", type=int, help="default: the first free one from 7860")
    add("--share", action="store_true", help="also a public link, through Gradio's servers, for a few days")
    options = parser.parse_args(arguments)

    from ddpm_demo import UserError
    from ddpm_demo.ui import page

    try:
        demo = page.build(open_catalogue(options.checkpoint))
    except UserError as error:
        sys.exit(f"error: {error}")
    try:
        place = {"server_name": options.host, "server_port": options.port, "share": options.share}
        demo.launch(**place, prevent_thread_lock=True, **page.launch_options())
    except OSError as error:
        if options.port is None:
            raise
        sys.exit(
            f"error: port {options.port} cannot be used ({error}): pass another --port, or none to take a free one"
        )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        page.close(demo)
        print("stopped", flush=True)
        os._exit(0)  # a regular end takes seconds in torch, and torch aborts if a thread is still in a network call


def open_catalogue(checkpoint: str | None = None):
    """The named checkpoint, a folder or a Hub id, followed by the shipped ones; UserError if it cannot be loaded."""
    from ddpm_demo import load
    from ddpm_demo.files import SHIPPED
    from ddpm_demo.hub.client import locate
    from ddpm_demo.ui.catalogue import LENT, Catalogue, best_device

    checkpoint = checkpoint or str(SHIPPED / "mnist")
    folder = locate(checkpoint)
    name = folder.resolve().name if Path(checkpoint).is_dir() else checkpoint
    return Catalogue(load(folder, "cpu" if LENT else best_device()), name, folder, SHIPPED)


if __name__ == "__main__":
    main()
