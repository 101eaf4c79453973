import contextlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.toeplitz import conv_matrix, conv_transpose_matrix
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.cpu import kernel_gradients

OPERATORS = {"conv": conv, "conv_transpose": conv_transpose}
GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "conv.npz")
CASES = sorted({key.rsplit(" ", 1)[0] for key in GOLDEN.files})

X = jnp.array([[-1, 2, 2, 1], [1, -1, 1, 2], [-1, 0, 2, 1], [1, 1, 0, 2.0]])
Y = jnp.array([[1, 2, 1, 0], [-1, 1, 0, 1], [0, 2, -2, 1], [1, 1, 2, -1.0]])
Y2 = jnp.array([[2, 1, 0, -1], [0, 1, 2, 2], [1, -2, 1, 2], [0, 2, 1, 1.0]])
K = jnp.array([[1, 0, -1], [2, 1, 0], [0, 1, 2.0]])
K2 = jnp.array([[2, -1, 1], [0, 1, 2], [-2, 0, 1.0]])
FULL_AT_STRIDE_2 = [
    [1, 0, 1, 0, -1, 0, -1, 0, 0],
    [2, 1, 4, 2, 2, 1, 0, 0, 0],
    [-1, 1, 4, 2, 3, 1, 3, 0, -1],
    [-2, -1, 2, 1, 0, 0, 2, 1, 0],
    [0, -1, 0, 1, -2, 0, 3, 1, 1],
    [0, 0, 4, 2, -4, -2, 2, 1, 0],
    [1, 0, 0, 2, 5, -2, -7, 1, 3],
    [2, 1, 2, 1, 4, 2, -2, -1, 0],
    [0, 1, 2, 1, 2, 2, 4, -1, -2],
]


def plane(operator, x, kernel, **options):
    """Applies an operator to one channel."""
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    y = operator(x[None, :, :, None], kernel[:, :, None, None], **options)
    return np.asarray(y[0, :, :, 0])


def line(operator, x, kernel, **options):
    """Applies an operator to one row of one channel, options being those of the row."""
    still = {"stride": 1, "dilation": 1, "padding": 0, "output_padding": 0}
    pairs = {name: (still[name], value) for name, value in options.items()}
    return plane(operator, x[None], kernel[None], **pairs)[0]


def random_array(*shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def golden(case):
    name, options = case.split(" ")
    options = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in json.loads(options).items()
        if k != "window"
    }
    arrays = {
        what: jnp.asarray(GOLDEN[f"{case} {what}"], jnp.float32)
        for what in (
            "x",
            "kernel",
            "value",
            "cotangent",
            "gradient_x",
            "gradient_kernel",
        )
    }
    return lambda x, kernel: OPERATORS[name](x, kernel, **options), arrays


@contextlib.contextmanager
def no_compilation_cache():
    """Compiles in earnest, and forgets what was compiled before."""
    before = jax.config.jax_enable_compilation_cache
    jax.clear_caches()
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the switch once and remembers.
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_torch(case):
    function, arrays = golden(case)

    @jax.jit
    def value_and_gradients(x, kernel, cotangent):
        value, pullback = jax.vjp(function, x, kernel)
        return value, *pullback(cotangent)

    value, gradient_x, gradient_kernel = value_and_gradients(
        arrays["x"], arrays["kernel"], arrays["cotangent"]
    )
    for ours, what in (
        (value, "value"),
        (gradient_x, "gradient_x"),
        (gradient_kernel, "gradient_kernel"),
    ):
        np.testing.assert_allclose(ours, arrays[what], rtol=1e-5, atol=1e-5)


@pytest.mark.quick(8)
@pytest.mark.parametrize("case", CASES)
def test_eager_and_vmap_are_the_same(case):
    function, arrays = golden(case)
    x, kernel = arrays["x"], arrays["kernel"]
    np.testing.assert_allclose(function(x, kernel), arrays["value"], atol=1e-5)
    mapped = jax.vmap(function, in_axes=(0, None))(x[:, None], kernel)
    np.testing.assert_allclose(mapped[:, 0], arrays["value"], atol=1e-5)

    def gradient(x, cotangent):
        return jax.vjp(function, x[None], kernel)[1](cotangent[None])[1]

    each = jax.vmap(gradient)(x, arrays["cotangent"])
    np.testing.assert_allclose(each.sum(0), arrays["gradient_kernel"], atol=1e-4)


