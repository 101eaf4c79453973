"""What every model promises. A model that is missing from `CASES` fails."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import config
from segjax.backbones.mix_transformer import MixTransformer
from segjax.backbones.mobilenet_v3 import MobileNetV3
from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.backbones.xception import Xception
from segjax.data import DATASETS
from segjax.errors import UserError
from segjax.geometry.fields import Layer, output_size, receptive_field
from segjax.geometry.input_sizes import Geometry
from segjax.layers.conv_norm import ConvNorm
from segjax.layers.crf import DenseCRF
from segjax.layers.norm import Norm
from segjax.losses import cross_entropy
from segjax.models import (
    CRFRNN,
    FCN,
    LRASPP,
    MODELS,
    DeconvNet,
    DeepLabV1,
    DeepLabV2,
    DeepLabV3,
    DeepLabV3Plus,
    DilatedNet,
    EncoderDecoder,
    PSPNet,
    SegFormer,
    SegNet,
    SegNetBasic,
    SemanticFPN,
    SlidingWindow,
    UNet,
    UNetBackbone,
)
from segjax.ops.base.forms import forms, lowering_for
from segjax.types import Dtype

ROOT = Path(__file__).resolve().parents[2]
PRESETS = r"; known: (.+)\.$"
QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")


@dataclass(frozen=True)
class Case:
    """A network small enough to run, and the paper's, with the paper's figures."""

    small: nn.Module
    side: int
    paper: nn.Module
    paper_side: int
    parameters: int
    receptive_field: int
    channels: int = 1


class Strided(nn.Module):
    """A backbone that is fast to compile: a strided convolution a stage."""

    features: int = 4
    output_stride: int = 16
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image, *, train):
        x, stages = image, {}
        for layer in self.layers():
            name, kernel = layer.name.split("/")[0], (layer.kernel, layer.kernel)
            geometry = layer.stride, layer.padding, layer.dilation
            conv = ConvNorm(self.features, kernel, *geometry, name=name)
            x = stages[name] = conv(x, train=train)
        return stages

    def layers(self, stage="stage5"):
        path, dilation = [], 1
        for i in range(1, int(stage[-1]) + 1):
            stride = 2 if 2**i <= self.output_stride else 1
            name = f"stage{i}/conv"
            path.append(Layer(name, 3, stride, padding=dilation, dilation=dilation))
            dilation *= 2 // stride
        return tuple(path)


DEEPLAB_VGG = VGG(pool_window=3, ceil_mode=True, output_stride=8)
DEEPLAB_RESNET = ResNet(
    101,
    output_stride=8,
    stem_pool="ceil",
    stride_on="1x1",
    dilate_first_block=True,
    norm=Norm(frozen=True),
)
FRONT_END = VGG(padding=0, first_padding=0, output_stride=8, fully_convolutional=True)

CASES = {
    "crf_rnn": [
        Case(
            CRFRNN(
                2,
                EncoderDecoder(2, features=(3,), upsampling="bilinear"),
                DenseCRF(2, 1, 4.0, 60.0, 1.5, 1.0, 1.0, "full", method="exact"),
            ),
            7,
            CRFRNN(
                21,
                FCN(21, skips=("stage4", "stage3")),
                DenseCRF(21, compatibility="full", method="window"),
            ),
            *(32, 134_362_751 + 2 + 21**2, 468),
            channels=3,
        )
    ],
    "deconvnet": [
        Case(
            DeconvNet(2, features=(3, 4), depths=(2, 1), fc_features=5, window=3),
            *(16, DeconvNet(21), 224, 251_805_653, 788),
            channels=3,
        )
    ],
    "deeplab_v1": [
        Case(
            DeepLabV1(2, Strided(output_stride=8), 3, 2, 4, dropout_rate=0.0),
            33,
            DeepLabV1(21, DEEPLAB_VGG),
            33,
            20_505_429,
            443,
            channels=3,
        ),
        Case(
            DeepLabV1(
                *(2, Strided(output_stride=8), 3, 2, 4),
                multi_scale=True,
                dropout_rate=0.0,
            ),
            33,
            DeepLabV1(21, DEEPLAB_VGG, multi_scale=True),
            33,
            21_711_445,
            443,
            channels=3,
        ),
    ],
    "deeplab_v2": [
        Case(
            DeepLabV2(2, Strided(output_stride=8), (1, 2), 4, dropout_rate=0.0),
            33,
            DeepLabV2(21, DEEPLAB_VGG, fc_features=1024),
            33,
            37_877_652,
            619,
            channels=3,
        ),
        Case(
            DeepLabV2(2, Strided(output_stride=8), (1, 2), scales=(1.0, 0.5)),
            33,
            DeepLabV2(21, DEEPLAB_RESNET, scales=(1.0, 0.75, 0.5)),
            33,
            44_048_532,
            1419,
            channels=3,
        ),
    ],
    "deeplab_v3": [
        Case(
            DeepLabV3(
                2,
                Strided(),
                rates=(1, 2),
                features=4,
                aux_stage="stage4",
                dropout_rate=0.0,
            ),
            33,
            DeepLabV3(
                21,
                ResNet(101, output_stride=16, multi_grid=(1, 2, 4), stride_on="last"),
            ),
            65,
            58_040_661,
            1875,
            channels=3,
        )
    ],
    "deeplab_v3plus": [
        Case(
            DeepLabV3Plus(
                2,
                Strided(),
                rates=(1, 2),
                features=4,
                low_level_features=3,
                decoder_features=(4, 4),
                dropout_rate=0.0,
            ),
            33,
            DeepLabV3Plus(21, Xception(output_stride=16)),
            65,
            41_055_413,
            2523,
            channels=3,
        )
    ],
    "lraspp": [
        Case(
            LRASPP(2, Strided(output_stride=32), features=4),
            33,
            LRASPP(
                21,
                MobileNetV3(output_stride=16, dilate_first_block=True),
                low_level_stage="stage3_first",
            ),
            65,
            3_221_538,
            675,
            channels=3,
        )
    ],
    "dilated": [
        Case(
            DilatedNet(
                2,
                FRONT_END.clone(
                    depth=11, features=(2, 2, 3, 3, 3), fc_features=4, dropout_rate=0.0
                ),
                context="basic",
                dilations=(1,),
                upsampling="learned",
            ),
            326,
            DilatedNet(
                *(19, FRONT_END, "basic"),
                dilations=(1, 1, 2, 4, 8, 16, 32, 64, 1),
                upsampling="learned",
            ),
            380,
            134_373_043,
            2452,
            channels=3,
        )
    ],
    "encoder_decoder": [
        Case(
            EncoderDecoder(2, features=(3, 4), upsampling=upsampling, skip=skip),
            *(17, EncoderDecoder(11, upsampling=upsampling, skip=skip)),
            *(32, parameters, field),
            channels=3,
        )
        for upsampling, skip, parameters, field in (
            ("index_unpooling", False, 95_627, 78),
            ("transposed", True, 266_891, 110),
        )
    ],
    "fcn": [
        Case(
            FCN(
                2,
                Strided(),
                ("stage3",),
                (0.5,),
                upsampling="learned",
                zero_scores=False,
            ),
            33,
            FCN(21, skips=("stage4", "stage3")),
            32,
            134_362_751,
            468,
            channels=3,
        ),
        Case(
            FCN(
                *(2, Strided(output_stride=8)),
                upsampling="resize",
                head="conv",
                zero_scores=False,
                aux_stage="stage4",
            ),
            33,
            FCN(
                *(21, ResNet(50, output_stride=8)),
                upsampling="resize",
                head="conv",
                aux_stage="stage4",
            ),
            32,
            35_322_218,
            451,
            channels=3,
        ),
    ],
    "pspnet": [
        Case(
            PSPNet(2, Strided(6), bins=(1, 2, 3), features=4, dropout_rate=0.0),
            33,
            PSPNet(
                150,
                ResNet(
                    50,
                    output_stride=8,
                    stem="deep",
                    stem_pool="ceil",
                    stride_on="1x1",
                    dilate_first_block=True,
                ),
            ),
            473,
            49_180_908,
            511,
            channels=3,
        )
    ],
    "segformer": [
        Case(
            SegFormer(
                2,
                MixTransformer(
                    features=(4, 4, 5, 8), blocks=(1, 1, 1, 1), drop_path_rate=0.0
                ),
                features=4,
                dropout_rate=0.0,
            ),
            64,
            SegFormer(150, MixTransformer()),
            65,
            3_752_694,
            335,
            channels=3,
        )
    ],
    "segnet": [
        Case(
            SegNet(2, features=(3, 4, 5), depths=(2, 1, 2)),
            *(21, SegNet(11), 32, 29_449_355, 404),
            channels=3,
        )
    ],
    "segnet_basic": [
        Case(
            SegNetBasic(2, features=(4, 4), decoder=decoder),
            *(17, SegNetBasic(11, decoder=decoder), 32, parameters, field),
            channels=3,
        )
        for decoder, parameters, field in (
            ("segnet_basic", 1_416_587, 202),
            ("segnet_basic_encoder_addition", 1_416_587, 202),
            ("fcn_basic_no_dim_reduction", 1_661_579, 202),
        )
    ],
    "semantic_fpn": [
        Case(
            SemanticFPN(
                *(2, Strided(3, output_stride=32)),
                pyramid_features=3,
                features=4,
                norm=Norm("group", groups=2),
            ),
            # At 32 the smallest map is a pixel: its norm has two values, and shows rounding.
            *(64, SemanticFPN(19, ResNet(101)), 64, 47_470_803, 1227),
            channels=3,
        )
    ],
    "sliding_window": [
        Case(
            SlidingWindow(2, (2, 3), 4, 5, patch=13, form=form),
            *(15, SlidingWindow(2, form=form), 95, 219_290, 95),
        )
        for form in ("dense", "patches")
    ],
    "unet": [
        Case(
            UNet(2, features=(3, 4, 5), padding=padding, norm=norm),
            side,
            UNet(2, padding=padding),
            188 if padding == "VALID" else 64,
            31_030_658,
            204,
        )
        for padding, side, norm in (("SAME", 16, Norm()), ("VALID", 44, None))
    ],
    "unet_backbone": [
        Case(
            UNetBackbone(
                2, Strided(3, output_stride=32), features=(3, 3, 3, 2, 2), center=True
            ),
            *(33, UNetBackbone(1, ResNet(34)), 64, 24_436_369, 1027),
            channels=3,
        )
    ],
}
EACH = [
    pytest.param(case, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]


def batch_of(case, size=2):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((size, case.side, case.side, 1)).astype(np.float32)
    out = case.small.geometry.output_side(case.side)
    label = rng.integers(0, 2, (size, out, out))
    return {
        "image": jnp.asarray(image),
        "label": jnp.asarray(label, jnp.int32),
        "weight": jnp.ones(label.shape, jnp.float32),
    }


@functools.cache
def variables_of(case):
    image = batch_of(case)["image"]
    init = lambda x: case.small.init(jax.random.key(0), x, train=False)
    return jax.jit(init, compiler_options=QUICK)(image)


def test_every_model_has_its_case():
    """Models of objects give no logits of pixels: theirs are in `test_mask_rcnn.py`."""
    assert CASES.keys() | {"mask_rcnn"} == MODELS.keys()


@pytest.mark.parametrize("case", EACH)
def test_logits_have_shape_and_dtype_and_one_trace_serves_all_batches(case):
    variables, batch = variables_of(case), batch_of(case)
    traces = []

    @functools.partial(jax.jit, compiler_options=QUICK)
    def apply(variables, image):
        traces.append(1)
        return case.small.apply(variables, image, train=False)["logits"]

    for image in (batch["image"], 2.0 * batch["image"]):
        logits = apply(variables, image)
        assert logits.shape == (*batch["label"].shape, 2)
        assert logits.dtype == jnp.float32
        assert np.isfinite(logits).all()
    assert len(traces) == 1


@pytest.mark.quick(8)
@pytest.mark.parametrize("case", EACH)
def test_bfloat16_gives_float32_logits_and_keeps_float32_parameters(case):
    model = case.small.clone(dtype=jnp.bfloat16)
    image = batch_of(case)["image"]
    outputs, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), image
    )
    assert outputs["logits"].dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def loss_of(case, params, image):
    batch = batch_of(case)
    outputs, changed = case.small.apply(
        {**variables_of(case), "params": params},
        image,
        train=True,
        rngs={"dropout": jax.random.key(0)},
        mutable=True,
    )
    auxiliary = {"logits": outputs.get("aux_logits", outputs["logits"])}
    loss = cross_entropy(outputs, batch) + cross_entropy(auxiliary, batch)
    return loss, (outputs, changed)


@functools.cache
def trained(case, wanted):
    """A step in these forms: gradients, all results by name, variables, and its text."""
    step = jax.grad(functools.partial(loss_of, case), (0, 1), has_aux=True)
    arguments = variables_of(case)["params"], batch_of(case)["image"]
    with forms(wanted):
        traced = jax.jit(step).trace(*arguments)
        (params, image), (outputs, changed) = traced.lower().compile(QUICK)(*arguments)
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    results = {f"gradient of {name}": x for name, x in flat.items()}
    results |= {"gradient of image": image, **outputs}
    return flat, results, changed, str(traced.jaxpr)


@pytest.mark.quick(6)
@pytest.mark.parametrize("case", EACH)
def test_only_batch_stats_change_in_training(case):
    variables, (_, _, changed, _) = variables_of(case), trained(case, "fast")
    assert changed.keys() <= variables.keys()
    jax.tree.map(np.testing.assert_array_equal, changed["params"], variables["params"])
    for before, after in zip(
        jax.tree.leaves(variables.get("batch_stats", {})),
        jax.tree.leaves(changed.get("batch_stats", {})),
        strict=True,
    ):
        assert (before != after).any()


@pytest.mark.quick(6)
@pytest.mark.parametrize("case", EACH)
def test_every_parameter_gets_a_gradient(case):
    gradients, *_ = trained(case, "fast")
    silent = [
        name for name, x in gradients.items() if not x.any() or not np.isfinite(x).all()
    ]
    assert silent == []


@pytest.mark.slow
@pytest.mark.parametrize("case", EACH)
def test_plain_and_fast_forms_agree(case):
    parameters, plain, _, of_plain = trained(case, "plain")
    _, fast, _, of_fast = trained(case, "fast")
    assert of_plain != of_fast
    assert plain.keys() == fast.keys()
    largest = {name: float(np.abs(x).max()) for name, x in plain.items()}
    # A bias before a normalisation has no gradient but what rounding leaves of it.
    rounding = 1e-6 * max(largest[f"gradient of {name}"] for name in parameters)
    for name, x in plain.items():
        allowed = 1e-5 * largest[name]
        if name.removeprefix("gradient of ") in parameters:
            allowed += rounding
        np.testing.assert_allclose(fast[name], x, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.quick(4)
@pytest.mark.parametrize("case", EACH)
def test_initial_weights_and_prediction_lower_for_every_platform(case):
    def predict(image):
        variables = case.small.init(jax.random.key(0), image, train=False)
        return case.small.apply(variables, image, train=False)["logits"]

    for platform in ("cpu", "cuda", "tpu"):
        with lowering_for(platform):
            traced = jax.jit(predict).trace(batch_of(case)["image"])
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        made_for_cpus = {"optimization_barrier", "callback"}
        found = {word for word in made_for_cpus if word in text}
        assert platform == "cpu" or not found


@pytest.mark.parametrize("case", EACH)
def test_parameter_count_is_that_of_the_paper(case):
    shape = (1, case.paper_side, case.paper_side, case.channels)
    variables = jax.eval_shape(
        lambda x: case.paper.init(jax.random.key(0), x, train=False), jnp.zeros(shape)
    )
    found = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert found == case.parameters


@pytest.mark.parametrize("case", EACH)
def test_receptive_field_is_that_of_the_paper(case):
    assert receptive_field(case.paper.layers()).size == case.receptive_field


@pytest.mark.quick(6)
@pytest.mark.parametrize("case", EACH)
def test_layers_and_geometry_agree_with_the_network(case):
    geometry: Geometry = case.small.geometry
    sides = range(geometry.minimum, geometry.minimum + 5 * geometry.stride)
    several = filter(geometry.accepted, sides[:: 1 if geometry.tiles else 7])
    for side in several:
        image = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        outputs = jax.eval_shape(
            lambda x: case.small.init_with_output(jax.random.key(0), x, train=False)[0],
            image,
        )
        expected = geometry.output_side(side)
        assert outputs["logits"].shape == (1, expected, expected, 2)
        # What takes every size crops or resizes to it, which layers do not say.
        spare = abs(output_size(case.small.layers(), side) - expected)
        assert spare in (range(geometry.stride) if geometry.offset is None else (0,))


@pytest.mark.parametrize("case", EACH)
def test_layers_are_named_as_the_parameters(case):
    variables = variables_of(case)
    flat = jax.tree_util.tree_leaves_with_path(variables["params"])
    owners = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/") for path, _ in flat
    }
    names = {layer.name for layer in case.small.layers()}
    norms = {owner for owner in owners if owner.split("/")[-1].startswith("norm")}
    if not hasattr(case.small, "backbone"):
        assert owners - norms <= names
    pointless = ("pool", "unpool", "resize", "crop")
    assert {
        n for n in names - owners if not n.split("/")[-1].startswith(pointless)
    } == (set())


@pytest.mark.parametrize("case", EACH)
def test_models_are_hashable_so_that_jit_can_hold_them(case):
    assert hash(case.small) == hash(case.small.clone())


def presets_of(path):
    """The names that a config lists when it is asked for one that it does not have."""
    with pytest.raises(UserError, match=PRESETS) as caught:
        config.load(f"{path}:no such preset")
    return re.search(PRESETS, str(caught.value))[1].split(", ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_with_every_preset_and_has_a_smoke_preset(path):
    from segjax.tasks.table import make_task

    given_later = ("cache_dir", "data_root")
    presets = presets_of(path)
    assert "smoke" in presets
    for preset in ("", *presets):
        found = config.load(f"{path}:{preset}")
        task = make_task(found)
        builder = DATASETS[found.data.name]
        config.check_arguments(builder, found.data, "config.data", given_later)
        assert min(task.output_size) > 0
        assert (found.num_steps == 2) == preset.endswith("smoke")
