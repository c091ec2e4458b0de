import pytest
import torch
from conftest import tiny_model

from ddpm_demo import generate


@pytest.mark.parametrize("classes", [0, 3])
def test_a_recorded_network_gives_the_same_images(classes):
    model = tiny_model(classes=classes)
    recorded = model.trace()
    assert recorded.device == model.device
    for count in (1, 3, 70):
        asked = {"labels": [k % 3 for k in range(count)], "weight": 1.0} if classes else {"count": count}
        torch.testing.assert_close(generate(recorded, **asked, steps=4), generate(model, **asked, steps=4))
