"""SegNet: the paper's figures, and that its decoder writes where the maxima were."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import receptive_field
from segjax.layers.norm import Norm
from segjax.models import SegNet
from segjax.predict.tiled import Predictor

SMALL = SegNet(2, features=(3, 4), depths=(2, 1))


def abstract(model, height, width, **options):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(
        jax.random.key(0), x, train=False, **options
    )
    return jax.eval_shape(init, image)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@functools.cache
def initialised(model, channels=3):
    image = jnp.zeros((1, 8, 8, channels))
    return jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(image)


def passing_on(model):
    """Variables with which every layer gives on what it got, with one channel."""

    def leaf(path, x):
        if x.ndim < 4:
            is_scale = path[-1].key in ("scale", "var")
            return jnp.full_like(x, 1.0 if is_scale else 0.0)
        height, width, *_ = x.shape
        return jnp.zeros_like(x).at[height // 2, width // 2].set(1.0)

    image = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    return jax.tree_util.tree_map_with_path(leaf, zeros)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(11, 29_449_355), (12, 29_449_932), (21, 29_455_125), (37, 29_464_357)],
)
def test_parameter_counts_are_those_of_the_release(classes, expected):
    _, variables = abstract(SegNet(classes), 32, 32)
    assert count(variables["params"]) == expected


def test_parameters_of_the_norms_are_those_of_the_release():
    params = abstract(SegNet(11), 32, 32)[1]["params"]
    norms = {name: leaf for name, leaf in params.items() if name.startswith("norm")}
    assert count(norms) == 15_872
    assert "norm1_1_D" not in params
    assert params["conv1_1_D"]["kernel"].shape[3] == 11


def test_sizes_of_camvid_are_those_of_the_release():
    (outputs, state) = abstract(SegNet(11), 360, 480, capture_intermediates=True)
    assert outputs["logits"].shape == (1, 360, 480, 11)
    side = lambda name: state["intermediates"][name]["__call__"][0].shape[1:]
    expected = {
        "conv1_2": (360, 480, 64),
        "conv4_3": (45, 60, 512),
        "conv5_3": (23, 30, 512),
        "conv5_3_D": (23, 30, 512),
        "conv5_1_D": (23, 30, 512),
        "conv4_3_D": (45, 60, 512),
        "conv4_1_D": (45, 60, 256),
        "conv3_1_D": (90, 120, 128),
        "conv2_1_D": (180, 240, 64),
        "conv1_2_D": (360, 480, 64),
    }
    assert {name: side(name) for name in expected} == expected


def test_receptive_fields_are_those_of_the_specification():
    layers = SegNet(11).layers()
    encoder = layers[: [layer.name for layer in layers].index("unpool5")]
    assert (receptive_field(encoder).size, receptive_field(encoder).stride) == (212, 32)
    whole = receptive_field(layers)
    assert (whole.smallest, whole.size, whole.centre) == (372, 404, 0)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_point_comes_out_where_it_went_in(depth):
    """Twenty odd sizes, each with a point in every place of a row and of a column."""
    model = SegNet(
        1, features=(1,) * depth, depths=(1,) * depth, norm=Norm(epsilon=0.0)
    )
    variables = passing_on(model)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    rng = np.random.default_rng(depth)
    for _ in range(7):
        height, width = 2 * rng.integers(2, 12, 2) + 1
        images = np.zeros((height + width, height, width, 1), np.float32)
        rows, columns = np.arange(height), np.arange(width)
        images[rows, rows, rng.integers(width)] = 1.0
        images[height + columns, rng.integers(height), columns] = 1.0
        np.testing.assert_array_equal(apply(images), images)


def test_a_point_comes_out_where_it_went_in_of_the_whole_network():
    model = SegNet(1, features=(1,) * 5, norm=Norm(epsilon=0.0))
    image = np.zeros((4, 45, 61, 1), np.float32)
    places = [(0, 0), (44, 60), (22, 31), (43, 1)]
    for i, (row, column) in enumerate(places):
        image[i, row, column] = 1.0
    variables = passing_on(model)
    logits = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])(image)
    np.testing.assert_array_equal(logits, image)


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (13, 5)])
def test_every_size_is_legal(size):
    outputs, _ = abstract(SegNet(3), *size)
    assert outputs["logits"].shape == (1, *size, 3)


@pytest.mark.parametrize("rest", [(0, 1), (2, 3)])
def test_tiles_give_what_the_whole_image_gives(rest):
    variables = initialised(SMALL)
    halo, stride = SMALL.geometry.halo, SMALL.geometry.stride
    height, width = (2 * halo + 4 * stride + n - 2 * halo % stride for n in rest)
    apply = jax.tree_util.Partial(
        lambda v, x: SMALL.apply(v, x, train=False)["logits"], variables
    )
    rng = np.random.default_rng(0)
    image = rng.normal(size=(height, width, 3)).astype(np.float32)
    whole = Predictor(apply, SMALL.geometry, tile=0).logits(image)
    tiled = Predictor(apply, SMALL.geometry, tile=stride).logits(image)
    assert whole.shape == (height, width, 2)
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-4)


def test_dropout_is_where_bayesian_segnet_has_it():
    image = jnp.zeros((1, 32, 32, 3))
    for model, levels in ((SegNet(2, features=(1,) * 5), (3, 4, 5)), (SMALL, ())):
        _, state = jax.eval_shape(
            lambda x, model=model: model.init_with_output(
                jax.random.key(0), x, train=False, capture_intermediates=True
            ),
            image,
        )
        found = {k for k in state["intermediates"] if k.startswith("dropout")}
        assert found == {f"dropout{i}{end}" for i in levels for end in ("", "_D")}


def test_samples_of_bayesian_segnet_differ_in_evaluation_alone_where_asked():
    plain = SegNet(2, features=(2,) * 3, depths=(1,) * 3, dropout_rate=0.5)
    variables = initialised(plain)
    image = jax.random.normal(jax.random.key(1), (1, 16, 16, 3))

    @functools.partial(jax.jit, static_argnums=0)
    def logits(model, key):
        rngs = {"dropout": jax.random.key(key)}
        return model.apply(variables, image, train=False, rngs=rngs)["logits"]

    sampling = plain.clone(sample=True)
    np.testing.assert_array_equal(logits(plain, 0), logits(plain, 1))
    np.testing.assert_array_equal(logits(sampling, 0), logits(sampling, 0))
    assert (logits(sampling, 0) != logits(sampling, 1)).any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
        ({"features": (4, 0)}, "features holds integers of at least 1"),
        ({"depths": (1,)}, "depths holds one number a level.*it has 1 for 2"),
        ({"dropout_rate": 1.0}, "dropout_rate is at least 0 and less than 1"),
        ({"dtype": "int32"}, "dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        SMALL.clone(**changes)


@pytest.mark.parity
@pytest.mark.parametrize("size", [(33, 50), (16, 24)])
def test_outputs_are_those_of_pytorch(size):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = SegNet(3, features=(4, 5, 6), depths=(2, 2, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: jnp.asarray(x + 0.3 * np.abs(rng.normal(size=x.shape)), x.dtype),
        initialised(model),
    )
    image = rng.normal(size=(2, *size, 3)).astype(np.float32)
    tensor = lambda x: torch.from_numpy(np.array(x))
    params, statistics = variables["params"], variables["batch_stats"]

    def conv(x, name):
        kernel, bias = (tensor(params[f"conv{name}"][k]) for k in ("kernel", "bias"))
        return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1)

    def block(x, name):
        x = conv(x, name)
        mean, var = (tensor(statistics[f"norm{name}"][k]) for k in ("mean", "var"))
        scale, bias = (tensor(params[f"norm{name}"][k]) for k in ("scale", "bias"))
        return functional.batch_norm(x, mean, var, scale, bias).relu()

    x, kept = tensor(image).permute(0, 3, 1, 2), []
    for i, depth in enumerate(model.depths, 1):
        for j in range(1, depth + 1):
            x = block(x, f"{i}_{j}")
        kept.append(x.shape)
        x, indices = functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        kept[-1] = (indices, kept[-1][2:])
    for i in (3, 2, 1):
        indices, shape = kept[i - 1]
        x = functional.max_unpool2d(x, indices, 2, output_size=shape)
        for j in range(model.depths[i - 1], 1, -1):
            x = block(x, f"{i}_{j}_D")
        x = block(x, f"{i}_1_D") if i > 1 else conv(x, "1_1_D")
    ours = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])(image)
    theirs = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
