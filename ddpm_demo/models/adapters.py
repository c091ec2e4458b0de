"""Adapters give all networks the same call: ``net(x, timestep, label, image)`` returns a tensor like x.

An adapter contains a diffusers network as ``net`` and builds the inputs of that network. It is attached when a network
is built or loaded, so that the denoiser and the samplers do not depend on the kind of conditioning.
"""

import copy

import torch
from torch import Tensor, nn

from ddpm_demo.errors import check_one_of

TOKENS = 4  # tokens per class for cross-attention; with one token, the attention weights would be constant


class ClassAdded(nn.Module):
    """A UNet2DModel that adds a class embedding to the time embedding, or an unconditional one (``num_classes`` 0).

    Label ``num_classes`` is the null label of classifier-free guidance. It is used if ``label`` is None.
    """

    takes_image = False
    network = "UNet2DModel"  # the class of diffusers

    def __init__(self, net: nn.Module, num_classes: int):
        super().__init__()
        self.net, self.num_classes = net, num_classes

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Return the output like x (N, C, H, W) for timestep, a number or (N,), label (N,), image (N, C + 1, H, W)."""
        return self.net(*self.inputs(x, timestep, label, image), return_dict=False)[0]

    def inputs(self, x: Tensor, timestep: Tensor, label: Tensor | None, image: Tensor | None) -> tuple[Tensor, ...]:
        """Return the inputs of the diffusers network."""
        if not self.num_classes:
            return x, timestep
        if label is None:
            label = torch.full((len(x),), self.num_classes, device=x.device)
        return x, timestep, label

    def with_net(self, net: nn.Module) -> "ClassAdded":
        """Return a copy of this adapter with another network."""
        other = copy.copy(self)
        other._modules = self._modules | {"net": net}
        return other


class CrossAttention(ClassAdded):
    """A UNet2DConditionModel that attends to four class tokens."""

    network = "UNet2DConditionModel"

    def inputs(self, x: Tensor, timestep: Tensor, label: Tensor | None, image: Tensor | None) -> tuple[Tensor, ...]:
        """Return the inputs of the diffusers network."""
        x, timestep, label = super().inputs(x, timestep, label, image)
        return x, timestep, class_tokens(label, self.num_classes)


class ImageBeside(ClassAdded):
    """A UNet2DModel with an image input in additional channels (Saharia et al. 2022, Palette)."""

    takes_image = True

    def inputs(self, x: Tensor, timestep: Tensor, label: Tensor | None, image: Tensor | None) -> tuple[Tensor, ...]:
        """Return the inputs of the diffusers network. If ``image`` is None, zeros mean that no pixel is known."""
        if image is None:
            image = x.new_zeros(len(x), channels_beside(x.shape[1]), *x.shape[2:])
        return super().inputs(torch.cat([x, image], 1), timestep, label, None)


ADAPTERS = {"add": ClassAdded, "cross-attention": CrossAttention, "image": ImageBeside}
CONDITIONS = tuple(ADAPTERS)


def condition_of(adapter: ClassAdded) -> str:
    """Return the name of an adapter's class in ``ADAPTERS``."""
    return next(name for name, kind in ADAPTERS.items() if type(adapter) is kind)


def channels_beside(channels: int) -> int:
    """Return the number of channels of the image input: those of x, and one that marks the known pixels."""
    return channels + 1


def class_tokens(label: Tensor, num_classes: int) -> Tensor:
    """Return the tokens (N, 4, 4 * (K + 1)) of labels (N,) for cross-attention: four one-hot rows per class."""
    rows = label[:, None] * TOKENS + torch.arange(TOKENS, device=label.device)
    return nn.functional.one_hot(rows, TOKENS * (num_classes + 1)).float()


def count_classes(net: nn.Module) -> int:
    """Return the number of classes of a diffusers network without the null label; 0 if it is unconditional."""
    tokens = net.config.get("encoder_hid_dim")
    return (tokens // TOKENS if tokens else net.config.num_class_embeds or 1) - 1


def adapt(net: nn.Module, condition: str = "add") -> ClassAdded:
    """Attach the adapter of a ``condition`` to a diffusers net. Raises UserError if it is not in ``CONDITIONS``."""
    check_one_of("condition", condition, CONDITIONS)
    return ADAPTERS[condition](net, count_classes(net))
