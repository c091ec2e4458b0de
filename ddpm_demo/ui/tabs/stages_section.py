"""What runs where: what of an image is diffused, by which network, and what happens before and after."""

import gradio as gr
import torch
from torch import Tensor

from ddpm_demo.data.images import render_grid, tile_channels
from ddpm_demo.models.codec import Codec
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.pad import read_examples
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.turns import TURNS


def build(catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the section. It is open where latents are diffused, since it explains most there."""
    with gr.Accordion("What runs where", open=not catalogue.model().codec.bounded) as section:
        cards = gr.HTML(draw_stages(catalogue, ""))

    def change_checkpoint(name: str) -> tuple:
        return gr.update(open=not catalogue.model(name).codec.bounded), draw_stages(catalogue, name)

    checkpoint.change(change_checkpoint, checkpoint, [section, cards], show_progress="hidden", api_visibility="private")


def draw_stages(catalogue: Catalogue, name: str) -> str:
    """Four pictures from a real image to a drawn one, and what happens between them."""
    model, examples = catalogue.model(name), read_examples(catalogue, name)
    size, codec = model.image_size, model.codec
    image = torch.zeros(1, model.channels, size, size) if examples is None else examples[3 % len(examples)][None]
    with TURNS:
        x0 = codec.encode(image.to(model.device))
        decoded = codec.decode(x0).cpu()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    patched = isinstance(codec, Codec)
    if patched:
        stages = [image, image, codec.decode(noise) / 3, image]
    else:
        stages = [image, tile_channels(x0.cpu(), size), tile_channels(noise, size), decoded]
    return render(
        "stages.html",
        latent=not codec.bounded,
        pictures=[encode_stage(stage) for stage in stages],
        pixels=(model.channels, size, size),
        pixel_count=image.numel(),
        diffused=tuple(x0.shape[1:]),
        diffused_count=x0[0].numel(),
        patch=codec.patch if patched else None,
        network=count_parameters(model.denoiser.net) / 1e6,
        autoencoder=None if patched else count_parameters(codec.vae) / 1e6,
    )


def encode_stage(images: Tensor) -> str:
    """One image (1, C, H, W) as a data URI."""
    return encode_picture(render_grid(images, 1, height=128, gap=0))
