import functools
import math
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from segjax.geometry.input_sizes import Geometry
from segjax.geometry.tiles import mirror_indices
from segjax.models.unet import UNet
from segjax.predict.ensemble import EnsemblePredictor
from segjax.predict.scaled import ScaledImage
from segjax.predict.test_time import AveragedPredictor, TestTimeAugmentation
from segjax.predict.tiled import Predictor

# The largest difference allowed between a tile and the whole: XLA may add up in another
# order for another shape.
TOLERANCE = 1e-5


@functools.cache
def network(padding, features=(4, 8, 8)):
    """A small U-Net with random kernels and biases, as `(apply, geometry)`."""
    model = UNet(num_classes=3, features=features, padding=padding, dropout_rate=0.0)
    side = model.geometry.next_accepted(64)
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False),
        jax.random.key(0),
        jnp.zeros((1, side, side, 1)),
    )
    generator = np.random.default_rng(0)

    def sample(shape):
        inputs = max(1, math.prod(shape.shape[:-1]))
        values = generator.standard_normal(shape.shape) * math.sqrt(2 / inputs)
        return jnp.asarray(
            values if len(shape.shape) > 1 else 0.1 * values, jnp.float32
        )

    variables = jax.tree.map(sample, shapes)

    def apply(variables, image):
        return model.apply(variables, image, train=False)["logits"]

    return Partial(jax.jit(apply), variables), model.geometry


