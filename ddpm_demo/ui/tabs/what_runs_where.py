"""What runs where: what of an image is diffused, by which network, and what happens before and after."""

import gradio as gr
import torch

from ddpm_demo.data.images import picture, tiled
from ddpm_demo.models.codec import Codec
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.pad import examples
from ddpm_demo.ui.components.player import data_uri


def build(catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """A section that is open where it matters most: where latents are diffused."""
    with gr.Accordion("What runs where", open=not catalogue.model().codec.bounded) as section:
        drawn = gr.HTML(cards(catalogue, ""))

    def fresh(name: str) -> tuple:
        return gr.update(open=not catalogue.model(name).codec.bounded), cards(catalogue, name)

    checkpoint.change(fresh, checkpoint, [section, drawn], show_progress="hidden", api_visibility="private")


def cards(catalogue: Catalogue, name: str) -> str:
    """Four pictures from a real image to a drawn one, and what stands between them."""
    model, found = catalogue.model(name), examples(catalogue, name)
    size, codec = model.image_size, model.codec
    image = torch.zeros(1, model.channels, size, size) if found is None else found[3 % len(found)][None]
    x0 = codec.encode(image.to(model.device))
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    channels, height, width = x0.shape[1:]
    numbers, fewer = image.numel(), image.numel() / x0[0].numel()
    net = f"{count_parameters(model.denoiser.net) / 1e6:.2f} M parameters"
    if isinstance(codec, Codec):
        before = f"Every {codec.patch}×{codec.patch} pixels become channels: the same numbers on fewer places"
        after = "Unfolded again, which costs nothing"
        shown, back = image, image
        start, work = codec.decode(noise) / 3, "Pure noise in the same shape"
    else:
        coder = f"{count_parameters(codec.vae) / 1e6:.2f} M parameters"
        before = (
            f"The <b>encoder</b> ({coder} with the decoder) leaves one number in {fewer:.0f}; it ran while training"
        )
        after = "The <b>decoder</b> makes an image of the last latents (the player decodes every frame, to show it)"
        shown, back = tiled(x0.cpu(), size), codec.decode(x0).cpu()
        start, work = tiled(noise, size), "Noise in the shape of the latents"
    panels = [
        (image, "A real image", f"{model.channels}×{size}×{size} = {numbers:,} numbers"),
        (shown, f"{channels}×{height}×{width} = {x0[0].numel():,} numbers", before),
        (start, "Where sampling starts", f"{work}. Here the <b>U-Net</b> ({net}) works, at every step"),
        (back, "An image again", after),
    ]
    figures = "".join(
        f'<figure><img src="{data_uri(picture(shown, 1, height=128, gap=0))}" alt="{title}"/>'
        f"<figcaption><b>{title}</b><br>{words}</figcaption></figure>"
        for shown, title, words in panels
    )
    return f'<div class="cards where" data-latent="{str(not codec.bounded).lower()}">{figures}</div>'
