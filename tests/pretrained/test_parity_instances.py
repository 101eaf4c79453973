"""Detectors beside torchvision itself, stage by stage, on the same random weights."""

from __future__ import annotations

import runpy
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax import pretrained
from segjax.models.mask_rcnn.heads import KeypointHead, MaskHead
from segjax.models.mask_rcnn.pooling import pool_regions
from segjax.ops.regions.masks import paste_masks

pytestmark = pytest.mark.parity

TRAINED = {"norm": {"epsilon": 1e-5}}
"""What the backbone has where its weights are not torchvision's published ones."""

SIZES = ((256, 320), (199, 301))
TOLERANCE = 1e-4
"""The largest difference, as a fraction of the largest value."""
BOX_TOLERANCE = 0.05
"""Pixels."""
SWAP = [1, 0, 3, 2]
"""torchvision has x before y."""

DETECTORS = sorted(
    name
    for name, source in pretrained.SOURCES.items()
    if source.group["name"] == "mask_rcnn"
)


@pytest.fixture(scope="module", params=DETECTORS)
def both(request, torchvision):
    """torchvision's detector and ours, with the same weights."""
    torch = pytest.importorskip("torch")
    if not torchvision.extension._has_ops():
        pytest.skip("needs torchvision's compiled operators: a C compiler, or CUDA")
    folder = Path(__file__).parent
    random_weights = runpy.run_path(str(folder / "random_weights.py"))
    calm = runpy.run_path(str(folder / "random_instances.py"))
    name = request.param.partition("/")[2]
    detection = torchvision.models.detection
    theirs = vars(detection)[name](weights=None, weights_backbone=None).eval()
    shapes = {key: tuple(x.shape) for key, x in theirs.state_dict().items()}
    state = calm["calmed"](random_weights["state_dict"](shapes))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    # Without published weights, torchvision's norms have this epsilon.
    model, variables = pretrained.load(request.param, state, backbone=TRAINED)
    apply = jax.jit(
        lambda v, x: model.apply(v, x, train=False, mutable=["intermediates"])
    )
    random_image = lambda height, width: calm["image"](
        height, width, random_weights["uniform"]
    )
    return types.SimpleNamespace(
        theirs=theirs,
        model=model,
        variables=variables,
        apply=apply,
        random_image=random_image,
    )


def answers(network, image):
    """What torchvision finds, and what its parts answer on the way."""
    import torch

    parts = {
        "stages": network.backbone.body,
        "pyramid": network.backbone,
        "proposed": network.rpn.head,
        "regions": network.roi_heads.box_roi_pool,
        "masks": network.roi_heads.mask_predictor,
        "keypoints": getattr(network.roi_heads, "keypoint_predictor", None),
    }
    seen = {}

    def note(name):
        return lambda module, given, answer: seen.update({name: (given, answer)})

    hooks = [
        part.register_forward_hook(note(name)) for name, part in parts.items() if part
    ]
    height, width = image.shape[1:3]
    network.transform.min_size = (min(height, width),)
    network.transform.max_size = max(height, width)
    with torch.no_grad():
        found = network([torch.from_numpy(image[0].transpose(2, 0, 1))])[0]
    for hook in hooks:
        hook.remove()
    return {name: x.numpy() for name, x in found.items()}, seen


def maps(x):
    return x.permute(0, 2, 3, 1).numpy()


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.std(expected) > 0
    difference = np.abs(np.asarray(found) - expected).max()
    assert difference < TOLERANCE * np.abs(expected).max()


def assert_parts_agree(both, parts, seen):
    """Stages, pyramid, scores and deltas of anchors, pooled regions."""
    for name in ("stages", "pyramid"):
        expected = seen[name][1].values()
        for a, b in zip(parts[name][0], expected, strict=True):
            assert_close(a, maps(b))
    logits, deltas = parts["proposed"][0]
    for a, b in zip(logits, seen["proposed"][1][0], strict=True):
        assert_close(a, maps(b).reshape(1, -1))
    for a, b in zip(deltas, seen["proposed"][1][1], strict=True):
        assert_close(a, maps(b).reshape(1, -1, 4)[..., SWAP])
    given, expected = seen["regions"]
    regions = pooled(both.model, parts, given[1][0].numpy(), 7)
    assert_close(regions[0], maps(expected))


def pooled(model, parts, boxes, size):
    """Regions `[1, R, size, size, C]` of torchvision's boxes."""
    pyramid = parts["pyramid"][0]
    apply = lambda pyramid, boxes: pool_regions(
        pyramid[:4],
        boxes,
        size,
        image_size=tuple(4 * n for n in pyramid[0].shape[1:3]),
        method="align",
        aligned=model.roi_pooling.aligned,
        sampling_ratio=2,
        canonical_size=224.0,
        canonical_level=4,
    )
    return jax.jit(apply)(pyramid, boxes[None][..., SWAP])