def picture(height, width, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((height, width, 1)).astype(np.float32)


def whole(apply, geometry, image):
    """The reference: one pass over the image, mirrored by `numpy.pad`."""
    pads = [
        (geometry.margin, geometry.next_accepted(n + 2 * geometry.margin) - n)
        for n in image.shape[:2]
    ]
    pads = [(before, after - before) for before, after in pads]
    canvas = np.pad(image, [*pads, (0, 0)], mode="reflect")
    logits = np.asarray(apply(jnp.asarray(canvas[None])))[0]
    return logits[: image.shape[0], : image.shape[1]]


def random_case(padding, case):
    """A random size of image and of tile."""
    generator = np.random.default_rng([case, len(padding)])
    height, width = (int(n) for n in generator.integers(90, 240, 2))
    return picture(height, width, seed=case), int(generator.integers(1, 80))


@pytest.mark.quick(4)
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("case", range(12))
def test_tiled_equals_whole(padding, case, record_property):
    apply, geometry = network(padding)
    image, tile = random_case(padding, case)
    expected = whole(apply, geometry, image)
    found = Predictor(apply, geometry, tile=tile, batch_size=3).logits(image)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert expected.std() > 0.1
    largest = float(np.abs(found - expected).max())
    record_property("largest difference", largest)
    print(f"{padding} {image.shape[:2]} tile {tile}: largest difference {largest:.1e}")
    assert largest <= TOLERANCE


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_tiles_give_the_very_bits_where_sums_are_exact(padding):
    """Small integers have no rounding, so the order of a sum is no matter."""
    apply, geometry = network(padding)
    generator = np.random.default_rng(4)

    def few_ones(leaf):
        values = np.zeros((max(1, math.prod(leaf.shape[:-1])), leaf.shape[-1]))
        if leaf.ndim == 1:
            return jnp.ones(leaf.shape)
        for channel in range(leaf.shape[-1]):
            taps = generator.choice(len(values), min(3, len(values)), replace=False)
            values[taps, channel] = generator.choice([1, 1, -1], len(taps))
        return jnp.asarray(values.reshape(leaf.shape), jnp.float32)

    exact = Partial(apply.func, jax.tree.map(few_ones, apply.args[0]))
    image = generator.integers(-8, 9, (150, 190, 1)).astype(np.float32)
    expected = whole(exact, geometry, image)
    assert len(np.unique(expected)) > 5
    assert np.abs(expected).max() < 2**24
    found = Predictor(exact, geometry, tile=40, batch_size=3).logits(image)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("shape", [(1, 1), (17, 8), (3, 50)])
def test_image_below_the_minimum_is_mirrored_until_it_fits(padding, shape):
    apply, geometry = network(padding)
    image = picture(*shape)
    for tile in (None, 20):
        found = Predictor(apply, geometry, tile=tile).logits(image)
        expected = whole(apply, geometry, image)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_tiles_side_by_side_at_the_output_size_are_not_exact():
    """The reason for the plan: such starts have another pooling phase."""
    apply, geometry = network("VALID", (4, 4, 4, 4))
    image = picture(150, 150)
    side = geometry.next_accepted(2 * geometry.margin + 40)
    output = geometry.output_side(side)
    assert output % geometry.stride != 0
    expected = whole(apply, geometry, image)

    def tile_at(start):
        rows = mirror_indices(
            start - geometry.margin, start - geometry.margin + side, 150
        )
        tile = image[rows][
            :, mirror_indices(-geometry.margin, side - geometry.margin, 150)
        ]
        found = np.asarray(apply(jnp.asarray(tile[None])))[0]
        return np.abs(found - expected[start : start + output, :output]).max()

    aligned = output // geometry.stride * geometry.stride
    assert tile_at(aligned) <= TOLERANCE
    assert tile_at(output) > 100 * TOLERANCE


def test_a_smaller_halo_is_not_exact():
    """The halo is needed: without it the zeros at the cuts are seen."""
    apply, geometry = network("SAME")
    image = picture(120, 120)
    bold = Geometry(geometry.stride, halo=geometry.stride, minimum=geometry.minimum)
    expected = whole(apply, geometry, image)
    found = Predictor(apply, bold, tile=24).logits(image)
    assert np.abs(found - expected).max() > 100 * TOLERANCE


def test_labels_and_probabilities_are_those_of_the_logits():
    apply, geometry = network("SAME")
    image = picture(70, 45)
    predictor = Predictor(apply, geometry, tile=16, batch_size=2)
    logits = predictor.logits(image)
    labels, probabilities = predictor.labels(image), predictor.probabilities(image)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    np.testing.assert_allclose(
        probabilities, jax.nn.softmax(jnp.asarray(logits)), atol=1e-6
    )
    assert len(np.unique(labels)) > 1


def test_pages_of_different_sizes_share_batches_and_keep_their_order():
    apply, geometry = network("VALID")
    images = [
        picture(*shape, seed=i) for i, shape in enumerate([(30, 9), (25, 12), (80, 90)])
    ]
    images += [picture(31, 8, seed=9)]
    predictor = Predictor(apply, geometry, tile=20, batch_size=4)
    pages = list(predictor.pages(iter(images), ("labels", "logits")))
    assert [page["labels"].shape for page in pages] == [i.shape[:2] for i in images]
    for page, image in zip(pages, images, strict=True):
        expected = whole(apply, geometry, image)
        np.testing.assert_allclose(page["logits"], expected, rtol=0, atol=TOLERANCE)


def test_one_tile_shape_is_traced_once():
    geometry = Geometry(stride=4)
    traced = []

    def apply(image):
        traced.append(image.shape)
        return jnp.concatenate([image, -image], -1)

    predictor = Predictor(apply, geometry, tile=16, batch_size=3)
    for shape in [(16, 16), (70, 50), (33, 100), (18, 18)]:
        predictor.labels(picture(*shape))
    assert traced == [(3, 16, 16, 1)]


def test_next_batch_is_taken_before_the_last_one_is_fetched():
    taken = []

    def images():
        for i in range(4):
            taken.append(i)
            yield picture(8, 8, seed=i)

    identity = lambda image: jnp.concatenate([image, -image], -1)
    blocks = Predictor(identity, Geometry(stride=1), tile=8).blocks(images())
    assert next(blocks).page == 0
    assert taken == [0, 1]
    assert [block.page for block in blocks] == [1, 2, 3]


def test_memory_of_a_large_image_is_that_of_tiles_and_labels():
    identity = lambda image: jnp.concatenate([image, -image], -1)
    predictor = Predictor(identity, Geometry(stride=16, halo=16), tile=64)
    image = np.zeros((1024, 2048, 1), np.float32)
    predictor.labels(image[:256, :256])
    tracemalloc.start()
    predictor.labels(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    strip = 96 * 2048 * 4
    assert peak < image.size + 3 * strip < image.nbytes


def test_stored_image_is_scaled_tile_by_tile():
    identity = lambda image: jnp.concatenate([image, 0.5 - image], -1)
    predictor = Predictor(identity, Geometry(stride=16, halo=16), tile=64)
    stored = np.random.default_rng(0).integers(0, 256, (1024, 2048, 1), np.uint8)
    image = ScaledImage(stored, lambda x: x.astype(np.float32) / 255)
    expected = predictor.labels(np.asarray(image))
    tracemalloc.start()
    found = predictor.labels(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)
    assert peak < 2 * stored.nbytes  # in float32 it would have four times as many


def test_every_predictor_takes_a_stored_image():
    identity = lambda image: jnp.concatenate([image, 0.5 - image], -1)
    geometry = Geometry(stride=2)
    stored = np.random.default_rng(0).integers(0, 256, (12, 14, 1), np.uint8)
    scale = lambda x: x.astype(np.float32) / 255
    averaged = AveragedPredictor(identity, geometry, TestTimeAugmentation(flip=True))
    for predictor in (averaged, EnsemblePredictor([averaged, averaged], 1)):
        parts = 2 if predictor is not averaged else 1
        twice = lambda x, n=parts: np.concatenate([scale(x)] * n, -1)
        image = ScaledImage(stored, twice)
        (found,) = predictor.pages([image], ("labels", "logits"))
        (expected,) = predictor.pages([twice(stored)], ("labels", "logits"))
        np.testing.assert_array_equal(found["logits"], expected["logits"])
        assert found["labels"].shape == (12, 14)


def test_batches_are_spread_over_devices():
    devices = jax.local_devices()[:2]
    mesh = jax.sharding.Mesh(np.array(devices), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    apply, geometry = network("SAME")
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    spread = Partial(apply.func, *jax.device_put(apply.args, replicated))
    image = picture(90, 60)
    predictor = Predictor(spread, geometry, tile=16, batch_size=4, sharding=sharding)
    expected = whole(apply, geometry, image)
    np.testing.assert_allclose(
        predictor.logits(image), expected, rtol=0, atol=TOLERANCE
    )


def test_output_of_another_size_than_the_geometry_says_is_refused():
    predictor = Predictor(lambda image: image[:, 1:-1, 1:-1], Geometry(stride=1))
    with pytest.raises(ValueError, match="its geometry says"):
        predictor.labels(picture(8, 8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 1), np.uint8), "normalised, in floating point, got uint8"),
        (np.zeros((8, 8), np.float32), r"\[H, W, C\].*shape \(8, 8\)"),
        (np.zeros((0, 8, 1), np.float32), "must not be empty"),
    ],
)
def test_array_that_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        Predictor(lambda image: image, Geometry(stride=1)).labels(image)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"tile": -1}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Predictor(lambda image: image, Geometry(stride=1), **wrong)


def test_unknown_form_is_refused():
    predictor = Predictor(lambda image: image, Geometry(stride=1))
    with pytest.raises(ValueError, match="outputs must be some of"):
        list(predictor.pages([picture(8, 8)], ("label",)))
