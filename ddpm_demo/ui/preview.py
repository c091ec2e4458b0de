"""The picture and the words that a link to the app shows in messages and social networks.

Gradio writes its own picture into the page, and the option ``head`` is added by JavaScript, which these readers do not run.
"""

import re
import sys
from html import escape
from pathlib import Path

from gradio.route_utils import get_root_url
from PIL import Image, ImageDraw, ImageFont
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ddpm_demo.data.images import render_grid
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.generation.animation import render_noisy_state
from ddpm_demo.generation.generate import sample
from ddpm_demo.models.checkpoint import Model, load

TITLE = "See through a diffusion model: noise becomes an image, step by step"
DESCRIPTION = (
    "Watch a small diffusion model turn noise into digits and photographs, and change everything while it runs."
)
PICTURE = Path(__file__).parent / "preview.png"
ADDRESS = f"/{PICTURE.name}"
SIZE = (1200, 630)  # pixels, as social networks show it
FOREIGN = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')  # what Gradio writes


def add_preview(app: ASGIApp) -> ASGIApp:
    """ASGI middleware that serves the preview picture, and names it in the page."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in ("/", ADDRESS):
            await app(scope, receive, send)
        elif scope["path"] == ADDRESS:
            await FileResponse(PICTURE)(scope, receive, send)
        else:
            await app(scope, receive, name_preview(Request(scope), send))

    return serve


def name_preview(request: Request, send: Send) -> Send:
    """Return a ``send`` that collects the page, and sends it with the preview in place of Gradio's own."""
    parts: list[Message] = []

    async def collect(message: Message) -> None:
        parts.append(message)
        if message["type"] != "http.response.body" or message.get("more_body"):
            return
        start, *bodies = parts
        page = b"".join(part.get("body", b"") for part in bodies)
        tags = describe_preview(get_root_url(request, "/", None)).encode()
        page = FOREIGN.sub(b"", page).replace(b"<head>", b"<head>" + tags, 1)
        MutableHeaders(scope=start)["content-length"] = str(len(page))
        await send(start)
        await send({"type": "http.response.body", "body": page})

    return collect


def describe_preview(root: str) -> str:
    """Return the tags of the preview for an app at the address ``root``. Readers need the full address of the picture."""
    words = {"title": TITLE, "description": DESCRIPTION, "type": "website", "url": root, "image": root + ADDRESS}
    tags = [f'<meta property="og:{name}" content="{escape(value)}">' for name, value in words.items()]
    return "".join([*tags, '<meta name="twitter:card" content="summary_large_image">'])


def draw_preview(model: Model) -> Image.Image:
    """Draw the picture: the title, a noisy state with its clean estimate, and the estimates of twelve steps below."""
    steps = list(sample(model, [7], weight=2.0, steps=12, seed=11))
    picture = Image.new("RGB", SIZE, "#131417")
    pen = ImageDraw.Draw(picture)
    for line, (words, size, colour) in enumerate((("See through", 58, "white"), ("a diffusion model", 58, "white"))):
        pen.text((48, 130 + 72 * line), words, colour, ImageFont.load_default(size))
    pen.text((50, 300), "noise becomes an image, step by step", "#a2a4ad", ImageFont.load_default(26))
    pen.rectangle((50, 350, 170, 355), "#d2441b")
    for left, image in ((562, draw_state(steps[5])), (874, render_grid(steps[5].x0, 1))):
        picture.paste(image.convert("RGB").resize((28 * 10, 28 * 10), Image.Resampling.NEAREST), (left, 100))
    for k, step in enumerate(steps):
        picture.paste(
            render_grid(step.x0, 1).convert("RGB").resize((84, 84), Image.Resampling.NEAREST), (48 + 92 * k, 480)
        )
    return picture


def draw_state(step: Step) -> Image.Image:
    """Draw the state of the sampler at a step."""
    return render_grid(render_noisy_state(step), 1)


if __name__ == "__main__":
    draw_preview(load(sys.argv[1])).save(PICTURE, optimize=True)
