"""Muon beside AdamW: orthogonal steps for the matrices and convolutions of a network, Adam's steps for all else.

K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". The scale of the steps and the weight
decay are those of Liu et al. 2025, "Muon is scalable for LLM training", so that one learning rate serves both.
"""

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
RMS = 0.2  # of a step before the learning rate: about that of AdamW (Liu et al. 2025, section 2.2)
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz polynomial (Jordan et al. 2024)
ITERATIONS = 5
OUTERMOST = ("conv_in", "conv_out")  # the layers from x and to the output, which AdamW trains


class Muon(torch.optim.AdamW):
    """AdamW, except that the weights of all linear and convolutional layers but the first and the last use Muon's steps.

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
        group = self.param_groups[0]
        for p in group["params"]:
            if p.grad is None:
                continue
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(p.grad, 1 - MOMENTUM)
            ahead = p.grad.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov momentum, (outputs, inputs * kernel)
            direction = orthogonalise(ahead, self.low_precision).reshape(p.shape)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(direction, alpha=-group["lr"] * RMS * max(ahead.shape) ** 0.5)
            p.grad = None  # AdamW skips a weight without a gradient
        super().step()


def orthogonalise(matrix: Tensor, low_precision: bool = False) -> Tensor:
    """Approximate U V^T of a matrix (M, N) = U S V^T: the singular values become about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if low_precision else matrix
    x = x.T if len(x) > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if len(matrix) > matrix.shape[1] else x
    return x.to(matrix.dtype)
