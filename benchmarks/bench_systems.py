"""Times systems of segjax beside the same networks in PyTorch, on a CPU.

    python benchmarks/bench_systems.py                          # all of SYSTEMS
    python benchmarks/bench_systems.py --systems=segnet_basic

Both have the same weights, the same synthetic images and the same loss, which is compared in
evaluation before anything is timed. Training is a whole step: loss, gradients, batch
statistics, SGD with momentum. The two take turns (benchmarks/turns.py).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import commit_of, environment, save
from turns import beside, compare, in_words, serve

CLASSES = 21
Arrays = Mapping[str, np.ndarray]


class System(NamedTuple):
    """One network in both libraries.

    Attributes:
      torch: makes the module of PyTorch, with random weights.
      segjax: makes our module and its variables from the arrays of PyTorch's.
    """

    torch: Callable[[], Any]
    segjax: Callable[[Arrays], tuple[Any, Any]]


class Case(NamedTuple):
    """One row of the table."""

    system: str
    what: str
    batch: int = 2
    side: int = 256


def torch_segnet_basic() -> Any:
    from torch_systems import SegNetBasic

    return SegNetBasic(CLASSES)


def segjax_segnet_basic(arrays: Arrays) -> tuple[Any, Any]:
    from segjax.models import SegNetBasic

    names = {"running_mean": "mean", "running_var": "var"}
    variables: dict[str, dict[str, dict[str, np.ndarray]]] = {
        "params": {},
        "batch_stats": {},
    }
    for path, array in arrays.items():
        _, layer, kind = path.split(".")
        if kind == "num_batches_tracked":
            continue
        group = "batch_stats" if kind in names else "params"
        if array.ndim == 4:
            array, kind = array.transpose(2, 3, 1, 0), "kernel"
        elif kind == "weight":
            kind = "scale"
        leaves = variables[group].setdefault(layer, {})
        leaves[names.get(kind, kind)] = array
    return SegNetBasic(CLASSES), variables


def torch_deeplab_v3() -> Any:
    from torch_systems import First, torchvision

    make = torchvision().models.segmentation.deeplabv3_resnet50
    return First(make(weights=None, weights_backbone=None, num_classes=CLASSES))


def segjax_deeplab_v3(arrays: Arrays) -> tuple[Any, Any]:
    from segjax.pretrained import load

    state = {name.removeprefix("model."): array for name, array in arrays.items()}
    return load("torchvision/deeplabv3_resnet50", state)


def torch_pspnet() -> Any:
    from torch_systems import PSPNet

    return PSPNet(CLASSES)


def segjax_pspnet(arrays: Arrays) -> tuple[Any, Any]:
    from segjax.backbones.resnet import ResNet
    from segjax.models import PSPNet
    from segjax.pretrained import load

    prefix = "backbone."
    state = {
        k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)
    }
    _, backbone = load("torchvision/resnet50", state, output_stride=8)
    variables: dict[str, Any] = {
        group: {"backbone": tree} for group, tree in backbone.items()
    }
    names = {"running_mean": "mean", "running_var": "var", "weight": "scale"}
    for path, array in arrays.items():
        top, *modules, kind = path.split(".")
        if top != "head" or kind == "num_batches_tracked":
            continue
        if modules[0].startswith("bins"):
            modules = ["pyramid", *modules]
        node = variables["batch_stats" if kind.startswith("running") else "params"]
        for module in modules:
            node = node.setdefault(module, {})
        if array.ndim == 4:
            node["kernel"] = array.transpose(2, 3, 1, 0)
        else:
            node[names.get(kind, kind)] = array
    model = PSPNet(CLASSES, ResNet(50, output_stride=8), aux_stage=None)
    return model, variables


SYSTEMS = {
    "segnet_basic": System(torch_segnet_basic, segjax_segnet_basic),
    "deeplab_v3": System(torch_deeplab_v3, segjax_deeplab_v3),
    "pspnet": System(torch_pspnet, segjax_pspnet),
}


def random_batch(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (case.batch, case.side, case.side)
    image = rng.normal(size=(*shape, 3)).astype(np.float32)
    return image, rng.integers(0, CLASSES, shape).astype(np.int32)


def segjax_step(case: Case, weights: Path) -> tuple[Callable[[], Any], float]:
    """Returns what to time (it waits for its result), and the loss."""
    import jax
    import jax.numpy as jnp
    import optax

    from segjax.losses import cross_entropy

    model, variables = SYSTEMS[case.system].segjax(dict(np.load(weights)))
    variables = jax.tree.map(jnp.asarray, dict(variables))
    image, label = map(jnp.asarray, random_batch(case))
    optimizer = optax.sgd(1e-3, momentum=0.9)

    def predict(variables: Any, image: jax.Array) -> jax.Array:
        return model.apply(variables, image, train=False)["logits"]

    def loss_of(outputs: Any) -> jax.Array:
        weight = jnp.ones(label.shape)
        return cross_entropy(outputs, {"label": label, "weight": weight})

    def trained(params: Any, rest: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        outputs, changed = model.apply(
            {**rest, "params": params},
            image,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return loss_of(outputs), changed

    def train(state: Any, key: jax.Array) -> Any:
        params, rest, opt_state = state
        gradient = jax.grad(trained, has_aux=True)
        gradients, changed = gradient(params, rest, key)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), changed, opt_state

    loss = float(loss_of({"logits": jax.jit(predict)(variables, image)}))
    if case.what == "predict":
        forward = jax.jit(predict)
        return lambda: forward(variables, image).block_until_ready(), loss
    params = variables.pop("params")
    state = (params, variables, optimizer.init(params))
    step = jax.jit(train, donate_argnums=0)
    key = jax.random.key(0)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(step(state, key))

    return run, loss


def torch_step(case: Case, weights: Path) -> tuple[Callable[[], Any], float]:
    """Returns what to time (it waits for its result), and the loss."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = SYSTEMS[case.system].torch()
    state = {k: torch.from_numpy(v) for k, v in np.load(weights).items()}
    model.load_state_dict(state)
    model = model.to(memory_format=torch.channels_last).eval()
    images, labels = random_batch(case)
    image = torch.from_numpy(images.transpose(0, 3, 1, 2))
    image = image.contiguous(memory_format=torch.channels_last)
    label = torch.from_numpy(labels).long()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(image), label).backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode():
            model(image)

    with torch.no_grad():
        loss = float(functional.cross_entropy(model(image), label))
    if case.what == "predict":
        return predict, loss
    model.train()
    return train, loss


