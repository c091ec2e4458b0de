"""Builds diffusers networks from a few numbers."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddpm_demo.errors import UserError
from ddpm_demo.models.adapters import TOKENS, channels_beside

# What recording warns of: that it is deprecated (see Recorded), and shape checks inside diffusers that it passes over.
warnings.filterwarnings("ignore", message="`torch.jit")
warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)


TOKEN_WIDTH, HEAD_WIDTH = 64, 32


def unet(
    shape: tuple[int, int, int],
    widths: Sequence[int],
    num_classes: int = 0,
    *,
    attention: bool = True,
    layers: int = 2,
    dropout: float = 0.0,
    condition: str = "add",
) -> nn.Module:
    """A diffusers U-Net for x of ``shape`` (C, H, W): one level per width, each half the size of the one before.

    ``attention`` puts multi-head self-attention (Ho et al. 2020, appendix B) at every level but the first.
    ``num_classes`` > 0 teaches it classes and one more, the null label of classifier-free guidance. ``condition`` says
    how: "add" and "image" build a UNet2DModel that adds a class embedding to the time's, with "image" for C + 1 more
    channels of x; "cross-attention" builds a UNet2DConditionModel that attends to ``class_tokens``.
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
    )  # here: it takes a while, and most of the package does without

    if condition == "cross-attention":
        if not (num_classes and attention):
            raise UserError("--condition cross-attention attends to the class: it needs --cfg, and --attention")
        return UNet2DConditionModel(
            **common,
            down_block_types=at_every_level("DownBlock2D", "CrossAttnDownBlock2D", len(widths)),
            up_block_types=at_every_level("UpBlock2D", "CrossAttnUpBlock2D", len(widths))[::-1],
            attention_head_dim=tuple(max(1, w // HEAD_WIDTH) for w in widths),  # the number of heads, despite its name
            cross_attention_dim=TOKEN_WIDTH,
            encoder_hid_dim=TOKENS * (num_classes + 1),  # tokens come in as one-hot rows, and are embedded inside
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
    """Block names, the outermost level's first."""
    return (first,) + (others,) * (levels - 1)


def count_parameters(net: nn.Module) -> int:
    """The number of parameters of a network."""
    return sum(p.numel() for p in net.parameters())


class Recorded(nn.Module):
    """A network whose operations were recorded once, so that no Python runs between them.

    The same numbers to the last bit, in half the time for a few images, where a CPU waits for Python rather than
    computes. Recording takes about a second. ``example`` are tensors of a call; the call is that of the network recorded.
    """

    def __init__(self, net: nn.Module, *example: Tensor):
        super().__init__()
        self.net = net
        # Deprecated in favour of torch.compile, which needs a C++ compiler and half a minute, and torch.export, which
        # refuses batches beyond 63 here; until torch drops it, nothing else starts a demo in time.
        with torch.no_grad():
            self.graph = torch.jit.freeze(torch.jit.trace(Bare(net).eval(), example, check_trace=False))

    def forward(self, x: Tensor, timestep: Tensor, *condition: Tensor, return_dict: bool = False):
        """(output,) like x (N, C, H, W); timestep a number or (N,)."""
        return (self.graph(x, timestep.expand(len(x)), *condition),)


class Bare(nn.Module):
    """A diffusers network whose output is the tensor alone, as recording needs it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Tensor:
        """The output like x."""
        return self.net(*inputs, return_dict=False)[0]
