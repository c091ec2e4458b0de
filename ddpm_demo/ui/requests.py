"""Bounds what a request sends: the size of its body, and files only, no addresses from which to download one."""

import gradio as gr
from fastapi import HTTPException
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ddpm_demo.data.decoding import MAX_BYTES

MAX_BODY = MAX_BYTES * 4 // 3 + 2**16  # a picture in base64, and some settings


def limit_body(app: ASGIApp) -> ASGIApp:
    """ASGI middleware that refuses a request once its body exceeds MAX_BODY bytes: Gradio bounds uploaded files only."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def receive_part() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413, f"the request is larger than {MAX_BODY / 2**20:.0f} MB")
            return message

        await app(scope, receive_part, send)

    return limited


class Page(gr.Blocks):
    """The page. Gradio would download a file of any size where a request names an address instead of an uploaded file."""

    async def preprocess_data(self, block_fn, inputs: list, *arguments, **options) -> list:
        """Refuse addresses among the inputs of a request, then prepare the inputs for their handler."""
        traverse(inputs, refuse_address, is_file_obj_with_meta)
        try:
            return await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except (
            Exception
        ) as error:  # Gradio raises several kinds for a visitor's mistake, and would log a traceback of each
            raise gr.Error(str(error), print_exception=False) from error


def refuse_address(file: dict) -> dict:
    """Return the description of an uploaded file; raise gr.Error if it is the address of another server."""
    if is_http_url_like(file["path"]):
        raise gr.Error("this server downloads nothing: send the file itself", print_exception=False)
    return file
