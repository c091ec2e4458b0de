"""The images of a training step: their order, the share of a process, and their encoding."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model  # noqa: F401
