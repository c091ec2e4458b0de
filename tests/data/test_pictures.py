import numpy as np
import pytest
import torch
from conftest import tiny_model
from PIL import Image

from ddpm_demo import sample
from ddpm_demo.data.images import colour_signed, fit_image, render_grid, render_row, save_animation, split_row
from ddpm_demo.generation.animation import render_step


def test_pixels_are_kept_and_enlarged_whole():
    images = torch.tensor([[[[-1.0, 1.0], [0.0, 3.0]]]])
    drawn = np.asarray(render_grid(images, 1, height=12, gap=0))
    assert drawn.shape == (12, 12)
    assert drawn[0, 0] == 0 and drawn[0, 11] == 255 and drawn[11, 0] in (127, 128) and drawn[11, 11] == 255
    assert set(np.unique(drawn)) == {0, 128, 255}


def test_an_animation_has_a_frame_a_step(tmp_path):
    walk = sample(tiny_model(), [0, 1], steps=6)
    save_animation([render_step(step, 2) for step in walk], tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as animation:
        assert animation.n_frames == 6 and animation.width > animation.height


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_picture_fits(mode, channels):
    image = Image.new(mode, (50, 37))
    fitted_image = fit_image(image, channels, 28)
    assert fitted_image.shape == (channels, 28, 28)
    assert fitted_image.min() >= -1 and fitted_image.max() <= 1


def test_what_is_transparent_is_black_and_the_middle_is_kept():
    image = Image.new("RGBA", (60, 20), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (20, 0, 40, 20))
    assert fit_image(image, 1, 10).min() > 0.8
    assert fit_image(Image.new("RGBA", (8, 8), (255, 255, 255, 0)), 1, 8).max() == -1


def test_a_row_of_examples_comes_back():
    images = (torch.rand(4, 3, 8, 8) * 255).round() / 127.5 - 1
    torch.testing.assert_close(split_row(render_row(images), 3, 8), images)


def test_signed_differences_have_two_colours():
    red, green, blue = colour_signed(torch.tensor([1.0, 0.0, -1.0]).reshape(1, 1, 1, 3))[0, :, 0]
    assert red[0] > blue[0] and blue[2] > red[2] and red[1] == green[1] == blue[1]
