import numpy as np
import torch
from conftest import tiny_model
from PIL import Image

from ddpm_demo import sample
from ddpm_demo.pictures import picture, save_animation, side_by_side


def test_pixels_are_kept_and_enlarged_whole():
    images = torch.tensor([[[[-1.0, 1.0], [0.0, 3.0]]]])
    drawn = np.asarray(picture(images, 1, height=12, gap=0))
    assert drawn.shape == (12, 12)
    assert drawn[0, 0] == 0 and drawn[0, 11] == 255 and drawn[11, 0] in (127, 128) and drawn[11, 11] == 255
    assert set(np.unique(drawn)) == {0, 128, 255}


def test_an_animation_has_a_frame_a_step(tmp_path):
    walk = sample(tiny_model(), [0, 1], steps=6)
    save_animation([side_by_side(step, 2) for step in walk], tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as animation:
        assert animation.n_frames == 6 and animation.width > animation.height
