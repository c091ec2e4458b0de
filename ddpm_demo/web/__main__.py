"""Writes the demo as a folder of static files. The trained network runs in the visitor's browser, without Python.

python -m ddpm_demo.web site                                          the shipped models of MNIST: one of many steps, one of few
python -m ddpm_demo.web site --checkpoint runs/mnist user/ddpm-mnist  your models; the first one is shown first
python -m ddpm_demo.web site --serve                                  write the folder, then open it here
python -m ddpm_demo.web --serve                                       only try it: the folder is deleted at the end

Any web server can offer the folder, in any place of its address; it needs no program and no special headers. A browser
does not open index.html from the disk, because it loads scripts and data only from a web server.

The first call downloads onnxruntime-web (33 MB) and gifenc from the npm registry to the user's cache. The packages for the export:
pip install -r requirements-web.txt
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.files import SHIPPED


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, write the folder and serve it if requested. Return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m ddpm_demo.web", description=__doc__, formatter_class=formatter)
    parser.add_argument("folder", nargs="?", type=Path, metavar="OUT", help="the folder to write; it is replaced")
    parser.add_argument(
        "--checkpoint", nargs="+", default=[str(SHIPPED / name) for name in ("mnist", "mnist-instant")], metavar="DIR",
        help="folders or Hub ids of models that diffuse pixels (default: the shipped mnist and mnist-instant)",
    )  # fmt: skip
    parser.add_argument("--serve", action="store_true", help="serve the folder on this machine until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="of --serve (default: a free one)")
    options = parser.parse_args(arguments)
    if options.folder is None and not options.serve:
        parser.error("pass the folder to write, or --serve to try the demo without one")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            write_and_serve(options.folder or Path(temporary) / "demo", options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_and_serve(folder: Path, options: argparse.Namespace) -> None:
    """Write the folder, report its size, and serve it if requested until the user interrupts."""
    from ddpm_demo.web.site import serve, write_site

    write_site(folder, options.checkpoint)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"written to {folder}: {size / 1e6:.1f} MB")
    if options.serve:
        try:
            server = serve(folder, options.port)
        except (OSError, OverflowError) as error:
            raise UserError(f"port {options.port} cannot be used ({error}): pass another --port, or none") from error
        print(f"open http://127.0.0.1:{server.server_port} (Ctrl-C ends it)", flush=True)
        with server:
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


if __name__ == "__main__":
    sys.exit(main())
