"""Muon beside AdamW: orthogonal steps for the matrices and convolutions of a network, Adam's steps for all else.

K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". The scale of the steps and the form of
the weight decay are from Liu et al. 2025, "Muon is scalable for LLM training", so that one learning rate serves both.
"""

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
RMS = 0.2  # of a step before the learning rate: about that of AdamW (Liu et al. 2025, section 2.2)
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz polynomial (Jordan et al. 2024)
ITERATIONS = 5
# AdamW trains the layers from x and to the output, and the embedding of class tokens.
OUTERMOST = ("conv_in", "conv_out", "encoder_hid_proj")


class Muon(torch.optim.AdamW):
    """AdamW, except that the weights of all linear and convolutional layers but the outermost use Muon's steps.

    torch.optim.Muon accepts only matrices. ``low_precision`` orthogonalises in bf16.
    """

    def __init__(self, net: nn.Module, lr: float, low_precision: bool = False, **adamw):
        self.low_precision = low_precision
        inner = [
            module.weight
            for name, module in net.named_modules()
            if isinstance(module, (nn.Linear, nn.Conv2d)) and name.split(".")[-1] not in OUTERMOST
        ]
        taken = set(map(id, inner))
        others = [p for p in net.parameters() if id(p) not in taken]
        super().__init__([{"params": inner}, {"params": others}], lr, **adamw)

    def __setstate__(self, state: dict) -> None:
        """Restore a state. Adam's method is not used, since it requires a number of steps for every weight."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the current gradients. The gradients of Muon's weights are deleted."""
        group, alike = self.param_groups[0], {}
        params = [p for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in params]
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov momentum
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        for p, direction in zip(params, ahead):
            alike.setdefault(p.shape, []).append((p, direction))
            p.grad = None  # AdamW skips a weight without a gradient
        for pairs in alike.values():
            weights = [p.movedim(1, -1) for p, _ in pairs]  # in memory, the channels of a convolution come last
            matrices = torch.stack([direction.movedim(1, -1).flatten(1) for _, direction in pairs])
            rate = group["lr"] * RMS * max(matrices.shape[1:]) ** 0.5
            for weight, direction in zip(weights, orthogonalise(matrices, self.low_precision)):
                weight.sub_(direction.view(weight.shape), alpha=rate)
        super().step()


def orthogonalise(matrices: Tensor, low_precision: bool = False) -> Tensor:
    """Approximate U V^T of matrices (B, M, N) = U S V^T: the singular values become about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if low_precision else matrices
    x = x.mT if x.shape[1] > x.shape[2] else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        x = polynomial @ x
    x = x.mT if matrices.shape[1] > matrices.shape[2] else x
    return x.to(matrices.dtype).contiguous()
