"""One call for every network: ``net(x, timestep, label, image)`` returns a tensor like x.

An adapter holds a diffusers network as ``net`` and puts together what that network takes. It is attached when a network
is built or loaded, so that neither the Denoiser nor the samplers know how a network is conditioned.
"""

import copy

import torch
from torch import Tensor, nn

from ddpm_demo.errors import check_one_of

TOKENS = 4  # of a class, for cross-attention: with a single one, every place would attend to the same


class ClassAdded(nn.Module):
    """A UNet2DModel that adds a class embedding to the time embedding, or an unconditional one (``num_classes`` 0).

    Label ``num_classes`` is the null label of classifier-free guidance; no label at all means the null label.
    """

    takes_image = False

    def __init__(self, net: nn.Module, num_classes: int):
        super().__init__()
        self.net, self.num_classes = net, num_classes

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """The network's output like x (N, C, H, W); timestep a number or (N,), label (N,), image (N, C + 1, H, W)."""
        return self.net(*self.inputs(x, timestep, label, image), return_dict=False)[0]

    def inputs(self, x: Tensor, timestep: Tensor, label: Tensor | None, image: Tensor | None) -> tuple[Tensor, ...]:
        """What the diffusers network takes."""
        if not self.num_classes:
            return x, timestep
        if label is None:
            label = torch.full((len(x),), self.num_classes, device=x.device)
        return x, timestep, label

    def with_net(self, net: nn.Module) -> "ClassAdded":
        """The same adapter around another network."""
        other = copy.copy(self)
        other._modules = self._modules | {"net": net}
        return other


class CrossAttention(ClassAdded):
    """A UNet2DConditionModel that attends to four tokens of the class."""

    def inputs(self, x: Tensor, timestep: Tensor, label: Tensor | None, image: Tensor | None) -> tuple[Tensor, ...]:
        """What the diffusers network takes."""
        x, timestep, label = super().inputs(x, timestep, label, image)
        return x, timestep, class_tokens(label, self.num_classes)


class ImageBeside(ClassAdded):
    """A UNet2DModel that takes an image in further channels, beside x (Saharia et al. 2022, Palette)."""

    takes_image = True

    def inputs(self, x: Tensor, timestep: Tensor, label: Tensor | None, image: Tensor | None) -> tuple[Tensor, ...]:
        """What the diffusers network takes; without an image, zeros say that nothing of one is known."""
        if image is None:
            image = x.new_zeros(len(x), channels_beside(x.shape[1]), *x.shape[2:])
        return super().inputs(torch.cat([x, image], 1), timestep, label, None)


ADAPTERS = {"add": ClassAdded, "cross-attention": CrossAttention, "image": ImageBeside}
CONDITIONS = tuple(ADAPTERS)


def condition_of(adapter: ClassAdded) -> str:
    """The name under which an adapter stands in ``ADAPTERS``."""
    return next(name for name, kind in ADAPTERS.items() if type(adapter) is kind)


def channels_beside(channels: int) -> int:
    """Channels that an image beside x takes: as many as x has, and one more for where it is known."""
    return channels + 1


def class_tokens(label: Tensor, num_classes: int) -> Tensor:
    """Labels (N,) as what cross-attention attends to: (N, 4, 4 * (K + 1)), each row one-hot, four for each class."""
    rows = label[:, None] * TOKENS + torch.arange(TOKENS, device=label.device)
    return nn.functional.one_hot(rows, TOKENS * (num_classes + 1)).float()


def count_classes(net: nn.Module) -> int:
    """How many classes a diffusers network knows, beside the null label; 0 for an unconditional one."""
    tokens = net.config.get("encoder_hid_dim")
    return (tokens // TOKENS if tokens else net.config.num_class_embeds or 1) - 1


def adapt(net: nn.Module, condition: str = "add") -> ClassAdded:
    """The adapter of a diffusers network that is conditioned in a certain way. UserError unless that is one of ``CONDITIONS``."""
    check_one_of("condition", condition, CONDITIONS)
    return ADAPTERS[condition](net, count_classes(net))
