"""Mask R-CNN as a network: shapes, slots, padding, counts, gradients, bad input."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.resnet import ResNet
from segjax.geometry.fields import receptive_field
from segjax.layers.conv import Conv
from segjax.layers.norm import Norm
from segjax.losses.instance import mask_rcnn_loss
from segjax.models import MaskRCNN
from segjax.models.mask_rcnn.attributes import RPN, PostProcessing, RoIHeads, RoIPooling
from segjax.models.mask_rcnn.heads import SelectClassMask
from segjax.ops.base.forms import forms

QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""

BACKBONE = ResNet(18, features=4, norm=Norm("group", groups=2))
SMALL = MaskRCNN(
    3,
    BACKBONE,
    fpn_features=6,
    rpn=RPN(
        anchor_sizes=(8.0, 16.0, 32.0, 64.0),
        batch_size_per_image=16,
        pre_nms_top_n=(24, 24),
        post_nms_top_n=(12, 8),
    ),
    roi_pooling=RoIPooling(canonical_size=28.0),
    roi_heads=RoIHeads(
        box_size=3,
        box_features=(8, 8),
        batch_size_per_image=8,
        mask_size=4,
        mask_features=(5,),
        keypoints=3,
        keypoint_features=(5,),
    ),
    post_processing=PostProcessing(
        score_thresh=0.1, pre_nms_top_n=16, detections_per_image=6
    ),
)
KEYPOINTS = RoIHeads(masks=False, keypoints=17)
V2 = {
    "norm": Norm(),
    "rpn": RPN(depth=2),
    "roi_heads": RoIHeads(box_conv_features=(256,) * 4, box_features=(1024,)),
}


@functools.cache
def variables():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = lambda x: SMALL.init(jax.random.key(0), x, train=False)
    shapes = jax.eval_shape(init, image)
    rng = np.random.default_rng(0)

    def sample(path, leaf):
        name = path[-1].key
        if name == "scale":
            return jnp.ones(leaf.shape)
        if name == "bias":
            return jnp.asarray(rng.normal(0, 0.1, leaf.shape), jnp.float32)
        fan_in = int(np.prod(leaf.shape[:-1]))
        values = rng.normal(0, np.sqrt(2 / fan_in), leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(sample, shapes)


@functools.cache
def predict():
    apply = lambda v, image, sizes: SMALL.apply(v, image, sizes, train=False)
    return jax.jit(apply, compiler_options=QUICK)


def image_of(seed=0, batch=2, side=64):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(batch, side, side, 3)).astype(np.float32)


def sizes_of(*sizes):
    return np.array(sizes, np.int32)


@pytest.fixture(scope="module")
def found():
    outputs = predict()(variables(), image_of(), sizes_of((64, 64), (50, 40)))
    return jax.tree.map(np.asarray, outputs)


def objects(batch=2):
    boxes = np.zeros((batch, 4, 4), np.float32)
    boxes[0, :3] = [[4, 4, 30, 30], [20, 30, 60, 50], [0, 40, 20, 64]]
    classes = np.zeros((batch, 4), np.int32)
    classes[0, :3] = [1, 2, 1]
    rng = np.random.default_rng(2)
    points = np.zeros((batch, 4, 3, 3), np.float32)
    points[..., :2] = boxes[:, :, None, :2] + 5
    points[..., 2] = 2
    return {
        "boxes": boxes,
        "classes": classes,
        "crowd": np.zeros((batch, 4), bool),
        "masks": rng.integers(0, 2, (batch, 4, 14, 14), np.uint8),
        "keypoints": points,
    }


def step():
    def loss(params, image, sizes, targets, key):
        outputs = SMALL.apply(
            {"params": params},
            image,
            sizes,
            train=True,
            targets=targets,
            rngs={"sampling": key},
        )
        return mask_rcnn_loss(outputs, targets)

    return jax.value_and_grad(loss, has_aux=True)


@functools.cache
def compiled_step():
    return jax.jit(step(), compiler_options=QUICK)


def step_inputs(targets, seed=0):
    sizes = sizes_of((64, 64), (50, 40))
    return variables()["params"], image_of(), sizes, targets, jax.random.key(seed)


def trained(targets, seed=0):
    return compiled_step()(*step_inputs(targets, seed))


# Detections


def test_outputs_have_slots_shapes_and_dtypes(found):
    assert {name: x.shape for name, x in found.items()} == {
        "boxes": (2, 6, 4),
        "scores": (2, 6),
        "classes": (2, 6),
        "valid": (2, 6),
        "masks": (2, 6, 8, 8),
        "keypoint_logits": (2, 6, 16, 16, 3),
        "keypoints": (2, 6, 3, 3),
    }
    assert found["classes"].dtype == np.int32
    assert found["valid"].dtype == bool
    others = {x.dtype for n, x in found.items() if n not in ("classes", "valid")}
    assert others == {np.dtype(np.float32)}


def test_detections_are_sorted_valid_first_and_inside_their_image(found):
    assert found["valid"].any(1).all()
    for row, (height, width) in enumerate(((64, 64), (50, 40))):
        valid = found["valid"][row]
        assert (np.diff(valid.astype(int)) <= 0).all()
        scores, boxes = found["scores"][row], found["boxes"][row]
        assert (np.diff(scores) <= 0).all()
        assert (scores[valid] > SMALL.post_processing.score_thresh).all()
        assert (found["classes"][row][valid] > 0).all()
        assert (boxes >= 0).all()
        assert (boxes <= [height, width, height, width]).all()
        assert (boxes[valid, 2:] - boxes[valid, :2] >= 0.01).all()


def test_what_lies_in_the_padding_is_not_seen(found):
    image = image_of()
    image[1, 50:] = 7.0
    image[1, :, 40:] = -3.0
    again = predict()(variables(), image, sizes_of((64, 64), (50, 40)))
    for name, values in found.items():
        np.testing.assert_array_equal(again[name], values)


def test_images_of_a_batch_do_not_see_each_other(found):
    image = image_of()
    image[0] = image_of(seed=5)[0]
    again = predict()(variables(), image, sizes_of((64, 64), (50, 40)))
    for name, values in found.items():
        np.testing.assert_allclose(again[name][1], values[1], rtol=1e-4, atol=1e-4)


def test_a_size_that_32_does_not_divide_is_padded_inside():
    outputs = jax.eval_shape(
        lambda v, x: SMALL.apply(v, x, train=False),
        variables(),
        jax.ShapeDtypeStruct((1, 50, 41, 3), jnp.float32),
    )
    assert outputs["boxes"].shape == (1, 6, 4)


def test_bfloat16_gives_float32_outputs_and_keeps_float32_parameters():
    model = SMALL.clone(dtype=jnp.bfloat16, backbone=BACKBONE.clone(dtype=jnp.bfloat16))
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    outputs, shapes = jax.eval_shape(init, image)
    assert outputs["masks"].dtype == outputs["boxes"].dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}


# Training


def test_every_parameter_gets_a_finite_gradient():
    (loss, parts), gradient = trained(objects())
    assert np.isfinite(loss)
    assert parts.keys() == {
        *("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss"),
        *("mask_loss", "keypoint_loss"),
    }
    silent = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.asarray(leaf).any() or not np.isfinite(leaf).all()
    ]
    assert silent == []


def test_images_without_objects_train_as_background_alone():
    targets = objects()
    empty = {name: np.zeros_like(x) for name, x in targets.items()}
    (loss, parts), gradient = trained(empty)
    assert np.isfinite(loss)
    assert parts["class_loss"] > 0
    for name in ("rpn_box_loss", "box_loss", "mask_loss", "keypoint_loss"):
        assert parts[name] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_what_stands_in_empty_slots_does_not_matter():
    targets = objects()
    changed = {name: x.copy() for name, x in targets.items()}
    changed["boxes"][:, 3] = [10, 10, 40, 40]
    changed["masks"][:, 3] = 1
    changed["keypoints"][:, 3] = 20
    (before, _), first = trained(targets)
    (after, _), second = trained(changed)
    assert before == after
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
def test_plain_and_fast_forms_agree():
    inputs = step_inputs(objects())
    fast = trained(objects())
    of_fast = str(jax.make_jaxpr(step())(*inputs))
    with forms("plain"):
        plain = compiled_step()(*inputs)
        assert str(jax.make_jaxpr(step())(*inputs)) != of_fast
    for loss_or_gradients in zip(fast, plain, strict=True):
        pairs = [*zip(*map(jax.tree.leaves, loss_or_gradients), strict=True)]
        largest = max(float(np.abs(b).max()) for _, b in pairs)
        for a, b in pairs:
            allowed = 1e-5 * float(np.abs(b).max()) + 1e-6 * largest
            np.testing.assert_allclose(a, b, rtol=0, atol=allowed)


@pytest.mark.slow
def test_detections_of_plain_and_fast_forms_agree(found):
    inputs = variables(), image_of(), sizes_of((64, 64), (50, 40))
    of_fast = str(predict().trace(*inputs).jaxpr)
    with forms("plain"):
        plain = predict()(*inputs)
        assert str(predict().trace(*inputs).jaxpr) != of_fast
    for name, x in plain.items():
        allowed = 1e-4 * float(np.abs(x).max())
        np.testing.assert_allclose(found[name], x, rtol=0, atol=allowed, err_msg=name)


def test_the_draw_follows_the_key():
    losses = {float(trained(objects(), seed)[0][0]) for seed in (0, 0, 1)}
    assert len(losses) == 2


# Published figures


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, 44_454_513),
        (V2, 46_359_409),
        ({"roi_heads": RoIHeads(masks=False)}, 41_808_406),
        ({"num_classes": 2, "roi_heads": KEYPOINTS}, 59_190_378),
    ],
    ids=["mask", "mask_v2", "faster", "keypoint"],
)
def test_parameter_counts_are_those_of_torchvision(attributes, expected):
    """With scale and bias of the norms, which torchvision does not count if frozen."""
    model = MaskRCNN(**{"num_classes": 91, "backbone": ResNet(50)} | attributes)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = lambda x: model.init(jax.random.key(0), x, train=False)
    shapes = jax.eval_shape(init, image)
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == expected


def test_masks_of_all_classes_can_be_one():
    heads = dataclasses.replace(SMALL.roi_heads, class_agnostic=True)
    model = SMALL.clone(roi_heads=heads)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    outputs, shapes = jax.eval_shape(init, jnp.zeros((1, 64, 64, 3)))
    assert outputs["masks"].shape == (1, 6, 8, 8)
    assert shapes["params"]["mask_head"]["logits"]["kernel"].shape == (1, 1, 5, 1)
    kernel = variables()["params"]["mask_head"]["logits"]["kernel"]
    assert kernel.shape == (1, 1, 5, 3)


def test_layers_lead_to_the_coarsest_map_of_the_pyramid():
    layers = MaskRCNN(91, ResNet(50)).layers()
    assert layers[-1].name == "fpn/output5/conv"
    # 483 pixels of ResNet-50, and 64 more by the 3x3 convolution of the pyramid.
    backbone = receptive_field(ResNet(50).layers("stage5"))
    assert receptive_field(layers).size == backbone.size + 2 * 32


def test_models_are_hashable_so_that_jit_can_hold_them():
    assert hash(SMALL) == hash(SMALL.clone())


# Bad input


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        (
            {"num_classes": 1},
            "num_classes counts the background and is at least 2, got 1",
        ),
        (
            {"rpn": RPN(anchor_sizes=(32.0,))},
            "rpn.anchor_sizes is one number a level and one more for an additional level, "
            "got (32.0,) for the levels ('stage2', 'stage3', 'stage4', 'stage5')",
        ),
        ({"roi_heads": None}, "roi_heads is RoIHeads(...), got None"),
        (
            {"norm": "layer"},
            'norm is a Norm of the kind "batch" or "group" or None, got \'layer\'',
        ),
        (
            {"levels": ("stage9",), "rpn": RPN(anchor_sizes=(8.0,))},
            "levels names no map of the backbone: stage is one of stage1 to stage5, got "
            "'stage9'",
        ),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(attributes, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        SMALL.clone(**attributes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda t: t.pop("masks"),
            "targets lacks masks; allowed is a batch with boxes, classes, crowd, masks, "
            "keypoints",
        ),
        (
            lambda t: t.update(keypoints=t["keypoints"][:, :, :2]),
            "targets has 2 keypoints an object; allowed are 3, as the model has",
        ),
    ],
)
def test_bad_targets_are_reported_in_one_sentence(change, sentence):
    targets = objects()
    change(targets)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        jax.eval_shape(
            lambda v, x, t, k: SMALL.apply(
                v, x, train=True, targets=t, rngs={"sampling": k}
            ),
            variables(),
            image_of(),
            targets,
            jax.random.key(0),
        )


def test_images_of_other_channels_or_sizes_are_reported_in_one_sentence():
    with pytest.raises(ValueError, match=r"^image is \(1, 64, 64, 1\); allowed is \["):
        SMALL.apply(variables(), jnp.zeros((1, 64, 64, 1)), train=False)
    with pytest.raises(
        ValueError, match=r"^sizes is \(2, 2\); allowed is \[B, 2\], B 1"
    ):
        SMALL.apply(
            variables(), jnp.zeros((1, 64, 64, 3)), jnp.zeros((2, 2)), train=False
        )


def test_each_region_gets_the_mask_that_the_convolution_gives_its_class():
    rng = np.random.default_rng(3)
    sample = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    x, classes = sample(5, 4, 4, 6), jnp.array([0, 2, 1, 2, 0])
    params = {"params": {"kernel": sample(1, 1, 6, 3), "bias": sample(3)}}
    every = Conv(3, (1, 1)).apply(params, x)
    expected = jnp.take_along_axis(every, classes[:, None, None, None], -1)[..., 0]
    found = SelectClassMask(3).apply(params, x, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
