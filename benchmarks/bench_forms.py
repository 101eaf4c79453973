"""Times what each fast form of an op gains on a whole step, on a CPU.

    python benchmarks/bench_forms.py --output=benchmarks/results
    python benchmarks/bench_forms.py --forms depthwise pointwise

For each row the same step is compiled twice: as users run it, and with one form replaced by
what XLA makes of the plain definition; in the rows "all" every op is plain. The two take
turns in one process. A ratio above 1 is what the form gains, and a form that gains nothing
any more is to be deleted. A step is a loss and all gradients of a network in training, or
one call of the fully connected CRF. Outputs and gradients of both are compared, too: the
largest difference stands beside the largest number of its array.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from results import environment, save

from segjax import models
from segjax.backbones.resnet import ResNet
from segjax.backbones.xception import Xception
from segjax.losses import cross_entropy
from segjax.losses.instance import mask_rcnn_loss
from segjax.ops.base.forms import forms
from segjax.ops.base.lax_conv import stock_conv
from segjax.ops.convolution import convolve, transposed
from segjax.ops.cpu import convolution, materialization, valid_slots
from segjax.ops.crf import lattice
from segjax.ops.crf.dense import dense_crf
from segjax.ops.pooling import windowed
from segjax.ops.resizing import resampling

CLASSES = 21
OBJECTS = 8
Work = tuple[Callable[..., Any], tuple[Any, ...]]


def pixelwise(model: Any, batch: int, side: int, channels: int = 3) -> Work:
    """Loss and gradients of a network that labels pixels, and its arguments."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(batch, side, side, channels)), jnp.float32)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    variables = jax.jit(init)(image)
    size = model.geometry.output_side(side)
    label = jnp.asarray(rng.integers(0, CLASSES, (batch, size, size)), jnp.int32)

    def loss(params: Any, image: jax.Array) -> tuple[jax.Array, Any]:
        outputs, _ = model.apply(
            {**variables, "params": params},
            image,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        weight = jnp.ones(label.shape)
        return cross_entropy(outputs, {"label": label, "weight": weight}), outputs

    step = jax.value_and_grad(loss, has_aux=True)
    return step, (variables["params"], image)


def unet() -> Work:
    return pixelwise(models.UNet(CLASSES, features=(32, 64, 128, 256, 512)), 1, 256)


def deeplab_v3() -> Work:
    backbone = ResNet(50, output_stride=8)
    return pixelwise(models.DeepLabV3(CLASSES, backbone, rates=(12, 24, 36)), 2, 256)


def deeplab_v3plus() -> Work:
    return pixelwise(models.DeepLabV3Plus(CLASSES, Xception(output_stride=16)), 1, 257)


def mask_rcnn() -> Work:
    model = models.MaskRCNN(CLASSES, ResNet(50))
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(size=(2, 256, 320, 3)), jnp.float32)
    first = rng.uniform(0, 128, (2, OBJECTS, 2))
    boxes = np.concatenate([first, first + rng.uniform(32, 128, first.shape)], -1)
    targets = {
        "boxes": jnp.asarray(boxes, jnp.float32),
        "classes": jnp.asarray(rng.integers(1, CLASSES, (2, OBJECTS)), jnp.int32),
        "crowd": jnp.zeros((2, OBJECTS), bool),
        "masks": jnp.asarray(rng.integers(0, 2, (2, OBJECTS, 28, 28)), jnp.uint8),
    }
    init = functools.partial(model.init, jax.random.key(0), train=False)
    variables = jax.jit(init)(image)

    def loss(params: Any, image: jax.Array) -> tuple[jax.Array, Any]:
        outputs = model.apply(
            {**variables, "params": params},
            image,
            train=True,
            targets=targets,
            rngs={"sampling": jax.random.key(1)},
        )
        return mask_rcnn_loss(outputs, targets)

    return jax.value_and_grad(loss, has_aux=True), (variables["params"], image)


def crf() -> Work:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (25, 34, 3)).repeat(15, 0).repeat(15, 1)
    image = coarse[:375, :500] + rng.normal(0, 4, (375, 500, 3))
    logits = rng.normal(size=(25, 34, CLASSES)).repeat(15, 0).repeat(15, 1)[:375, :500]
    apply = functools.partial(
        dense_crf, sigma_alpha=80.0, sigma_beta=13.0, num_iterations=5, method="lattice"
    )
    step = functools.partial(apply, capacity=400_000)
    return step, (jnp.asarray(image.clip(0, 255), jnp.float32), jnp.asarray(logits))


NETWORKS = {
    network.__name__: network
    for network in (unet, deeplab_v3, deeplab_v3plus, mask_rcnn, crf)
}


def stock_kernel_gradient(x: Any, cotangent: Any, kernel: Any, options: Any) -> Any:
    """The gradient that XLA derives by itself."""
    apply = functools.partial(stock_conv, x, options=options)
    return jax.vjp(lambda kernel: apply(kernel), kernel)[1](cotangent)[0]


