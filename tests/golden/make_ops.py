"""Writes ops.npz: what PyTorch makes of small maps, by pooling and by resizing.

Run by hand, with the reference of requirements-parity.txt installed:

    python tests/golden/make_ops.py

Keys are "<operator> <options as JSON> <what>"; maps are `[B, H, W, C]`.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

POOLS = [
    {"window": window, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    for (window, stride, padding), ceil_mode in itertools.product(
        [
            (2, None, 0),
            (2, 2, 1),
            (3, 2, 0),
            (3, 2, 1),
            (3, 1, 1),
            (2, 3, 0),
            ([3, 2], [1, 2], [1, 0]),
            ([1, 4], [2, 3], [0, 2]),
            (5, 5, 2),
        ],
        [False, True],
    )
]
BINS = [1, 2, 3, [6, 4], [9, 11], [13, 5]]
SIZES = [[9, 11], [18, 22], [17, 21], [4, 7], [1, 1], [5, 30], [3, 3], [40, 2]]


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def to_numpy(x):
    return np.ascontiguousarray(np.moveaxis(x.detach().numpy(), 1, -1))


def pairs(options):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def with_gradient(key, function, x, arrays):
    """Stores the result, a cotangent, and the gradient that belongs to it."""
    x = to_torch(x).requires_grad_()
    y = function(x)
    cotangent = torch.from_numpy(
        np.random.default_rng(1).integers(-4, 5, y.shape).astype(np.float32)
    )
    y.backward(cotangent)
    arrays[f"{key} value"] = to_numpy(y)
    arrays[f"{key} cotangent"] = to_numpy(cotangent).astype(np.int8)
    arrays[f"{key} gradient"] = to_numpy(x.grad)


def pooling(x, arrays):
    for options in POOLS:
        torch_options = pairs(options)
        torch_options["kernel_size"] = torch_options.pop("window")
        key = f"max_pool {json.dumps(options, separators=(',', ':'))}"
        with_gradient(
            key, lambda x, o=torch_options: functional.max_pool2d(x, **o), x, arrays
        )
        _, indices = functional.max_pool2d(
            to_torch(x), return_indices=True, **torch_options
        )
        arrays[f"{key} indices"] = to_numpy(indices).astype(np.uint8)
        for counted in (True, False):
            both = {**options, "count_include_pad": counted}
            with_gradient(
                f"avg_pool {json.dumps(both, separators=(',', ':'))}",
                lambda x, o=torch_options, c=counted: functional.avg_pool2d(
                    x, count_include_pad=c, **o
                ),
                x,
                arrays,
            )
    for size in BINS:
        options = json.dumps({"size": size}, separators=(",", ":"))
        for name in ("avg", "max"):
            function = getattr(functional, f"adaptive_{name}_pool2d")
            with_gradient(
                f"adaptive_{name}_pool {options}",
                lambda x, f=function, s=size: f(x, s),
                x,
                arrays,
            )


def resizing(x, arrays):
    for size in SIZES:
        options = json.dumps({"size": size}, separators=(",", ":"))
        with_gradient(
            f"resize_nearest {options}",
            lambda x, s=size: functional.interpolate(x, s, mode="nearest"),
            x,
            arrays,
        )
        for corners in (False, True):
            options = {"size": size, "align_corners": corners}
            with_gradient(
                f"resize_bilinear {json.dumps(options, separators=(',', ':'))}",
                lambda x, s=size, c=corners: functional.interpolate(
                    x, s, mode="bilinear", align_corners=c
                ),
                x,
                arrays,
            )


def main():
    rng = np.random.default_rng(0)
    # Few values, so that most windows hold ties.
    x = rng.integers(-2, 3, (2, 9, 11, 2)).astype(np.float32)
    arrays = {"input": x}
    pooling(x, arrays)
    resizing(x, arrays)
    np.savez_compressed(Path(__file__).with_name("ops.npz"), **arrays)


if __name__ == "__main__":
    main()
