"""Times Mask R-CNN on ResNet-50 with a pyramid beside torchvision's, on a CPU.

    python benchmarks/bench_detectors.py

Full inference of one image of 512x512, from pixels to masks in the image, and a training
step of two images of 256x320 with eight objects each: losses, gradients, SGD with
momentum, at a rate so small that all steps have as many regions with objects. Weights,
images and objects are the same, norms are frozen in both, and the sums of all scores are
compared before anything is timed. The two take turns (benchmarks/turns.py). torchvision's
operators need a C compiler where PyTorch knows no CUDA (tests/torchvision_operators.py).
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import commit_of, environment, save
from turns import beside, compare, in_words, serve

CLASSES, OBJECTS, MASK_SIZE = 91, 8, 28
ALLOWED = 1e-3
"""Relative difference of the sums of scores."""
RATE = 1e-8
PRETRAINED = Path(__file__).resolve().parent.parent / "tests" / "pretrained"


class Case(NamedTuple):
    """One row."""

    what: str
    batch: int
    height: int
    width: int


CASES = (Case("predict", 1, 512, 512), Case("train", 2, 256, 320))
SMOKE = (Case("predict", 1, 64, 96), Case("train", 2, 64, 96))


def functions_of(name: str) -> dict[str, Any]:
    return runpy.run_path(str(PRETRAINED / f"{name}.py"))


def random_images(case: Case) -> np.ndarray:
    """`[B, H, W, 3]` in 0 to 1."""
    uniform, image = (
        functions_of("random_weights")["uniform"],
        functions_of("random_instances"),
    )
    one = image["image"](case.height, case.width, uniform)
    return np.concatenate([one[:, :, :: 1 - 2 * (i % 2)] for i in range(case.batch)])


def random_objects(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in whole pixels and classes; each object is an ellipse that fills its box."""
    rng = np.random.default_rng(0)
    image = np.array([case.height, case.width])
    side = rng.uniform(0.15, 0.5, (case.batch, OBJECTS, 2)) * image
    first = rng.uniform(0, 1, side.shape) * (image - side - 1)
    boxes = np.concatenate([first, first + side], -1).round().astype(np.float32)
    return boxes, rng.integers(1, CLASSES, (case.batch, OBJECTS)).astype(np.int32)


def ellipse(height: int, width: int) -> np.ndarray:
    y = (np.arange(height) + 0.5) / height * 2 - 1
    x = (np.arange(width) + 0.5) / width * 2 - 1
    return (y[:, None] ** 2 + x**2 < 1).astype(np.float32)


def segjax_run(case: Case, weights: Path) -> tuple[Callable[[], Any], float]:
    """Returns what to time (it waits for its result), and a number to compare."""
    import jax
    import jax.numpy as jnp
    import optax

    from segjax.losses.instance import mask_rcnn_loss
    from segjax.ops.regions.masks import paste_masks
    from segjax.pretrained import load

    source = "torchvision/maskrcnn_resnet50_fpn"
    # torchvision without its published weights has this epsilon.
    model, variables = load(
        source, dict(np.load(weights)), backbone={"norm": {"epsilon": 1e-5}}
    )
    variables = jax.tree.map(jnp.asarray, dict(variables))
    images = jnp.asarray(random_images(case))
    detect = jax.jit(lambda variables, x: model.apply(variables, x, train=False))

    def predict() -> float:
        found = jax.device_get(detect(variables, images))
        for masks, boxes, valid in zip(
            found["masks"], found["boxes"], found["valid"], strict=True
        ):
            paste_masks(masks[valid], boxes[valid], (case.height, case.width))
        return float(found["scores"][found["valid"]].sum())

    scores = predict()
    if case.what == "predict":
        return predict, scores
    boxes, classes = random_objects(case)
    mask = np.broadcast_to(
        ellipse(MASK_SIZE, MASK_SIZE), (case.batch, OBJECTS, MASK_SIZE, MASK_SIZE)
    )
    batch = {"boxes": boxes, "classes": classes, "masks": mask}
    batch["crowd"] = np.zeros(classes.shape, bool)
    batch = jax.tree.map(jnp.asarray, batch)
    optimizer = optax.sgd(RATE, momentum=0.9)

    def loss_of(params: Any, rest: Any, key: jax.Array) -> jax.Array:
        outputs = model.apply(
            {**rest, "params": params},
            images,
            train=True,
            targets=batch,
            rngs={"sampling": key},
        )
        return mask_rcnn_loss(outputs, batch)[0]

    def train(state: Any, rest: Any, key: jax.Array) -> Any:
        params, opt_state = state
        gradients = jax.grad(loss_of)(params, rest, key)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = variables.pop("params")
    state = (params, optimizer.init(params))
    step = jax.jit(train, donate_argnums=0)
    key = jax.random.key(0)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(step(state, variables, key))

    return run, scores


