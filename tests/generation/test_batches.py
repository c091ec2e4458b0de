"""An image does not change with the batch that it is drawn in, whatever the sampler."""

import pytest
import torch

import ddpm_demo
from ddpm_demo.diffusion.samplers import SAMPLERS


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_does_not_depend_on_its_batch(model, sampler):
    """Each image of three against the same image alone. The network's rounding depends on the size of its batch."""
    settings = {"sampler": sampler, "steps": 6, "weight": 2.0, "interval": (-3.0, 2.0), "ode_tolerance": 0.05}
    together = ddpm_demo.generate(model, [0, 1, 2], seed=5, **settings)
    for k in range(3):
        alone = ddpm_demo.generate(model, [k], seed=5 + k, **settings)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-4)
