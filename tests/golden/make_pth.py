"""Writes pth_zip.pth, pth_older.pth and pth.npz: one state dict in PyTorch's two forms.

Run by hand, with the reference of requirements-parity.txt installed:

    python tests/golden/make_pth.py

pth.npz holds the same arrays, but for bfloat16, which it holds as int16.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent


def state_dict():
    """Tensors of all kinds: their types, views of one storage, strides, no values."""
    torch.manual_seed(0)
    shared, image = torch.randn(4, 6), torch.randn(1, 2, 3, 4)
    state = OrderedDict(
        conv=torch.randn(2, 3, 2, 1),
        shared=shared,
        part=shared[1:3, 2:5],
        turned=shared.t(),
        every_second=shared[:, ::2],
        scalar=shared[1, 1],
        channels_last=image.contiguous(memory_format=torch.channels_last),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
        num_batches_tracked=torch.tensor(7),
        bool=torch.tensor([True, False]),
    )
    for name in [
        "float64",
        "float16",
        "bfloat16",
        "int32",
        "int16",
        "int8",
        "uint8",
        "complex64",
    ]:
        state[name] = torch.arange(3).to(getattr(torch, name))
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


def arrays(state):
    """The same as NumPy's, bfloat16 as int16."""
    plain = {name: x.detach() for name, x in state.items()}
    plain["bfloat16"] = plain["bfloat16"].view(torch.int16)
    return {name: x.numpy() for name, x in plain.items()}


def main():
    state = state_dict()
    torch.save(state, HERE / "pth_zip.pth")
    torch.save(state, HERE / "pth_older.pth", _use_new_zipfile_serialization=False)
    np.savez_compressed(HERE / "pth.npz", **arrays(state))


if __name__ == "__main__":
    main()
