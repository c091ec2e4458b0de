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
    ):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae)
        self.register_to_config(patch=patch)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: list[int] | None = None,
        guidance_scale: float = 1.0,
        num_inference_steps: int = 100,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Generate images of the ``class_labels`` (N numbers), or ``batch_size`` images without a class.

        ``guidance_scale`` is 1 + w of Ho & Salimans 2022; 1 means no guidance. ``output_type`` "pil" returns PIL
        images, any other value an array (N, H, W, C) in [0, 1]. Raises ValueError for a label out of range.
        """
        config = self.unet.config
        attends = config.get("encoder_hid_dim")
        classes = attends // TOKENS if attends else config.num_class_embeds
        if class_labels is None:
            label = torch.full((batch_size,), classes - 1) if classes else None  # the last label is the null label
        elif not classes or not all(0 <= k < classes - 1 for k in class_labels):
            known = f"numbers from 0 to {classes - 2}" if classes else "left out, because this model has no classes"
            raise ValueError(f"class_labels is {class_labels}; it must be {known}")
        else:
            label = torch.tensor(class_labels)
        guided = class_labels is not None and guidance_scale != 1
        number = batch_size if label is None else len(label)
        size = config.sample_size
        shape = (number, config.out_channels, *((size, size) if isinstance(size, int) else size))
        x = torch.randn(shape, generator=generator).to(self.device, self.unet.dtype)
        if guided:
            label = torch.cat([label, torch.full_like(label, classes - 1)])
        if attends:
            label = torch.eye(attends, dtype=self.unet.dtype)[label[:, None] * TOKENS + torch.arange(TOKENS)]
        label = None if label is None else label.to(self.device)
        # For a network with an image input, zeros mean that no pixel of the image is known.
        nothing = x.new_zeros(number * (1 + guided), config.in_channels - config.out_channels, *shape[2:])
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.progress_bar(self.scheduler.timesteps):
            given = torch.cat([torch.cat([x, x]) if guided else x, nothing], 1)
            output = self.unet(given, t, label).sample
            if guided:
                conditional, unconditional = output.chunk(2)
                output = unconditional + guidance_scale * (conditional - unconditional)
            x = self.scheduler.step(output, t, x, generator=generator).prev_sample
        folded = self.vae is None
        images = (
            torch.nn.functional.pixel_shuffle(x.float(), self.config.patch)
            if folded
            else self.vae.decode(x).sample.float()
        )
        array = ((images + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return ImagePipelineOutput(images=self.numpy_to_pil(array) if output_type == "pil" else array)