STEPS = {"segjax": segjax_step, "torch": torch_step}


def write_weights(system: str, path: Path) -> None:
    """PyTorch's own random weights, with biases and statistics that are not 0 and 1."""
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {}
    for name, tensor in SYSTEMS[system].torch().state_dict().items():
        array = tensor.numpy()
        if array.ndim == 1:
            array = array + 0.1 * np.abs(rng.normal(size=array.shape))
            array = array.astype(np.float32)
        arrays[name] = array
    np.savez(path, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=[*SYSTEMS])
    parser.add_argument("--what", nargs="+", default=["predict", "train"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--against", help="folder of another checkout: segjax beside it"
    )
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    for name in ("--worker", "--case", "--weights"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if arguments.worker:
        case = Case(*json.loads(arguments.case))
        step = STEPS[arguments.worker]
        return serve(lambda: step(case, Path(arguments.weights)))
    found = environment("cpu")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for system in arguments.systems:
            weights = Path(folder) / f"{system}.npz"
            write_weights(system, weights)
            for what in arguments.what:
                case = Case(system, what)
                options = [f"--case={json.dumps(case)}", f"--weights={weights}"]
                commands = {
                    name: [__file__, f"--worker={name}", *options] for name in STEPS
                }
                row = case._asdict() | compare(
                    beside(commands, arguments.against),
                    rounds=arguments.rounds,
                    steps=arguments.steps,
                    allowed=1e-4,
                )
                rows.append(row)
                print(f"{system} {what}: {in_words(row)}", flush=True)
    found["commit"] = commit_of(Path(__file__).parent)
    found["against"] = arguments.against and commit_of(arguments.against)
    save("systems", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