def torch_model(case: Case) -> Any:
    from torch_systems import torchvision

    library: Any = torchvision()
    if not library.extension._has_ops():
        raise SystemExit("torchvision's operators did not load: a C compiler is needed")
    detection = library.models.detection
    frozen = library.ops.misc.FrozenBatchNorm2d
    trunk = library.models.resnet50(weights=None, norm_layer=frozen)
    backbone = detection.backbone_utils._resnet_fpn_extractor(trunk, 5)
    sides = (case.height, case.width)
    return detection.MaskRCNN(
        backbone, num_classes=CLASSES, min_size=min(sides), max_size=max(sides)
    )


def torch_run(case: Case, weights: Path) -> tuple[Callable[[], Any], float]:
    """Returns what to time, and a number to compare."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = torch_model(case)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(weights).items()})
    model = model.to(memory_format=torch.channels_last).eval()
    images = [torch.from_numpy(x.transpose(2, 0, 1)) for x in random_images(case)]

    def predict() -> float:
        with torch.inference_mode():
            found = model(images)
            for one in found:
                (one["masks"] >= 0.5).numpy()
            return sum(float(one["scores"].sum()) for one in found)

    scores = predict()
    if case.what == "predict":
        return predict, scores
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    targets = []
    for boxes, classes in zip(*random_objects(case), strict=True):
        masks = np.zeros((OBJECTS, case.height, case.width), np.uint8)
        for mask, (y0, x0, y1, x1) in zip(masks, boxes.astype(int), strict=True):
            mask[y0:y1, x0:x1] = ellipse(y1 - y0, x1 - x0)
        targets.append(
            {
                "boxes": torch.from_numpy(boxes[:, [1, 0, 3, 2]]),
                "labels": torch.from_numpy(classes).long(),
                "masks": torch.from_numpy(masks),
            }
        )

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(model(images, targets).values()).backward()
        optimizer.step()

    return train, scores


RUNS = {"segjax": segjax_run, "torch": torch_run}


def write_weights(path: Path) -> None:
    state = torch_model(CASES[0]).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    arrays = functions_of("random_weights")["state_dict"](shapes)
    np.savez(path, **functions_of("random_instances")["calmed"](arrays))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="small images, two rounds")
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
        prepare = lambda: RUNS[arguments.worker](case, Path(arguments.weights))
        return serve(prepare)
    found = environment("cpu")
    rounds, steps = (2, 1) if arguments.smoke else (arguments.rounds, arguments.steps)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        write_weights(weights)
        for case in SMOKE if arguments.smoke else CASES:
            options = [f"--case={json.dumps(case)}", f"--weights={weights}"]
            commands = {name: [__file__, f"--worker={name}", *options] for name in RUNS}
            commands = beside(commands, arguments.against)
            row = compare(commands, rounds=rounds, steps=steps, allowed=ALLOWED)
            rows.append({**case._asdict(), **row})
            print(f"{tuple(case)}: {in_words(row)}", flush=True)
    found["commit"] = commit_of(Path(__file__).parent)
    found["against"] = arguments.against and commit_of(arguments.against)
    save("detectors", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