def test_lecture_examples_of_convolution():
    padded = [[-2, 1, 11, 7], [-2, 2, 4, 7], [3, -1, 3, 8], [1, 0, 1, 4]]
    np.testing.assert_array_equal(plane(conv, X, K, padding=1), padded)
    np.testing.assert_array_equal(plane(conv, X, K), [[2, 4], [-1, 3]])
    strided = plane(conv, X, K, padding=1, stride=2)
    np.testing.assert_array_equal(strided, [[-2, 11], [3, 3]])


def test_lecture_examples_of_transposed_convolution():
    square = jnp.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(
        plane(conv_transpose, square, square), [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    )
    np.testing.assert_array_equal(
        plane(conv_transpose, square, square, stride=2),
        [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]],
    )
    full = [
        [1, 2, 0, -2, -1, 0],
        [1, 6, 5, 1, 0, -1],
        [-2, 4, 3, 6, 5, -1],
        [1, 4, -2, 0, 0, 3],
        [2, 3, 7, 2, -4, 2],
        [0, 1, 3, 4, 3, -2],
    ]
    np.testing.assert_array_equal(plane(conv_transpose, Y, K), full)
    cropped = plane(conv_transpose, Y, K, padding=1)
    np.testing.assert_array_equal(cropped, np.array(full)[1:-1, 1:-1])


def test_lecture_examples_of_transposed_convolution_at_stride_2():
    full = np.array(FULL_AT_STRIDE_2)
    np.testing.assert_array_equal(plane(conv_transpose, Y, K, stride=2), full)
    cropped = plane(conv_transpose, Y, K, stride=2, padding=1)
    np.testing.assert_array_equal(cropped, full[1:-1, 1:-1])
    longer = plane(conv_transpose, Y, K, stride=2, padding=1, output_padding=1)
    np.testing.assert_array_equal(longer, full[1:, 1:])


def test_lecture_example_of_two_input_channels():
    x = jnp.stack([Y, Y2], -1)[None]
    kernel = jnp.stack([K, K2], -1)[:, :, None]
    np.testing.assert_array_equal(
        conv_transpose(x, kernel)[0, :, :, 0],
        [
            [5, 2, 1, -3, 0, -1],
            [1, 10, 13, 6, -1, -1],
            [-4, -3, 11, 14, 10, 4],
            [1, 7, -6, -3, 6, 10],
            [0, 7, 8, 1, 0, 6],
            [0, -3, 1, 4, 4, -1],
        ],
    )


