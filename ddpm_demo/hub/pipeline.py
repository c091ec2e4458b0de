"""Sampling as a diffusers pipeline. A copy of this file is published with each checkpoint and requires only diffusers.

pipeline = DiffusionPipeline.from_pretrained(id, custom_pipeline=id, trust_remote_code=True)
pipeline(class_labels=[3], guidance_scale=3.0).images[0]
"""

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    ImagePipelineOutput,
    UNet2DConditionModel,
    UNet2DModel,
)

TOKENS = 4  # tokens per class of a network with cross-attention


class ClassConditionalPipeline(DiffusionPipeline):
    """DDPM with classifier-free guidance, on images as ``patch`` x ``patch`` patches or on the latents of ``vae``."""

    _optional_components = ("vae",)

    def __init__(
        self,
        unet: UNet2DModel | UNet2DConditionModel,
        scheduler: DDPMScheduler,
        vae: AutoencoderKL | None = None,
        patch: int = 1,
        distilled: dict | None = None,
    ):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae)
        self.register_to_config(patch=patch, distilled=distilled)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: list[int] | None = None,
        guidance_scale: float = 1.0,
        num_inference_steps: int | None = None,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Generate images of the ``class_labels`` (N numbers), or ``batch_size`` images without a class.

        ``guidance_scale`` is 1 + w of Ho & Salimans 2022; 1 means no guidance. ``num_inference_steps`` is 100 by
        default, and 4 for a distilled model. ``output_type`` "pil" returns PIL images, any other value an array
        (N, H, W, C) in [0, 1]. Raises ValueError for a label out of range, and for steps or a scale that were not distilled.
        """
        config, distilled = self.unet.config, self.config.distilled
        attends = config.get("encoder_hid_dim")
        steps = num_inference_steps or (4 if distilled else 100)
        if distilled:
            label = self.find_rows(class_labels, batch_size, guidance_scale, steps)
        else:
            label = self.check_labels(
                class_labels, batch_size, attends // TOKENS if attends else config.num_class_embeds
            )
        guided = class_labels is not None and guidance_scale != 1 and not distilled
        number = batch_size if label is None else len(label)
        size = config.sample_size
        shape = (number, config.out_channels, *((size, size) if isinstance(size, int) else size))
        x = torch.randn(shape, generator=generator).to(self.device, self.unet.dtype)
        if guided:
            null = attends // TOKENS if attends else config.num_class_embeds
            label = torch.cat([label, torch.full_like(label, null - 1)])
        if attends:
            label = torch.eye(attends, dtype=self.unet.dtype)[label[:, None] * TOKENS + torch.arange(TOKENS)]
        label = None if label is None else label.to(self.device)
        # For a network with an image input, zeros mean that no pixel of the image is known.
        nothing = x.new_zeros(number * (1 + guided), config.in_channels - config.out_channels, *shape[2:])
        more = {"use_clipped_model_output": True} if distilled else {}  # of DDIM
        self.scheduler.set_timesteps(steps)
        for t in self.progress_bar(self.scheduler.timesteps):
            given = torch.cat([torch.cat([x, x]) if guided else x, nothing], 1)
            output = self.unet(given, t, label).sample
            if guided:
                conditional, unconditional = output.chunk(2)
                output = unconditional + guidance_scale * (conditional - unconditional)
            x = self.scheduler.step(output, t, x, generator=generator, **more).prev_sample
        folded = self.vae is None
        images = (
            torch.nn.functional.pixel_shuffle(x.float(), self.config.patch)
            if folded
            else self.vae.decode(x).sample.float()
        )
        array = ((images + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return ImagePipelineOutput(images=self.numpy_to_pil(array) if output_type == "pil" else array)

    @staticmethod
    def check_labels(labels: list[int] | None, batch_size: int, classes: int | None) -> torch.Tensor | None:
        """Return the labels (N,) of a model with so many ``classes``; the last is the null label."""
        if labels is None:
            return torch.full((batch_size,), classes - 1) if classes else None
        if not classes or not all(0 <= k < classes - 1 for k in labels):
            known = f"numbers from 0 to {classes - 2}" if classes else "left out, because this model has no classes"
            raise ValueError(f"class_labels is {labels}; it must be {known}")
        return torch.tensor(labels)

    def find_rows(self, labels: list[int] | None, batch_size: int, guidance_scale: float, steps: int) -> torch.Tensor:
        """Return the rows (N,) of a distilled model: one for each (class, guidance weight, number of steps)."""
        known = self.config.distilled
        weights = round((known["highest"] - known["lowest"]) / known["spacing"]) + 1
        if labels is None:
            labels, guidance_scale = [0] * batch_size, 0.0  # at guidance scale 0, the classes differ little
        place = (guidance_scale - 1 - known["lowest"]) / known["spacing"]
        weight = round(place)
        if steps not in known["steps"] or not 0 <= weight < weights or abs(place - weight) > 1e-6:
            raise ValueError(
                f"num_inference_steps is {steps} and guidance_scale is {guidance_scale}; this distilled model takes "
                f"{known['steps']} steps, and scales from {known['lowest'] + 1} to {known['highest'] + 1} in steps of "
                f"{known['spacing']}"
            )
        classes = self.unet.config.num_class_embeds // (weights * len(known["steps"]))
        label = self.check_labels(labels, batch_size, classes + 1)
        return (label * weights + weight) * len(known["steps"]) + known["steps"].index(steps)