def mask_logits(both, parts, found):
    """Of the classes and boxes that torchvision found: layers amplify what they differ by."""
    model, variables = both.model, both.variables
    head = MaskHead(
        model.num_classes,
        model.roi_heads.mask_features,
        norm=model.norm,
    )
    own = {name: x["mask_head"] for name, x in variables.items() if "mask_head" in x}
    regions = pooled(model, parts, found["boxes"], 14)
    apply = jax.jit(lambda v, x, classes: head.apply(v, x, classes, train=False))
    return apply(own, regions, found["labels"][None])[0]


def assert_detections_agree(outputs, found):
    """The same objects in the same order."""
    count = len(found["boxes"])
    assert count > 10
    assert int(outputs["valid"].sum()) == count
    boxes = outputs["boxes"][:count]
    np.testing.assert_allclose(boxes, found["boxes"][:, SWAP], atol=BOX_TOLERANCE)
    np.testing.assert_allclose(outputs["scores"][:count], found["scores"], atol=1e-4)
    np.testing.assert_array_equal(outputs["classes"][:count], found["labels"])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_all_stages_and_the_detections_are_those_of_torchvision(both, size):
    image = both.random_image(*size)
    found, seen = answers(both.theirs, image)
    outputs, parts = both.apply(both.variables, image)
    parts = parts["intermediates"]
    outputs = {name: np.asarray(x[0]) for name, x in outputs.items()}
    assert_parts_agree(both, parts, seen)
    assert_detections_agree(outputs, found)
    count = len(found["boxes"])
    if both.model.masks:
        own, every = found["labels"][:, None, None, None], maps(seen["masks"][1])
        expected = np.take_along_axis(every, own, -1)[..., 0]
        assert_close(mask_logits(both, parts, found), expected)
        # Of the whole network; a sigmoid leaves a quarter of what logits differ by.
        difference = np.abs(outputs["masks"][:count] - 1 / (1 + np.exp(-expected)))
        assert difference.max() < TOLERANCE / 4 * np.abs(every).max()
        pasted = paste_masks(outputs["masks"][:count], outputs["boxes"][:count], size)
        assert (pasted != (found["masks"][:, 0] >= 0.5)).mean() < 1e-3
    if both.model.keypoints:
        regions = pooled(both.model, parts, found["boxes"], 14)
        head = KeypointHead(
            both.model.keypoints, both.model.roi_heads.keypoint_features
        )
        params = both.variables["params"]["keypoint_head"]
        logits = jax.jit(head.apply)({"params": params}, regions)[0]
        assert_close(logits, maps(seen["keypoints"][1]))
        points = outputs["keypoints"][:count, :, :2]
        # Where two places are nearly as high, either may be the highest.
        close = np.abs(points - found["keypoints"][..., 1::-1]).max(-1) < BOX_TOLERANCE
        assert close.mean() > 0.99


def test_the_published_epsilon_is_that_of_torchvision(torchvision):
    """Of its frozen norms, whose epsilon it sets to 0 once it has published weights."""
    torch = pytest.importorskip("torch")
    detection = torchvision.models.detection
    frozen = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None
    )
    theirs = detection.MaskRCNN(frozen, num_classes=91).eval()
    random_weights = runpy.run_path(str(Path(__file__).with_name("random_weights.py")))
    shapes = {key: tuple(x.shape) for key, x in theirs.state_dict().items()}
    state = random_weights["state_dict"](shapes)
    name = "backbone.body.layer1.0.bn1.running_var"
    state[name] = np.full_like(state[name], 2e-5)  # half of which would be epsilon
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    detection._utils.overwrite_eps(theirs, 0.0)
    image = random_weights["image"](64, 96)
    with torch.no_grad():
        expected = theirs.backbone.body(
            torch.from_numpy(np.array(image.transpose(0, 3, 1, 2)))
        )
    for options, agree in (({}, True), ({"backbone": TRAINED}, False)):
        model, variables = pretrained.load(
            "torchvision/maskrcnn_resnet50_fpn", state, **options
        )
        ours = {kind: tree["backbone"] for kind, tree in variables.items()}
        found = jax.jit(lambda v, x, m=model.backbone: m.apply(v, x, train=False))(
            ours, image
        )
        stage = maps(expected["0"])
        worst = np.abs(np.asarray(found["stage2"]) - stage).max() / np.abs(stage).max()
        assert (worst < TOLERANCE) == agree
