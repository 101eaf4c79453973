"""Times what each fast form of an op gains on a whole step, on a CPU.

    python benchmarks/bench_forms.py --output=benchmarks/results
    python benchmarks/bench_forms.py --forms depthwise pointwise

For each row the same step is compiled twice, with the options of a training step: as users
run it, and with one form replaced by the one that would be taken without it; in the rows "all"
every op has its plain definition. The two take turns in one process, each beginning every other
pair. A gain above 1 says that the form is faster, in processor time and by the clock; a form
that gains nothing by either any more is to be deleted. A step is a loss and all gradients of a
network in training, or one call of the fully connected CRF. Outputs and gradients of both are
compared, too: the largest difference stands beside the largest number of its array.
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

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from results import environment, save

from segjax import models
from segjax.backbones.resnet import ResNet
from segjax.backbones.xception import Xception
from segjax.layers.norm import Norm
from segjax.losses import cross_entropy
from segjax.losses.instance import mask_rcnn_loss
from segjax.ops.base.forms import forms
from segjax.ops.base.lax_conv import stock_conv
from segjax.ops.convolution import convolve, transposed
from segjax.ops.cpu import (
    convolution,
    kernel_gradients,
    materialization,
    valid_slots,
)
from segjax.ops.crf import lattice
from segjax.ops.crf.dense import dense_crf
from segjax.ops.crf.filters import crf_capacity
from segjax.ops.pooling import windowed
from segjax.ops.resizing import resize
from segjax.ops.resizing.resampling import resample
from segjax.training.malloc import keep_freed_memory
from segjax.training.sharding import Devices

CLASSES = 21
OBJECTS = 8
Work = tuple[Callable[..., Any], tuple[Any, ...]]


def pixelwise(model: Any, batch: int, side: int) -> Work:
    """Loss and gradients of a network that labels pixels, and its arguments."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(batch, side, side, 3)), jnp.float32)
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


@functools.cache
def unet() -> Work:
    features = (32, 64, 128, 256, 512)
    return pixelwise(models.UNet(CLASSES, features=features, padding="SAME"), 1, 256)


@functools.cache
def deeplab_v3() -> Work:
    backbone = ResNet(50, output_stride=8)
    return pixelwise(models.DeepLabV3(CLASSES, backbone), 2, 257)


@functools.cache
def deeplab_v3plus() -> Work:
    return pixelwise(models.DeepLabV3Plus(CLASSES, Xception(output_stride=16)), 1, 257)


@functools.cache
def mask_rcnn() -> Work:
    model = models.MaskRCNN(CLASSES, ResNet(50, norm=Norm(frozen=True)))
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


@functools.cache
def crf() -> Work:
    rng = np.random.default_rng(0)
    blocks = lambda array: array.repeat(15, 0).repeat(15, 1)[:375, :500]
    coarse = blocks(rng.integers(0, 255, (25, 34, 3)))
    image = jnp.asarray(
        (coarse + rng.normal(0, 4, coarse.shape)).clip(0, 255), "float32"
    )
    logits = jnp.asarray(blocks(rng.normal(size=(25, 34, CLASSES))), jnp.float32)
    widths = {"sigma_alpha": 80.0, "sigma_beta": 13.0}
    step = functools.partial(
        dense_crf,
        **widths,
        sigma_gamma=3.0,
        w1=4.0,
        w2=3.0,
        num_iterations=5,
        method="lattice",
        capacity=crf_capacity(image, **widths),
    )
    return step, (image, logits)


NETWORKS = {
    network.__name__: network
    for network in (unet, deeplab_v3, deeplab_v3plus, mask_rcnn, crf)
}


def stock_kernel_gradient(x: Any, cotangent: Any, kernel: Any, options: Any) -> Any:
    """XLA's own."""
    apply = functools.partial(stock_conv, x, options=options)
    return jax.vjp(apply, kernel)[1](cotangent)[0]


def never(*_: Any, **__: Any) -> bool:
    return False


class Form(NamedTuple):
    """A form, a network that needs it, and what is put in the place of what."""

    name: str
    network: str
    instead: tuple[tuple[Any, str, Any], ...] = ()


