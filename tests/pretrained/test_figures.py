"""What is known of sources, beside their networks."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.pretrained.figures import FIGURES
from segjax.pretrained.published import PUBLISHED
from segjax.pretrained.source import abstract_variables, build
from segjax.pretrained.sources import SOURCES

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "pretrained.npz"
TORCHVISION = [x for x in FIGURES if x.startswith("torchvision/") and "rcnn" not in x]
CLASSES = {
    "tflite/mobilenet_v2": 1001,
    "tflite/deeplab_mobilenet_edgetpu_cityscapes": 19,
}


def test_only_sources_have_figures_and_files() -> None:
    assert FIGURES.keys() | PUBLISHED.keys() <= SOURCES.keys()


@pytest.mark.parametrize("source", TORCHVISION)
def test_parameters_are_those_of_torchvisions_tensors(source: str) -> None:
    with np.load(GOLDEN) as arrays:
        shapes = json.loads(arrays[f"{source} shapes"].tobytes())
    learned = [
        shape
        for name, shape in shapes.items()
        if name.endswith((".weight", ".bias"))
        # torchvision counts GoogLeNet without the auxiliary classifiers of its file.
        and not (source.endswith("googlenet") and name.startswith("aux"))
    ]
    assert FIGURES[source].parameters == sum(map(math.prod, learned))


@pytest.mark.quick(1)
@pytest.mark.parametrize("source", [x for x in FIGURES if x.startswith("tflite/")])
def test_parameters_of_tensorflow_lite_are_those_of_the_network(source: str) -> None:
    group = {**SOURCES[source].group, "num_classes": CLASSES.get(source, 21)}
    params = abstract_variables(build(group, source))["params"]
    assert FIGURES[source].parameters == sum(x.size for x in jax.tree.leaves(params))
