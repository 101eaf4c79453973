"""Files of TensorFlow Lite beside the LiteRT interpreter, on the photographs beside them."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from segjax import pretrained
from segjax.data.normalization import normalize
from segjax.pretrained.tflite_rounding import load_rounded

DATA = Path(__file__).resolve().parents[3] / "shared/data/weights_tflite"

PASCAL = "deeplabv3_mnv2_pascal"
HALF = "deeplabv3_mnv2_dm05_pascal"
STREETS = "deeplab_mobilenet_edgetpu_cityscapes"
NETS = ("mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq")
BIRDS, DOGS = ("kite",), ("Samoyed, Samoyede",)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not DATA.exists(), reason=f"there is no {DATA}"),
]


def photograph(name, side):
    image = Image.open(DATA / f"{name}_segmentation.bmp").convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def interpreted(file, image):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(file)
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def imported(source, file):
    model, variables = pretrained.load(source, pretrained.read_state(file))
    return lambda v, x: model.apply(v, x, train=False), variables


def logits(network, variables, image):
    apply = jax.jit(lambda v, x: network(v, x)["logits"])
    with jax.numpy_rank_promotion("allow"):
        return np.asarray(apply(variables, normalize(image, "tflite")[None]))[0]


@pytest.mark.parametrize(
    ("source", "file", "image", "least", "least_rounded"),
    [
        (PASCAL, "deeplabv3_mnv2_pascal_quant", "bird", 0.995, 0.998),
        (HALF, "deeplabv3_mnv2_dm05_pascal_quant", "bird", 0.98, 0.985),
        (
            STREETS,
            "deeplab_mobilenet_edgetpu_slim_cityscapes_quant",
            "cityscapes",
            0.985,
            0.989,  # 0.9898 where the interpreter has AVX2, more with AVX-512
        ),
    ],
)
def test_labels_are_those_of_the_interpreter(source, file, image, least, least_rounded):
    file = DATA / f"{file}.tflite"
    given = photograph(image, 513)
    expected = interpreted(file, given)
    assert len(np.unique(expected)) > 1
    found = logits(*imported(f"tflite/{source}", file), given).argmax(-1)
    assert (found == expected).mean() > least
    found = logits(*load_rounded(file), given).argmax(-1)
    assert (found == expected).mean() > least_rounded


@pytest.mark.parametrize("file", NETS)
def test_photographs_are_of_the_classes_that_they_show(file):
    file = DATA / f"{file}.tflite"
    names = (DATA / "imagenet_labels.txt").read_text().splitlines()
    network = imported("tflite/mobilenet_v2", file)
    for image, classes in (("bird", BIRDS), ("dog", DOGS)):
        given = photograph(image, 224)
        found = np.asarray(jax.nn.softmax(logits(*network, given)))
        assert names[found.argmax()] in classes
        assert np.abs(found - interpreted(file, given) / 256).max() < 0.03
