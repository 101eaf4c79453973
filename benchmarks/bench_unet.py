"""Times a U-Net in segjax beside the same network in PyTorch.

    python benchmarks/bench_unet.py                 # CPU
    python benchmarks/bench_unet.py --device=gpu    # the paper's network, bfloat16

Both have the same weights, the same synthetic images and the same loss, which is compared
before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import commit_of, environment, save
from turns import beside, compare, in_words, serve

CLASSES = 2


class Case(NamedTuple):
    """One row of the table."""

    what: str
    batch: int
    features: tuple[int, ...]
    padding: str
    side: int
    dtype: str


LAPTOP = ((32, 64, 128, 256, 512), "SAME", 256, "float32")
PAPER = ((64, 128, 256, 512, 1024), "VALID", 572, "bfloat16")
CASES = {
    "cpu": [Case(w, b, *LAPTOP) for b in (1, 4) for w in ("train", "predict")],
    "gpu": [Case("train", 8, *PAPER), Case("predict", 16, *PAPER)],
}


def random_batch(case: Case, label_side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(case.batch, case.side, case.side, 1))
    label = rng.integers(0, CLASSES, (case.batch, label_side, label_side))
    return image.astype(np.float32), label.astype(np.int32)


def segjax_step(case: Case, weights: Path) -> tuple[Callable[[], Any], float]:
    """Returns what to time (it waits for its result), and the loss."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.traverse_util import unflatten_dict

    from segjax.losses import cross_entropy
    from segjax.models.unet import UNet

    model = UNet(
        num_classes=CLASSES,
        features=case.features,
        padding=case.padding,
        dropout_rate=0.0,
        dtype=jnp.dtype(case.dtype),
    )
    params = unflatten_dict(dict(np.load(weights)), sep="/")
    params = jax.tree.map(jnp.asarray, params)
    image, label = map(
        jnp.asarray, random_batch(case, case.side - 2 * model.geometry.margin)
    )
    optimizer = optax.sgd(1e-3, momentum=0.9)

    def logits_of(params: Any, image: jax.Array) -> jax.Array:
        return model.apply({"params": params}, image, train=False)["logits"]

    def loss_of(params: Any, image: jax.Array, label: jax.Array) -> jax.Array:
        logits = logits_of(params, image)
        weight = jnp.ones(label.shape)
        return cross_entropy({"logits": logits}, {"label": label, "weight": weight})

    def train(state: Any, image: jax.Array, label: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state = state
        loss, gradients = jax.value_and_grad(loss_of)(params, image, label)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    loss = float(jax.jit(loss_of)(params, image, label))
    if case.what == "predict":
        predict = jax.jit(logits_of)
        return lambda: predict(params, image).block_until_ready(), loss
    state = (params, optimizer.init(params))
    step = jax.jit(train, donate_argnums=0)

    def run() -> None:
        nonlocal state
        state, _ = step(state, image, label)
        jax.block_until_ready(state)

    return run, loss


def torch_step(case: Case, weights: Path) -> tuple[Callable[[], Any], float]:
    """Returns what to time (it waits for its result), and the loss."""
    import torch
    from torch.nn import functional
    from torch_unet import UNet

    gpu = case.dtype == "bfloat16"
    device = "cuda" if gpu else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("highest")
    model = UNet(CLASSES, case.features, 1 if case.padding == "SAME" else 0)
    model.load(np.load(weights))
    model = model.to(device, memory_format=torch.channels_last)
    image = torch.from_numpy(random_batch(case, 1)[0].transpose(0, 3, 1, 2))
    image = image.to(device).contiguous(memory_format=torch.channels_last)
    forward = torch.compile(model) if gpu else model
    mixed = torch.autocast(device, torch.bfloat16, enabled=gpu)
    with torch.inference_mode(), mixed:
        label_side = model(image[:1]).shape[-1]
    label = torch.from_numpy(random_batch(case, label_side)[1]).long().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def loss_of() -> torch.Tensor:
        with mixed:
            logits = forward(image)
        return functional.cross_entropy(logits.float(), label)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of().backward()
        optimizer.step()
        if gpu:
            torch.cuda.synchronize()

    def predict() -> None:
        with torch.inference_mode(), mixed:
            forward(image)
        if gpu:
            torch.cuda.synchronize()

    with torch.no_grad():
        loss = float(loss_of())
    return (train if case.what == "train" else predict), loss


STEPS = {"segjax": segjax_step, "torch": torch_step}


def compared(
    case: Case, weights: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Lets both take turns; a ratio below 1 says that segjax is faster."""
    shared = [f"--device={arguments.device}", f"--case={json.dumps(case)}"]
    commands = {
        library: [__file__, f"--worker={library}", *shared, f"--weights={weights}"]
        for library in STEPS
    }
    allowed = 3e-2 if case.dtype == "bfloat16" else 1e-4
    ratios = compare(
        beside(commands, arguments.against),
        rounds=arguments.rounds,
        steps=arguments.steps,
        allowed=allowed,
    )
    return {**case._asdict(), **ratios}


def write_weights(case: Case, path: Path) -> None:
    """He-normal kernels and small biases, by name; sampled without either library."""
    rng = np.random.default_rng(1)
    arrays = {}

    def add(name: str, shape: tuple[int, ...], fan_in: int) -> None:
        kernel = rng.normal(size=shape) * np.sqrt(2 / fan_in)
        arrays[f"{name}/kernel"] = kernel.astype(np.float32)

    def add_bias(name: str, size: int) -> None:
        arrays[f"{name}/bias"] = (rng.normal(size=size) * 0.01).astype(np.float32)

    def add_double(name: str, channels: int, width: int) -> None:
        for i, fan in enumerate((channels, width), 1):
            add(f"{name}/conv{i}", (3, 3, fan, width), 9 * fan)
            add_bias(f"{name}/conv{i}", width)

    below = 1
    for i, width in enumerate(case.features[:-1], 1):
        add_double(f"down{i}", below, width)
        below = width
    add_double("bottom", below, case.features[-1])
    below = case.features[-1]
    for i in range(len(case.features) - 1, 0, -1):
        width = case.features[i - 1]
        add(f"upsample{i}", (2, 2, width, below), below)
        add_bias(f"upsample{i}", width)
        add_double(f"up{i}", 2 * width, width)
        below = width
    add("logits", (1, 1, below, CLASSES), below)
    add_bias("logits", CLASSES)
    np.savez(path, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument(
        "--against", help="folder of another checkout: segjax beside it"
    )
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    for name in ("--worker", "--case", "--weights"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, batch, features, *rest = json.loads(arguments.case)
        case = Case(what, batch, tuple(features), *rest)
        step = STEPS[arguments.worker]
        return serve(lambda: step(case, Path(arguments.weights)))
    if arguments.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    found = environment(arguments.device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        for case in CASES[arguments.device]:
            write_weights(case, weights)
            row = compared(case, weights, arguments)
            rows.append(row)
            print(f"{case.what} batch {case.batch}: {in_words(row)}", flush=True)
    found["commit"] = commit_of(Path(__file__).parent)
    found["against"] = arguments.against and commit_of(arguments.against)
    save("unet", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
