import sys

import pytest

from ddpm_demo.errors import UserError
from ddpm_demo.training.run_log import open_tensorboard


def test_a_missing_tensorboard_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UserError, match="--log-with tensorboard needs TensorBoard: pip install tensorboard"):
        open_tensorboard(tmp_path)
