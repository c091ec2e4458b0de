"""Builds diffusers networks from a few settings, and traces them for fast calls on a CPU."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddpm_demo.errors import UserError
from ddpm_demo.models.adapters import TOKENS, channels_beside

# Tracing warns that it is deprecated (see TracedNetwork), and that it ignores shape checks inside diffusers. The filters are
# those of the whole process, because local ones are not safe while several threads import or trace.
warnings.filterwarnings("ignore", message="`torch.jit")
warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)

TOKEN_WIDTH, HEAD_WIDTH = 64, 32


def build_unet(
    shape: tuple[int, int, int],
    widths: Sequence[int],
    num_classes: int = 0,
    *,
    attention: bool = True,
    layers: int = 2,
    dropout: float = 0.0,
    condition: str = "add",
) -> nn.Module:
    """Build a diffusers U-Net for x of ``shape`` (C, H, W). Each width is a level, at half the size of the one before.

    ``attention`` adds self-attention with several heads (Nichol & Dhariwal 2021) to every level except the first.
    ``num_classes`` K > 0 gives a conditional network with K + 1 labels; the last is the null label of classifier-free
    guidance. ``condition`` is the kind of conditioning: "add" builds a UNet2DModel that adds a class embedding to the
    time embedding; "image" builds the same network with C + 1 more input channels; "cross-attention" builds a
    UNet2DConditionModel that attends to ``class_tokens``. Raises UserError for settings that do not fit together.
    """
    channels, height, width = shape
    halvings = 2 ** (len(widths) - 1)
    if height % halvings or width % halvings:
        raise UserError(
            f"an input of {height}x{width} cannot be halved {len(widths) - 1} times: choose an image size that is "
            f"a multiple of {halvings} times the patch size, or fewer --widths"
        )
    if any(w % 8 for w in widths):
        raise UserError(f"widths are {list(widths)}; each must be a multiple of 8")
    common = {
        "sample_size": height if height == width else (height, width),
        "in_channels": channels + (channels_beside(channels) if condition == "image" else 0),
        "out_channels": channels,
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "norm_num_groups": 8,
        "dropout": dropout,
    }
    from diffusers import (
        UNet2DConditionModel,
        UNet2DModel,
    )  # imported here, because the import is slow and most of the package does not need it

    if condition == "cross-attention":
        if not (num_classes and attention):
            raise UserError("--condition cross-attention attends to the class: it needs --cfg, and --attention")
        return UNet2DConditionModel(
            **common,
            down_block_types=at_every_level("DownBlock2D", "CrossAttnDownBlock2D", len(widths)),
            up_block_types=at_every_level("UpBlock2D", "CrossAttnUpBlock2D", len(widths))[::-1],
            attention_head_dim=tuple(max(1, w // HEAD_WIDTH) for w in widths),  # the number of heads in diffusers
            cross_attention_dim=TOKEN_WIDTH,
            encoder_hid_dim=TOKENS * (num_classes + 1),  # the tokens are one-hot rows, which the network embeds
            encoder_hid_dim_type="text_proj",
        )
    inner = ("AttnDownBlock2D", "AttnUpBlock2D") if attention else ("DownBlock2D", "UpBlock2D")
    return UNet2DModel(
        **common,
        down_block_types=at_every_level("DownBlock2D", inner[0], len(widths)),
        up_block_types=at_every_level("UpBlock2D", inner[1], len(widths))[::-1],
        add_attention=attention,
        attention_head_dim=max(8, widths[-1] // 4),
        num_class_embeds=num_classes + 1 if num_classes else None,
    )


def at_every_level(first: str, others: str, levels: int) -> tuple[str, ...]:
    """Return the block names of all levels, from the outermost level to the innermost."""
    return (first,) + (others,) * (levels - 1)


def use_plain_attention(net: nn.Module) -> None:
    """Compute attention as two matrix products and a softmax, in place. Weights and configuration do not change.

    In bf16 on a CPU, the backward pass of ``scaled_dot_product_attention``, the default, is about 11 times slower.
    """
    from diffusers.models.attention_processor import Attention, AttnProcessor

    for module in net.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())


def count_parameters(net: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(p.numel() for p in net.parameters())


class TracedNetwork(nn.Module):
    """A network that is traced once, so that no Python code runs between its operations.

    Its outputs are bitwise equal to those of the network. For a few images, a call takes half the time, because Python
    takes most of the time there. Tracing takes about a second. ``example`` are the inputs of one call.
    """

    def __init__(self, net: nn.Module, *example: Tensor):
        super().__init__()
        self.net = net
        # torch.jit is deprecated in favour of torch.compile, which needs a C++ compiler and half a minute, and of
        # torch.export, which rejects batches larger than 63 here. No other method starts a demo fast enough.
        with torch.no_grad():
            self.graph = torch.jit.freeze(torch.jit.trace(TensorOutput(net).eval(), example, check_trace=False))

    def forward(self, x: Tensor, timestep: Tensor, *condition: Tensor, return_dict: bool = False):
        """Return (output,) like x (N, C, H, W). ``timestep`` is a number or (N,)."""
        return (self.graph(x, timestep.expand(len(x)), *condition),)


class TensorOutput(nn.Module):
    """A diffusers network that returns only the output tensor, which tracing requires."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the output like x."""
        return self.net(*inputs, return_dict=False)[0]
