"""Publishes checkpoints and the demo on the Hugging Face Hub.

python -m ddpm_demo.hub push checkpoints/mnist user/ddpm-mnist    publish a checkpoint (requires: hf auth login)
python app.py --checkpoint user/ddpm-mnist                        use it, as user/name or user/name@revision
python -m ddpm_demo.hub space user/ddpm-demo                      host the demo as a Space
python -m ddpm_demo.hub space user/ddpm-demo --static             as files that run in the visitor's browser
"""

import argparse
import sys
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.hub import space
from ddpm_demo.hub.client import push


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and publish. Return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m ddpm_demo.hub", description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="command", required=True)
    publish = commands.add_parser("push", help="publish a checkpoint")
    publish.add_argument("folder", type=Path, help="the checkpoint, e.g. runs/mnist")
    publish.add_argument("name", help="user/name on the Hub")
    publish.add_argument("--private", action="store_true", help="visible only to you and to people you invite")
    host = commands.add_parser("space", help="create or update a Space that runs the demo")
    host.add_argument("name", help="user/name on the Hub")
    host.add_argument(
        "--hardware", choices=space.HARDWARE, help="zero-a10g is ZeroGPU (default: unchanged, or cpu-basic)"
    )
    host.add_argument(
        "--checkpoint",
        metavar="USER/NAME",
        help="the Hub model that the Space loads first (default: the shipped model)",
    )
    host.add_argument("--private", action="store_true", help="visible only to you and to people you invite")
    host.add_argument(
        "--static",
        nargs="?",
        const="",
        metavar="DIR",
        help="a Space without a server: the folder that python -m ddpm_demo.web has written (default: write it now)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "push":
            print(f"published: {push(options.folder, options.name, options.private)}")
        elif options.static is not None:
            if options.hardware:
                raise UserError("a static Space has no hardware: leave out --hardware, or --static")
            folder = Path(options.static) if options.static else None
            if folder and options.checkpoint:
                raise UserError(f"{folder} already contains its checkpoints: leave out --checkpoint, or the folder")
            print(f"published: {space.publish_static(options.name, folder, options.private, options.checkpoint)}")
        else:
            address = space.publish(options.name, options.hardware, options.private, options.checkpoint)
            print(f"published: {address}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
