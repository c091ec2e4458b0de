"""The images of every training step: their order, this process's share of them, and how they are encoded."""

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, mirror_at_random
from ddpm_demo.errors import UserError
from ddpm_demo.models.adapters import ADAPTERS
from ddpm_demo.models.codec import CHUNK, Codec, LatentCodec
from ddpm_demo.models.partial_image import draw_tasks, encode_partial
from ddpm_demo.training.configuration import TrainingConfiguration


class Batches:
    """Gives each process its images of a step.

    The order of an epoch comes from (seed, epoch). All other random numbers come from torch's global state.
    """

    def __init__(self, data: Data, configuration: TrainingConfiguration, accelerator: Accelerator):
        processes = accelerator.num_processes
        self.size = min(configuration.batch_size, len(data))  # over all processes together
        if self.size % processes:
            raise UserError(f"batch size {self.size} cannot be shared evenly by {processes} processes")
        self.per_epoch = len(data) // self.size
        self.data, self.configuration, self.accelerator = data, configuration, accelerator
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.int64)
        self.codec: Codec | LatentCodec = Codec()
        self.latents: Tensor | None = None

    def prepare(self, codec: Codec | LatentCodec) -> None:
        """Set the codec, encode all images where that can be done once, and move them to the device."""
        self.codec, chosen = codec, self.configuration
        # The autoencoder does not learn, so latents stay the same. Parts of images are new at every step.
        if chosen.latent and not ADAPTERS[chosen.condition].takes_image:
            self.latents = encode_all(codec, self.data, chosen.flip, self.accelerator.is_main_process)
        self.data = self.data.to(self.accelerator.device)

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """(x0 (B, C, H, W), label (B,), image (B, C + 1, H, W)) of a step, on the device.

        ``image`` is given to the network beside x; None for a network that takes no image.
        """
        chosen, device = self.choose(step), self.accelerator.device
        if self.latents is not None:
            views = torch.randint(len(self.latents), (len(chosen),))
            return self.latents[views, chosen].float().to(device), self.data.labels[chosen.to(device)], None
        images, label = self.data.batch(chosen.to(device))
        images = mirror_at_random(images) if self.configuration.flip else images
        x0, image = self.codec.encode(images), None
        if ADAPTERS[self.configuration.condition].takes_image:
            image = encode_partial(self.codec, *draw_tasks(images))
        return x0, label, image

    def choose(self, step: int) -> Tensor:
        """The indices (B,) of this process's images of a step, on the CPU."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.configuration.seed + epoch)
            self.epoch, self.order = epoch, torch.randperm(len(self.data), generator=generator)
        start = place * self.size
        shared = self.order[start : start + self.size]
        return shared[self.accelerator.process_index :: self.accelerator.num_processes]


@torch.no_grad()
def encode_all(codec: LatentCodec, data: Data, flip: bool, show: bool) -> Tensor:
    """All images as latents (1, N, c, h, w), half precision, on the CPU; with ``flip`` (2, ...), the second mirrored."""
    views = []
    for mirror in (False, True)[: 1 + flip]:
        parts = tqdm(
            torch.arange(len(data)).split(CHUNK), "encoding images", leave=False, disable=None if show else True
        )
        images = (data.batch(part)[0] for part in parts)
        views.append(torch.cat([codec.encode(part.flip(-1) if mirror else part).half().cpu() for part in images]))
    return torch.stack(views)
