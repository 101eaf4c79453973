"""segmentation_models.pytorch as a reference, beside a PyTorch that knows no CUDA.

Tests ask for the fixture `smp_network` of `tests/pretrained/conftest.py`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

CLASSES = {
    "unet": "Unet",
    "fpn": "FPN",
    "pspnet": "PSPNet",
    "deeplabv3plus": "DeepLabV3Plus",
}


def network(name: str, classes: int, arguments: Mapping[str, Any]) -> Any:
    """SMP's network, untrained, or a skipped test.

    torchvision has to be there already, as `torchvision_reference.py` makes it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            smp = importlib.import_module("segmentation_models_pytorch")
        except ImportError as error:
            pytest.skip(f"needs segmentation_models.pytorch: {error}")
    architecture, _, encoder = name.partition("-")
    make = vars(smp)[CLASSES[architecture]]
    return make(encoder, encoder_weights=None, classes=classes, **arguments).eval()
