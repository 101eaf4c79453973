"""Writes conv.npz: PyTorch's convolutions and transposed convolutions, and gradients.

Run by hand, with the reference of requirements-parity.txt installed:

    python tests/golden/make_conv.py

Keys are "<operator> <options as JSON> <what>"; maps are `[B, H, W, C]`, kernels as in
`segjax.ops.convolution.convolve`. Integers in, so that sums are exact and the file is small.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

CONVS = [
    {},
    {"padding": 1},
    {"stride": 2, "padding": 1},
    {"stride": [2, 1], "padding": [0, 2]},
    {"dilation": 2, "padding": 2},
    {"dilation": [1, 3], "stride": 3, "padding": [1, 3]},
    {"groups": 2, "padding": 1},
    {"groups": 4, "stride": 2, "dilation": 2, "padding": 2},
]
TRANSPOSED = [
    {},
    {"padding": 1},
    {"stride": 2},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": 3, "output_padding": [2, 1]},
    {"stride": [2, 1], "padding": [0, 2], "dilation": [1, 2]},
    {"stride": 1, "dilation": 2, "output_padding": 1},
    {"stride": 2, "groups": 2, "padding": 1},
]
KERNELS = {(3, 3): 8, (2, 2): 4, (1, 1): 3, (4, 2): 2}
"""Windows, and how many of the options above each is tried with."""
CHANNELS, FEATURES = 4, 4


def run(operator, x, kernel, options, permutation, key, arrays):
    """Stores the arguments, the result, a cotangent, and both gradients."""
    rng = np.random.default_rng(1)
    x_torch, kernel_torch = (
        torch.from_numpy(np.ascontiguousarray(a, np.float32)).requires_grad_()
        for a in (x.transpose(0, 3, 1, 2), kernel.transpose(permutation))
    )
    y = operator(
        x_torch,
        kernel_torch,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()},
    )
    cotangent = torch.from_numpy(rng.integers(-3, 4, y.shape).astype(np.float32))
    y.backward(cotangent)
    back = np.argsort(permutation)
    for what, array in {
        "x": x,
        "kernel": kernel,
        "value": y.detach().numpy().transpose(0, 2, 3, 1),
        "cotangent": cotangent.numpy().transpose(0, 2, 3, 1),
        "gradient_x": x_torch.grad.numpy().transpose(0, 2, 3, 1),
        "gradient_kernel": kernel_torch.grad.numpy().transpose(back),
    }.items():
        arrays[f"{key} {what}"] = np.ascontiguousarray(array).astype(np.int16)
        assert np.array_equal(arrays[f"{key} {what}"], array), "not an integer"


def main():
    rng = np.random.default_rng(0)
    arrays = {}
    for window, count in KERNELS.items():
        for options in CONVS[:count]:
            groups = options.get("groups", 1)
            x = rng.integers(-3, 4, (2, 9, 10, CHANNELS))
            kernel = rng.integers(-3, 4, (*window, CHANNELS // groups, FEATURES))
            named = json.dumps({"window": window, **options}, separators=(",", ":"))
            key = f"conv {named}"
            run(functional.conv2d, x, kernel, options, (3, 2, 0, 1), key, arrays)
        for options in TRANSPOSED[:count]:
            groups = options.get("groups", 1)
            x = rng.integers(-3, 4, (2, 5, 6, CHANNELS))
            kernel = rng.integers(-3, 4, (*window, FEATURES // groups, CHANNELS))
            named = json.dumps({"window": window, **options}, separators=(",", ":"))
            key = f"conv_transpose {named}"
            operator = functional.conv_transpose2d
            run(operator, x, kernel, options, (3, 2, 0, 1), key, arrays)
    np.savez_compressed(Path(__file__).parent / "conv.npz", **arrays)


if __name__ == "__main__":
    main()