STOCK = (convolution, "kernel_gradient", stock_kernel_gradient)
WINOGRAD = (convolution, "is_worth_it", never)
POINTWISE = (convolution, "is_pointwise", never)
FORMS = (
    Form("kernel_gradient", "unet", (STOCK,)),
    Form("kernel_gradient", "deeplab_v3", (STOCK,)),
    Form("at_once", "unet", ((kernel_gradients, "_WHOLE", 0),)),
    Form("winograd", "unet", (WINOGRAD,)),
    Form("winograd", "deeplab_v3", (WINOGRAD,)),
    Form("pointwise", "deeplab_v3", (POINTWISE,)),
    Form("pointwise", "deeplab_v3plus", (POINTWISE,)),
    Form("depthwise", "deeplab_v3plus", ((convolution, "is_depthwise", never), STOCK)),
    Form("skip_padding", "deeplab_v3", ((convolution, "is_sparse", never),)),
    Form(
        "unseen_taps",
        "deeplab_v3",
        ((convolve, "drop_unseen_taps", lambda x, kernel, options: (kernel, options)),),
    ),
    Form("blocks", "unet", ((transposed, "is_blockwise", never),)),
    Form("2x2_pooling", "unet", ((windowed, "_is_plain_2x2", never),)),
    Form("resampling", "deeplab_v3", ((resize, "resample", resample.fun),)),
    Form("valid_slots", "mask_rcnn", ((valid_slots, "is_fast_on_cpu", never),)),
    Form("materialization", "crf", ((materialization, "is_fast_on_cpu", never),)),
    Form("paired_blurs", "crf", ((lattice, "PAIRED_CHANNELS", ()),)),
    Form("splat_in_parts", "crf", ((lattice, "SPLAT_VALUES", 1 << 40),)),
    *(Form("all", network) for network in NETWORKS),
)


@contextlib.contextmanager
def without(form: Form) -> Iterator[None]:
    """Traces without a form, or, where it names none, without all."""
    with contextlib.ExitStack() as stack:
        if not form.instead:
            stack.enter_context(forms("plain"))
        for module, attribute, instead in form.instead:
            stack.enter_context(mock.patch.object(module, attribute, instead))
        yield


def traced(work: Work) -> Any:
    """A step, traced anew, whatever was traced inside of it with another form."""
    step, arguments = work
    jax.clear_caches()
    return jax.jit(step).trace(*arguments)


@functools.cache
def own_program(network: str) -> str:
    """The program of a network's step, as users run it."""
    return str(traced(NETWORKS[network]()).jaxpr)


def is_taken(form: Form) -> bool:
    """Whether the form's network has another program without it."""
    own = own_program(form.network)
    with without(form):
        return str(traced(NETWORKS[form.network]()).jaxpr) != own


def compiled(work: Work) -> Callable[[], Any]:
    """Makes a function that runs a step and waits for it."""
    options = Devices.of_this_process().compiler_options
    program = traced(work).lower().compile(compiler_options=options)
    return lambda: jax.block_until_ready(program(*work[1]))


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
    fast = compiled(work)
    with without(form):
        plain = compiled(work)
    difference = largest_difference(fast(), plain())
    times = []
    for pair in range(pairs):
        first, second = (plain, fast) if pair % 2 else (fast, plain)
        both = seconds(first), seconds(second)
        times.append(both[::-1] if pair % 2 else both)
    by_the_clock, ratios = (
        [other[kind] / own[kind] for own, other in times] for kind in (0, 1)
    )
    return {
        "form": form.name,
        "network": form.network,
        "seconds": statistics.median(own[0] for own, _ in times),
        "seconds_without": statistics.median(other[0] for _, other in times),
        "cpu_seconds": statistics.median(own[1] for own, _ in times),
        "cpu_seconds_without": statistics.median(other[1] for _, other in times),
        "gain": statistics.median(ratios),
        "gain_range": [min(ratios), max(ratios)],
        "gain_by_the_clock": statistics.median(by_the_clock),
        "difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = sorted({form.name for form in FORMS})
    parser.add_argument("--forms", nargs="+", choices=names, default=names)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("These forms are those of CPUs: set JAX_PLATFORMS=cpu.")
    keep_freed_memory()  # As the command line does.
    found, rows = environment("cpu"), []
    for form in FORMS:
        if form.name not in arguments.forms:
            continue
        row = compare(form, arguments.pairs)
        low, high = row["gain_range"]
        print(
            f"{form.name}, {form.network}: {row['cpu_seconds']:.3g} s of processor, "
            f"without {row['cpu_seconds_without']:.3g} s, gain {row['gain']:.2f} "
            f"({low:.2f} to {high:.2f}), by the clock {row['gain_by_the_clock']:.2f}, "
            f"difference {row['difference']:.1e}",
            flush=True,
        )
        rows.append(row)
    save("forms", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
