"""The denoiser, the central abstraction: it maps (x, log_snr, label) to its estimate of the clean image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import check_one_of

PREDICTIONS = ("epsilon", "v_prediction", "sample")
WEIGHTINGS = ("simple", "min-snr")


def alpha_sigma(log_snr: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return (alpha, sigma) at a log-SNR, both float64 of its shape, with alpha^2 + sigma^2 = 1."""
    log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def add_noise(x0: Tensor, log_snr: Tensor | float, noise: Tensor) -> Tensor:
    """Return x_t = alpha * x0 + sigma * noise, (N, C, H, W), at a log-SNR (a number or (N,))."""
    alpha, sigma = (per_image(c, x0) for c in alpha_sigma(log_snr))
    return alpha * x0 + sigma * noise


def target_weights(prediction: str, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a, b) of the network's target a*x0 + b*eps (Salimans & Ho 2022, appendix D)."""
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    return {"epsilon": (zero, one), "sample": (one, zero), "v_prediction": (-sigma, alpha)}[prediction]


@dataclass(frozen=True)
class Denoiser:
    """A network, its training schedule and its kind of prediction, as one function ``x0 = denoiser(x, log_snr)``.

    ``net(x, timestep, label, image)`` returns a tensor like x. The adapters of ``models.adapters`` have this form.
    """

    net: nn.Module
    schedule: Schedule
    prediction: str = "epsilon"

    def __post_init__(self):
        check_one_of("prediction", self.prediction, PREDICTIONS)

    def __call__(
        self, x: Tensor, log_snr: Tensor | float, label: Tensor | None = None, image: Tensor | None = None
    ) -> Tensor:
        """Return the clean estimate (N, C, H, W) of x (N, C, H, W) at log_snr (a number or (N,)).

        ``label`` is (N,) int64; None or the null label selects the unconditional estimate. ``image`` (N, C + 1, H, W)
        is the image input of a network that has one; None means that no pixel of the image is known.
        """
        output = self.predict(x, log_snr, label, image)
        alpha, sigma = (per_image(c, x) for c in alpha_sigma(log_snr))
        a, b = target_weights(self.prediction, alpha, sigma)
        return (b * x - sigma * output) / (b * alpha - sigma * a)

    def predict(
        self, x: Tensor, log_snr: Tensor | float, label: Tensor | None = None, image: Tensor | None = None
    ) -> Tensor:
        """Return the network's output a*x0 + b*eps, (N, C, H, W), at the timestep of its own schedule for log_snr."""
        return self.net(x, self.schedule.timestep(log_snr).float().to(x.device), label, image)


def loss(
    denoiser: Denoiser,
    x0: Tensor,
    log_snr: Tensor,
    noise: Tensor,
    label: Tensor | None = None,
    weighting: str = "simple",
    image: Tensor | None = None,
    contrast: Tensor | None = None,
) -> Tensor:
    """Compute the training loss per image (N,) for clean x0 (N, C, H, W), log_snr (N,) and noise like x0.

    ``label`` and ``image`` are passed to the denoiser. ``simple`` is the mean squared error of the network's own target
    (L_simple, Ho et al. 2020, eq. 14, if it predicts epsilon); ``min-snr`` multiplies the squared error of the clean
    estimate by min(SNR, 5) (Hang et al. 2023, eq. 8). Raises UserError for any other weighting.

    ``contrast`` (N,) gives contrastive flow matching (Stoica et al. 2025, eq. 8): the squared error to the target that
    the previous image and its noise have at this log-SNR is multiplied by it and subtracted. The prediction then depends
    more on the label. It should be 0 for images without a label.
    """
    check_one_of("weighting", weighting, WEIGHTINGS)
    alpha, sigma = (per_image(c, x0) for c in alpha_sigma(log_snr))
    a, b = target_weights(denoiser.prediction, alpha, sigma)
    output = denoiser.predict(add_noise(x0, log_snr, noise), log_snr, label, image).float()
    squared_error = (output - (a * x0 + b * noise)).square().flatten(1).mean(1)
    if contrast is not None:
        other = a * x0.roll(1, 0) + b * noise.roll(1, 0)
        squared_error = squared_error - contrast * (output - other).square().flatten(1).mean(1)
    if weighting == "simple":
        return squared_error
    x0_error_per_output_error = (sigma / (b * alpha - sigma * a)).square().flatten()
    return (alpha / sigma).square().flatten().clamp(max=5) * x0_error_per_output_error * squared_error


def per_image(value: Tensor, x: Tensor) -> Tensor:
    """Return a number, or one number per image, with x's dtype and device and in a shape that multiplies x."""
    value = value.to(x.dtype).to(x.device)  # in this order, because some devices do not support float64
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value
