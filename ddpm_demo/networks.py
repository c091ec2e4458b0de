"""Builds diffusers networks from a few numbers."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddpm_demo.errors import UserError

# What recording warns of: that it is deprecated (see Recorded), and shape checks inside diffusers that it passes over.
warnings.filterwarnings("ignore", message="`torch.jit")
warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)


def unet(
    shape: tuple[int, int, int],
    widths: Sequence[int],
    num_classes: int = 0,
    *,
    attention: bool = True,
    layers: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """diffusers' UNet2DModel for x of ``shape`` (C, H, W): one level per width, each half the size of the one before.

    ``attention`` puts multi-head self-attention (Ho et al. 2020, appendix B) at every level but the first.
    ``num_classes`` > 0 adds a class embedding with one more row, the null label of classifier-free guidance.
    """
    from diffusers import UNet2DModel  # here, because it takes a while and most of the package does without

    channels, height, width = shape
    halvings = 2 ** (len(widths) - 1)
    if height % halvings or width % halvings:
        raise UserError(
            f"an input of {height}x{width} cannot be halved {len(widths) - 1} times: choose an image size that is "
            f"a multiple of {halvings} times the patch size, or fewer --widths"
        )
    if any(w % 8 for w in widths):
        raise UserError(f"widths are {list(widths)}; each must be a multiple of 8")
    deeper = len(widths) - 1
    down = ["DownBlock2D"] + ["AttnDownBlock2D" if attention else "DownBlock2D"] * deeper
    up = ["AttnUpBlock2D" if attention else "UpBlock2D"] * deeper + ["UpBlock2D"]
    return UNet2DModel(
        sample_size=height if height == width else (height, width),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        add_attention=attention,
        attention_head_dim=max(8, widths[-1] // 4),
        norm_num_groups=8,
        dropout=dropout,
        num_class_embeds=num_classes + 1 if num_classes else None,
    )


def parameter_count(net: nn.Module) -> int:
    """Number of trained numbers in a network."""
    return sum(p.numel() for p in net.parameters())


class Recorded(nn.Module):
    """A network whose operations were recorded once, so that no Python runs between them.

    The same numbers to the last bit, in half the time for a few images, where a CPU waits for Python rather than
    computes. Recording takes about a second. The call is that of the network recorded.
    """

    def __init__(self, net: nn.Module, shape: tuple[int, int, int], num_classes: int = 0):
        super().__init__()
        self.net = net
        timestep = torch.full((2,), 500.0)
        labels = (torch.zeros(2, dtype=torch.int64),) if num_classes else ()
        # Deprecated in favour of torch.compile, which needs a C++ compiler and half a minute, and torch.export, which
        # refuses batches beyond 63 here; until torch drops it, nothing else starts a demo in time.
        with torch.no_grad():
            example = torch.randn(2, *shape), timestep, *labels
            self.graph = torch.jit.freeze(torch.jit.trace(Bare(net).eval(), example, check_trace=False))

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor | None = None, return_dict: bool = False):
        """(output,) like x (N, C, H, W); timestep a number or (N,)."""
        timestep = timestep.expand(len(x))
        return (self.graph(x, timestep) if class_labels is None else self.graph(x, timestep, class_labels),)


class Bare(nn.Module):
    """A diffusers network whose output is the tensor alone, as recording needs it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, timestep: Tensor, *class_labels: Tensor) -> Tensor:
        """The output like x."""
        return self.net(x, timestep, *class_labels, return_dict=False)[0]