@pytest.mark.parametrize(
    ("dilation", "valid", "same"),
    [
        (1, [14, 20, 26, 32, 38, 44], [8, 14, 20, 26, 32, 38, 44, 23]),
        (2, [22, 28, 34, 40], [11, 16, 22, 28, 34, 40, 19, 22]),
        (3, [30, 36], [14, 19, 24, 30, 36, 15, 18, 21]),
    ],
)
def test_lecture_examples_of_dilation(dilation, valid, same):
    x, kernel = jnp.arange(1.0, 9), jnp.array([1.0, 2, 3])
    np.testing.assert_array_equal(line(conv, x, kernel, dilation=dilation), valid)
    padded = line(conv, x, kernel, dilation=dilation, padding=dilation)
    np.testing.assert_array_equal(padded, same)
    matrix = conv_matrix(kernel, 8, dilation=dilation)
    np.testing.assert_array_equal(matrix @ x, valid)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_both_operators_are_their_matrix(stride, padding, dilation):
    kernel = random_array(3)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    x = random_array(11, seed=1)
    matrix = conv_matrix(kernel, 11, **options)
    np.testing.assert_allclose(
        line(conv, x, kernel, **options), matrix @ x, rtol=1e-5, atol=1e-5
    )
    more = max(stride, dilation) - 1
    y = random_array(6, seed=2)
    matrix = conv_transpose_matrix(kernel, 6, output_padding=more, **options)
    np.testing.assert_allclose(
        line(conv_transpose, y, kernel, output_padding=more, **options),
        matrix @ y,
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, ((0, 2), (1, 0))])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_is_the_adjoint(stride, padding, groups):
    x = random_array(2, 9, 9, 4)
    kernel = random_array(3, 3, 4 // groups, 6, seed=1)
    options = {"stride": stride, "padding": padding, "groups": groups}
    y = random_array(*conv(x, kernel, **options).shape, seed=2)
    back = conv_transpose(y, kernel, **options)
    back = jnp.pad(back, [(0, n - m) for n, m in zip(x.shape, back.shape, strict=True)])
    left = (conv(x, kernel, **options) * y).sum()
    np.testing.assert_allclose(left, (x * back).sum(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("operator", [conv, conv_transpose])
@pytest.mark.parametrize(
    "options", [{"padding": 1}, {"stride": 2, "dilation": 2, "padding": 2}]
)
def test_gradients_are_finite_differences(operator, options):
    x, kernel = random_array(1, 5, 4, 2), random_array(2, 2, 2, 2, seed=1)

    def function(x, kernel):
        return operator(x, kernel, **options)

    check_grads(function, (x, kernel), order=2, modes=["rev"], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("operator", [conv, conv_transpose])
def test_forward_mode_is_refused_and_not_wrong(operator):
    x, kernel = random_array(1, 5, 5, 2), random_array(2, 2, 2, 2, seed=1)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(operator, (x, kernel), (x, kernel))


@pytest.mark.quick(8)
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 3}])
@pytest.mark.parametrize("few", [0, 8])
@pytest.mark.parametrize(
    ("small_map", "cache", "batch"),
    [(0, 1 << 30, 2), (0, 0, 2), (64 * 64, 0, 6), (64 * 64, 60_000, 6), (0, 0, 8)],
    ids=["rows", "rows of one image", "images", "three images", "of four devices"],
)
def test_blocks_give_the_stock_gradient(
    options, few, small_map, cache, batch, monkeypatch
):
    monkeypatch.setattr(kernel_gradients, "_SMALL_MAP", small_map)
    monkeypatch.setattr(kernel_gradients, "_CACHE", cache)
    monkeypatch.setattr(kernel_gradients, "_ROWS", 4)
    monkeypatch.setattr(kernel_gradients, "_FEW_CHANNELS", few)
    x, kernel = random_array(batch, 23, 20, 3), random_array(3, 3, 3, 5, seed=1)
    y, pullback = jax.vjp(lambda k: conv(x, k, **options), kernel)
    stock = Options(
        (options.get("stride", 1),) * 2,
        ((options.get("padding", 0),) * 2,) * 2,
        (options.get("dilation", 1),) * 2,
        1,
    )
    transpose = jax.linear_transpose(lambda k: stock_conv(x, k, stock), kernel)
    cotangent = random_array(*y.shape, seed=2)
    np.testing.assert_allclose(
        pullback(cotangent)[0], transpose(cotangent)[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("side", [12, 80])
def test_the_gradient_of_no_images_is_zero(side):
    x, kernel = jnp.zeros((0, side, side, 3)), random_array(3, 3, 3, 5)
    gradient = jax.grad(lambda k: conv(x, k, padding=1).sum())(kernel)
    np.testing.assert_array_equal(gradient, np.zeros((3, 3, 3, 5)))


@pytest.mark.parametrize("side", [32, 80])
def test_bfloat16_gradients_are_summed_in_float32(side):
    x = random_array(2, side, side, 4, dtype=jnp.bfloat16)
    kernel = random_array(3, 3, 4, 4, seed=1, dtype=jnp.bfloat16)

    def gradient(x, kernel):
        def loss(kernel):
            return conv(x, kernel, padding=1).astype(jnp.float32).sum()

        return jax.grad(loss)(kernel)

    ours = gradient(x, kernel)
    exact = gradient(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-8, atol=1e-2)


@pytest.mark.parametrize(
    ("own", "images"), [(6, 1), (6, 2), (6, 3), (5, 1), (1, 1)], ids=str
)
def test_a_block_has_images_of_every_device(own, images, monkeypatch):
    monkeypatch.setattr(kernel_gradients, "_CACHE", 3500)
    devices = jax.device_count()
    together = kernel_gradients._images_together
    assert together(devices * own, 3500 // images) == devices * images
    assert together(devices * own + 1, 3501) == 1
    assert together(devices * own, 3501) == devices


@pytest.mark.parametrize(("side", "channels"), [(32, 3), (80, 3), (32, 8), (80, 8)])
@pytest.mark.parametrize(("batch", "cache"), [(4, 6 << 20), (8, 0)])
def test_a_sharded_batch_stays_where_it_is(side, channels, batch, cache, monkeypatch):
    monkeypatch.setattr(kernel_gradients, "_CACHE", cache)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    x = random_array(batch, side, side, channels)
    cotangent = random_array(batch, side, side, 5, seed=2)
    kernel = random_array(3, 3, channels, 5, seed=1)

    def gradients(x, kernel, cotangent):
        return jax.vjp(lambda x, k: conv(x, k, padding=1), x, kernel)[1](cotangent)

    batch = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    sharded = jax.jit(
        gradients, in_shardings=(batch, whole, batch), out_shardings=(batch, whole)
    )
    program = sharded.lower(x, kernel, cotangent).compile().as_text()
    assert "all-gather" not in program
    assert program.count(" all-reduce(") == 1
    # Each is a sum of n products of unit variance: of size sqrt(n), which the order of
    # the sum changes by sqrt(n) eps of it.
    terms = kernel[..., 0, :].size, x[..., 0].size
    for ours, one_device, n in zip(
        sharded(x, kernel, cotangent),
        jax.jit(gradients)(x, kernel, cotangent),
        terms,
        strict=True,
    ):
        allowed = max(n * jnp.finfo(jnp.float32).eps, 1e-5)
        np.testing.assert_allclose(ours, one_device, rtol=1e-5, atol=allowed)


@pytest.mark.slow
def test_two_compilations_give_the_same_bits():
    x, kernel = random_array(2, 80, 80, 8), random_array(3, 3, 8, 8, seed=1)

    def compiled_anew():
        def loss(x, kernel):
            return jnp.sin(conv(x, kernel, padding=1)).sum()

        return jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile()

    with no_compilation_cache():
        first, second = compiled_anew(), compiled_anew()
    for a, b in zip(first(x, kernel), second(x, kernel), strict=True):
        assert np.asarray(a).std() > 0
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride is .*; allowed is an integer"),
        ({"stride": (1, 2, 3)}, "stride is .*; allowed is an integer"),
        ({"stride": 1.5}, "stride is 1.5; allowed is an integer"),
        ({"dilation": 0}, "dilation is .*; allowed is an integer"),
        ({"padding": -1}, "padding is .*; allowed is an integer"),
        ({"padding": ((1, 1), (1, -2))}, "padding is .*; allowed is an integer"),
        ({"groups": 3}, "groups=3 must divide"),
        ({"groups": 2}, "kernel .* reads"),
        ({"dilation": 9}, "x .* needs at least 19"),
    ],
)
def test_errors_of_conv_name_the_argument(options, message):
    x, kernel = random_array(1, 8, 8, 4), random_array(3, 3, 4, 4)
    with pytest.raises(ValueError, match=message):
        conv(x, kernel, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2, "output_padding": 2}, "output_padding 2 must be smaller"),
        ({"padding": 7}, "padding 7 crops the whole height"),
        ({"stride": -1}, "stride is .*; allowed is an integer"),
        ({"groups": 3}, "groups=3 must divide"),
    ],
)
def test_errors_of_conv_transpose_name_the_argument(options, message):
    x, kernel = random_array(1, 8, 8, 4), random_array(3, 3, 4, 4)
    with pytest.raises(ValueError, match=message):
        conv_transpose(x, kernel, **options)


@pytest.mark.parametrize("operator", [conv, conv_transpose])
def test_wrong_shapes_are_named(operator):
    with pytest.raises(ValueError, match="x must have 4 axes"):
        operator(random_array(8, 8, 4), random_array(3, 3, 4, 4))
    with pytest.raises(ValueError, match="kernel must have 4 axes"):
        operator(random_array(1, 8, 8, 4), random_array(3, 3, 4))
    with pytest.raises(ValueError, match=r"kernel .* reads"):
        operator(random_array(1, 8, 8, 5), random_array(3, 3, 4, 4))
