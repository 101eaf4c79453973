"""Tensors as a file of PyTorch describes them: views of storages, checked before they are read."""

from __future__ import annotations

import dataclasses
from typing import Any

MOST_DIMENSIONS = 32

STORAGES = {
    "torch.BFloat16Storage": "bfloat16",
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.ComplexFloatStorage": "complex64",
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.ShortStorage": "int16",
}
"""Names of storages, and NumPy's names of their values."""


class NotTensorsError(ValueError):
    """A pickle holds what is not made of tensors; the message names it."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers that lie elsewhere in the file, into which tensors look.

    Attributes:
      key: its name in the file.
      dtype: NumPy's name of the values.
      size: how many there are.
    """

    key: str
    dtype: str
    size: int


NOWHERE = Storage("", "uint8", 0)
"""The storage of a tensor that has not got one."""


class Tensor:
    """A view of a storage, found to lie in it.

    Attributes:
      storage: the numbers; `NOWHERE` before `look` was called.
      offset: the place of the first one.
      shape: the sizes of the axes.
      strides: the distances along them, in values.
    """

    def __init__(self) -> None:
        self.storage = NOWHERE
        self.offset = 0
        self.shape: tuple[int, ...] = ()
        self.strides: tuple[int, ...] = ()

    def look(self, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
        """Looks into a storage, once it is found to lie in it and over no place twice.

        Raises:
          NotTensorsError: if it is not a storage.
          ValueError: if it does not.
        """
        if not isinstance(storage, Storage):
            raise NotTensorsError(f"a tensor of {type(storage).__name__}")
        if not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise ValueError("a tensor has no shape or no strides")
        if len(shape) != len(strides) or len(shape) > MOST_DIMENSIONS:
            raise ValueError(
                f"a tensor has {len(shape)} sizes and {len(strides)} strides"
            )
        if any(type(x) is not int or x < 0 for x in (offset, *shape, *strides)):
            raise ValueError("a size, a stride or an offset is not a number from 0")
        axes = [x for x in zip(strides, shape, strict=True) if x[1] > 1]
        last = 0  # of the places that the faster axes reach
        for stride, size in sorted(axes) if 0 not in shape else ():
            if stride <= last:
                raise ValueError(
                    f"a tensor {list(shape)} with strides {list(strides)} has values in "
                    "the same place; save tensor.contiguous()"
                )
            last += stride * (size - 1)
        if 0 not in shape and offset + last >= storage.size:
            raise ValueError(
                f"a tensor {list(shape)} reaches beyond the {storage.size:,} values of "
                "its storage"
            )
        self.storage, self.offset = storage, offset
        self.shape, self.strides = shape, strides
        return self
