"""The objective of the training of a diffusion model: the loss of one batch, and the loss on held-out images."""

import torch
from accelerate import Accelerator
from torch import Tensor

from ddpm_demo.data.datasets import Data
from ddpm_demo.diffusion.denoiser import Denoiser, loss
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.training.configuration import TrainingConfiguration

HELD_OUT_IMAGES = 512


class Denoising:
    """Learns to denoise, with some labels hidden for classifier-free guidance.

    ``null_label`` is the label that hides the class, 0 for a model without classes.
    """

    def __init__(self, configuration: TrainingConfiguration, null_label: int, accelerator: Accelerator):
        self.configuration, self.null_label = configuration, null_label
        self.process, self.processes = accelerator.process_index, accelerator.num_processes

    def losses(self, denoiser: Denoiser, x0: Tensor, label: Tensor, image: Tensor | None) -> Tensor:
        """Return the losses (B,) of clean x0 (B, C, H, W), label (B,) and image (B, C + 1, H, W) at random times."""
        device, count, contrast = x0.device, len(x0), None
        if self.null_label:
            hidden = torch.rand(count, device=device) < self.configuration.label_dropout
            label = torch.where(hidden, self.null_label, label)
            contrast = self.configuration.contrastive * ~hidden if self.configuration.contrastive else None
        # Stratified timesteps: image i of the batch draws from the i-th of B equal parts of the time (less variance).
        place = torch.arange(count) * self.processes + self.process
        log_snr = denoiser.schedule.at((place + torch.rand(count)) / (count * self.processes))
        noise = torch.randn_like(x0)
        return loss(denoiser, x0, log_snr, noise, label, self.configuration.loss_weighting, image, contrast)

    @torch.no_grad()
    def validate(self, model: Model, held_out: Data) -> float:
        """Return the mean loss of a model on held-out images, with the same noise and timesteps at every call."""
        count, T = min(HELD_OUT_IMAGES, len(held_out)), len(model.denoiser.schedule)
        images, label = held_out.batch(torch.arange(count) * len(held_out) // count)
        x0 = model.codec.encode(images)  # a network that can take an image beside x is given none
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        log_snr = model.denoiser.schedule.log_snr((torch.arange(count) + 0.5) / count * (T - 1))
        shuffled = log_snr[torch.randperm(count, generator=torch.Generator().manual_seed(1))]
        parts = zip(
            *(
                part.split(128)
                for part in (x0.to(model.device), shuffled, noise.to(model.device), label.to(model.device))
            )
        )
        weighting = self.configuration.loss_weighting
        return torch.cat([loss(model.denoiser, a, b, c, d, weighting) for a, b, c, d in parts]).mean().item()
