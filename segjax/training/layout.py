"""The group `config.sharding`: what of a run lies where on a grid of devices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.training.leaves import path_name
from segjax.types import is_count

KEY = "sharding"
WHERE = f"config.{KEY}"

Split = int | None
"""The axis of an array that is divided among devices; None where each has the whole."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The optional group `sharding` of a config: a grid of devices with three axes.

    A batch is divided along `data` and `model`. Along `model` large parameters are divided, too,
    and with them what the optimizer and a moving average keep of them, so that a device holds
    its part alone (Rajbhandari et al. 2019, "ZeRO", arXiv 1910.02054, stage 3; Zhao et al. 2023,
    "PyTorch FSDP", arXiv 2304.11277). Along `rows` one image is divided.

    Attributes:
      data: devices along `data`; None for as many as the other axes leave.
      model: devices along `model`.
      rows: devices that share an image, some of its rows each.
      min_size: numbers that an array has at least to be divided along `model`.
      params: patterns (`fnmatch`) of the parameters that are divided, such as "bottom/*"; `*`
        stands for anything, slashes too.
      gather: whether parameters are gathered where a network takes them, so that examples stay
        where they are. Otherwise the compiler chooses what travels, parameters or maps, by
        their sizes.
      pass_size: numbers that a kernel has at least for its parts to pass from device to device
        instead of being gathered (`segjax.training.ring`); those of fully connected layers have.

    Example:
      >>> Layout(model=4).shape(8), Layout(rows=8).shape(8)
      ((2, 4, 1), (1, 1, 8))
    """

    data: int | None = None
    model: int = 1
    rows: int = 1
    min_size: int = 2**16
    params: tuple[str, ...] = ("*",)
    gather: bool = True
    pass_size: int = 2**24

    def __post_init__(self) -> None:
        """Checks the kinds of the values."""
        if self.data is not None and not is_count(self.data):
            raise ValueError(
                f"data is {self.data!r}: it is a number of devices, or None"
            )
        for name in ("model", "rows"):
            if not is_count(value := getattr(self, name)):
                raise ValueError(f"{name} is {value!r}: it is a number of devices")
        for name in ("min_size", "pass_size"):
            if not is_count(value := getattr(self, name)):
                raise ValueError(f"{name} is {value!r}: it is a number from 1 on")
        if not isinstance(self.gather, bool):
            raise ValueError(f"gather is {self.gather!r}: it is True or False")
        are_texts = isinstance(self.params, tuple) and all(
            isinstance(x, str) for x in self.params
        )
        if not are_texts:
            raise ValueError(
                f'params is {self.params!r}: it is a tuple, such as ("*",)'
            )

    def shape(self, count: int, in_process: int | None = None) -> tuple[int, int, int]:
        """The devices along `data`, `model` and `rows`.

        Args:
          count: devices of all processes.
          in_process: devices of one process; None for all.

        Returns:
          Three numbers, whose product is `count`.

        Raises:
          UserError: if the grid has not as many, or an image would lie in two processes.
        """
        others = self.model * self.rows
        data = max(count // others, 1) if self.data is None else self.data
        if data * others != count:
            raise UserError(
                f"{WHERE} wants {data} x {self.model} x {self.rows} devices (data, model, "
                f"rows), and there are {count}: let the product of the three be {count}."
            )
        if (in_process or count) % self.rows:
            raise UserError(
                f"{WHERE}.rows is {self.rows}, and each process has {in_process} devices: an "
                "image lies in one process, so use a divisor of that."
            )
        return data, self.model, self.rows

    def split(self, shape: tuple[int, ...], parts: int) -> Split:
        """Along which axis an array is divided among some devices: the longest that is even.

        Example:
          >>> Layout(min_size=8).split((3, 3, 64, 128), 8), Layout(min_size=8).split((9, 5), 8)
          (3, None)
        """
        if parts == 1 or math.prod(shape) < self.min_size:
            return None
        even = [i for i, side in enumerate(shape) if side % parts == 0]
        return max(even, key=lambda i: (shape[i], i), default=None)


@dataclasses.dataclass(frozen=True)
class Spread:
    """How a prediction is spread over the devices of a process.

    Attributes:
      tiles_per_device: tiles at a time, or whole images, for each device; None for one, and of
        networks that find objects for `config.evaluation.batch_size` on all devices.
      devices_per_image: devices that share the rows of each of them.
    """

    tiles_per_device: int | None = None
    devices_per_image: int = 1

    def layout(self, count: int) -> Layout:
        """The grid of the devices of a process.

        Raises:
          UserError: if as many cannot share each image.
        """
        if count % self.devices_per_image:
            raise UserError(
                f"--devices_per_image={self.devices_per_image} does not divide the {count} devices "
                "of this process: use a divisor of that."
            )
        return Layout(rows=self.devices_per_image)


ONE_EACH = Spread()
"""A tile for each device."""


def layout_of(config: ml_collections.ConfigDict) -> Layout:
    """The group `sharding` of a config; without it, all devices are along `data`.

    Raises:
      UserError: if a key or a value is wrong.
    """
    return config_lib.call(Layout, config.get(KEY) or {}, WHERE)


def check_rows(layout: Layout, task: Any) -> None:
    """Checks that the images of a task can be divided along `rows`.

    Args:
      layout: the grid.
      task: the experiment.

    Raises:
      UserError: if it finds objects, or rows are left over.
    """
    if layout.rows == 1:
        return
    if "labels" not in task.capabilities:
        raise UserError(
            f"{WHERE}.rows is {layout.rows}, which divides images whose pixels are labelled; this "
            f"network {task.answers}: use 1, and {WHERE}.model for large networks."
        )
    height = task.input_size[0]
    if height % layout.rows:
        raise UserError(
            f"{WHERE}.rows is {layout.rows}, which does not divide the {height} rows of a training "
            "image: use a divisor of that, or another config.pipeline.input_size."
        )


def splitting(layout: Layout, params: Any, parts: int) -> Callable[[Any, Any], Split]:
    """Makes what says along which axis an array of a state is divided.

    What an optimizer or a moving average keeps of a parameter has its name and its shape, and
    lies where the parameter does. Other arrays, such as factored moments, go by their size.

    Args:
      layout: which parameters, from which size on.
      params: of the network; shapes are enough.
      parts: among how many devices.

    Returns:
      A function of the path of `jax.tree_util` and the array, or its shape.

    Raises:
      UserError: if a pattern matches no parameter.
    """
    wanted = _by_name(layout, params, parts)

    def split(path: Any, x: Any) -> Split:
        name, shape = path_name(path), tuple(x.shape)
        while name:
            if (name, shape) in wanted:
                return wanted[name, shape]
            _, _, name = name.partition("/")
        return layout.split(shape, parts)

    return split


def _by_name(
    layout: Layout, params: Any, parts: int
) -> Mapping[tuple[str, tuple[int, ...]], Split]:
    """The axis of each parameter, by its name and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {path_name(path): tuple(x.shape) for path, x in leaves}
    for pattern in layout.params if parts > 1 else ():
        if not any(fnmatchcase(name, pattern) for name in named):
            raise UserError(
                f"{WHERE}.params has the pattern {pattern!r}, which matches no parameter: "
                f"the network has, for example, {next(iter(named), 'none')!r}."
            )
    is_divided = lambda name: any(fnmatchcase(name, x) for x in layout.params)
    return {
        (name, shape): layout.split(shape, parts) if is_divided(name) else None
        for name, shape in named.items()
    }