def never(*_: Any) -> bool:
    return False


class Form(NamedTuple):
    """A form, a network that needs it, and what of a module is replaced."""

    name: str
    network: str
    module: Any = None
    attribute: str = ""


FORMS = (
    Form("kernel gradients", "unet", convolution, "kernel_gradient"),
    Form("kernel gradients", "deeplab_v3", convolution, "kernel_gradient"),
    Form("strips of rows", "unet", convolution, "strip_count"),
    Form("matrix product for 1x1", "deeplab_v3", convolution, "is_pointwise"),
    Form("matrix product for 1x1", "deeplab_v3plus", convolution, "is_pointwise"),
    Form("depthwise by taps", "deeplab_v3plus", convolution, "is_depthwise"),
    Form("no products with padding", "deeplab_v3", convolution, "is_sparse"),
    Form("taps outside dropped", "deeplab_v3", convolve, "drop_unseen_taps"),
    Form("blocks for stride 2", "unet", transposed, "is_blockwise"),
    Form("2x2 pooling by quarters", "unet", windowed, "_is_plain_2x2"),
    Form("resampling by gathers", "deeplab_v3", resampling, "MOST_TAPS"),
    Form("filled slots alone", "mask_rcnn", valid_slots, "is_fast_on_cpu"),
    Form("values kept", "crf", materialization, "is_fast_on_cpu"),
    Form("two blurs at once", "crf", lattice, "PAIRED_CHANNELS"),
    Form("splat in parts", "crf", lattice, "SPLAT_VALUES"),
    *(Form("all", network) for network in NETWORKS),
)
INSTEAD = {
    "kernel_gradient": stock_kernel_gradient,
    "strip_count": lambda *_: 1,
    "drop_unseen_taps": lambda x, kernel, options: (kernel, options),
    "MOST_TAPS": 0,
    "PAIRED_CHANNELS": (),
    "SPLAT_VALUES": 1 << 40,
}


@contextlib.contextmanager
def without(form: Form) -> Iterator[None]:
    """Traces without a form, or, where it names none, without all."""
    if form.module is None:
        with forms("plain"):
            yield
        return
    instead = INSTEAD.get(form.attribute, never)
    with mock.patch.object(form.module, form.attribute, instead):
        yield


def compiled(work: Work) -> tuple[Callable[[], Any], str]:
    """A function that runs a step and waits for it, and the program's text."""
    step, arguments = work
    jax.clear_caches()  # What was traced inside of it with another form, too.
    traced = jax.jit(step).trace(*arguments)
    program = traced.lower().compile()
    return lambda: jax.block_until_ready(program(*arguments)), str(traced.jaxpr)


def largest_difference(one: Any, other: Any) -> float:
    """Of two trees of arrays, beside the largest number of each array.

    An array whose numbers are all a millionth of the largest of all is what rounding
    leaves of a gradient that is 0, and does not count.
    """
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    ]
    largest = max(np.abs(b).max() for _, b in pairs)
    return max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in pairs
        if np.abs(b).max() > 1e-6 * largest
    )


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Of one step: by the clock, and of all cores together."""
    start, used = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - used


def compare(form: Form, pairs: int) -> dict[str, Any]:
    work = NETWORKS[form.network]()
    fast, of_fast = compiled(work)
    with without(form):
        plain, of_plain = compiled(work)
    if of_fast == of_plain:
        raise SystemExit(f"{form.network} does not take the form {form.name!r}")
    difference = largest_difference(fast(), plain())
    times = [(seconds(fast), seconds(plain)) for _ in range(pairs)]
    ratios = [without[1] / own[1] for own, without in times]
    return {
        "form": form.name,
        "network": form.network,
        "seconds": statistics.median(own[0] for own, _ in times),
        "seconds_without": statistics.median(other[0] for _, other in times),
        "cpu_seconds": statistics.median(own[1] for own, _ in times),
        "cpu_seconds_without": statistics.median(other[1] for _, other in times),
        "gain": statistics.median(ratios),
        "gain_range": [min(ratios), max(ratios)],
        "difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--forms", nargs="+", help="names of rows; none: all")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("These forms are those of CPUs: set JAX_PLATFORMS=cpu.")
    wanted = arguments.forms or {form.name for form in FORMS}
    found, rows = environment("cpu"), []
    for form in FORMS:
        if form.name not in wanted:
            continue
        row = compare(form, arguments.pairs)
        low, high = row["gain_range"]
        print(
            f"{form.name}, {form.network}: {row['cpu_seconds']:.3g} s of processor, "
            f"without {row['cpu_seconds_without']:.3g} s, gain {row['gain']:.2f} "
            f"({low:.2f} to {high:.2f}), difference {row['difference']:.1e}",
            flush=True,
        )
        rows.append(row)
    save("forms", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
