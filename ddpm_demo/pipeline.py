"""Sampling as a diffusers pipeline; a copy of this file goes to the Hub with a checkpoint, and needs diffusers alone.

pipeline = DiffusionPipeline.from_pretrained(id, custom_pipeline=id, trust_remote_code=True)
pipeline(class_labels=[3], guidance_scale=3.0).images[0]
"""

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DModel


class ClassConditionalPipeline(DiffusionPipeline):
    """DDPM with classifier-free guidance on images folded into ``patch`` x ``patch`` channels."""

    def __init__(self, unet: UNet2DModel, scheduler: DDPMScheduler, patch: int = 1):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
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
        """Images of the ``class_labels`` (N numbers), or ``batch_size`` of any class.

        ``guidance_scale`` is 1 + w of Ho & Salimans 2022: 1 does not guide. ``output_type`` "pil" gives PIL images,
        anything else an array (N, H, W, C), [0, 1].
        """
        classes = self.unet.config.num_class_embeds
        if class_labels is None:
            label = torch.full((batch_size,), classes - 1) if classes else None  # the last one means: any
        elif not classes or not all(0 <= k < classes - 1 for k in class_labels):
            known = f"numbers from 0 to {classes - 2}" if classes else "left out, for this model has no classes"
            raise ValueError(f"class_labels is {class_labels}; it must be {known}")
        else:
            label = torch.tensor(class_labels)
        guided = class_labels is not None and guidance_scale != 1
        number = batch_size if label is None else len(label)
        size = self.unet.config.sample_size
        shape = (number, self.unet.config.in_channels, *((size, size) if isinstance(size, int) else size))
        x = torch.randn(shape, generator=generator).to(self.device, self.unet.dtype)
        if guided:
            label = torch.cat([label, torch.full_like(label, classes - 1)])
        label = None if label is None else label.to(self.device)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.progress_bar(self.scheduler.timesteps):
            output = self.unet(torch.cat([x, x]) if guided else x, t, label).sample
            if guided:
                conditional, unconditional = output.chunk(2)
                output = unconditional + guidance_scale * (conditional - unconditional)
            x = self.scheduler.step(output, t, x, generator=generator).prev_sample
        images = torch.nn.functional.pixel_shuffle(x.float(), self.config.patch)
        array = ((images + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return ImagePipelineOutput(images=self.numpy_to_pil(array) if output_type == "pil" else array)
