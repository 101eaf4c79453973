"""Devices, meshes, hosts: the one file that knows how many there are."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.errors import UserError
from segjax.ops.base.forms import lowering_for
from segjax.training.gathering import divided_parameters
from segjax.training.layout import Layout, splitting
from segjax.training.leaves import put_whole
from segjax.training.ring import Ring
from segjax.types import Array

ALONG_DATA = Layout()
"""The layout of a run that names none."""

_EXAMPLES = ("data", "model")
"""The axes of the mesh along which a batch is divided."""


class Devices:
    """All devices of the run in one mesh, along the axes `data`, `model` and `rows`.

    Attributes:
      layout: what is divided along each axis.
      mesh: the mesh.
      replicated: the sharding of what every device holds whole.
      batch: the sharding of what is divided along its first axis: examples.
    """

    def __init__(
        self, devices: list[jax.Device] | None = None, layout: Layout = ALONG_DATA
    ):
        """Arranges them.

        Args:
          devices: which; None for those of all processes.
          layout: of the run; without it, all are along `data`.

        Raises:
          UserError: if they cannot be arranged so.
        """
        chosen = jax.devices() if devices is None else devices
        processes = len({device.process_index for device in chosen})
        shape = layout.shape(len(chosen), len(chosen) // processes)
        self.layout = layout
        self.mesh = Mesh(np.asarray(chosen).reshape(shape), ("data", "model", "rows"))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.batch = NamedSharding(self.mesh, PartitionSpec(_EXAMPLES))

    @classmethod
    def of_this_process(cls, layout: Layout = ALONG_DATA) -> Devices:
        """The devices of this process alone, for work that processes do not share."""
        return cls(jax.local_devices(), layout)

    @property
    def count(self) -> int:
        """Devices in the mesh."""
        return self.mesh.size

    @property
    def parts(self) -> int:
        """Into how many parts a batch is divided."""
        return self.count // self.rows

    @property
    def rows(self) -> int:
        """How many devices share an image."""
        return self.mesh.shape["rows"]

    @property
    def kind(self) -> str:
        """The name of the devices' kind."""
        return str(self.mesh.devices.flat[0].device_kind)

    @property
    def described(self) -> str:
        """How many there are of which kind, and their arrangement where it is not the usual."""
        axes = ", ".join(
            f"{n} along {name}" for name, n in self.mesh.shape.items() if n > 1
        )
        arranged = f" ({axes})" if self.count != self.mesh.shape["data"] else ""
        return f"{self.count} x {self.kind}{arranged}"

    @property
    def platform(self) -> str:
        """What programs are lowered for: "cpu", "tpu", or "gpu"."""
        return str(self.mesh.devices.flat[0].platform)

    @contextlib.contextmanager
    def lowering(self) -> Iterator[None]:
        """The context in which programs for these devices are traced."""
        divides = self.layout.gather and self.mesh.shape["model"] > 1
        with (
            lowering_for(self.platform, self.parts, self.rows),
            divided_parameters(Ring(self.mesh, self.layout) if divides else None),
        ):
            yield

    @property
    def compiler_options(self) -> dict[str, str | bool]:
        """Options of XLA for the compilation of a training step.

        On CPUs LLVM's first level instead of its third: the step of `make demo` is
        there 5 s earlier (17 s after the command instead of 22), and runs as fast within
        the noise, as its time goes into convolutions and products that are compiled
        already.
        """
        on_cpu = self.platform == "cpu"
        return {"xla_backend_optimization_level": "1"} if on_cpu else {}

    def check_batch_size(self, batch_size: int, key: str = "config.batch_size") -> None:
        """Checks that every device gets the same number of examples.

        Args:
          batch_size: of a step, over all devices.
          key: the place of the number, for the message.

        Raises:
          UserError: naming the two nearest batch sizes.
        """
        parts = self.parts
        if batch_size % parts:
            below = max(batch_size // parts, 1) * parts
            above = (batch_size // parts + 1) * parts
            nearest = f"{below} or {above}" if below != above else f"{above}"
            each = f", {self.rows} to an image," if self.rows > 1 else ""
            raise UserError(
                f"{key} is {batch_size}, which {self.count} devices{each} cannot "
                f"share evenly: use {nearest}."
            )

    def of_state(self, state: Any) -> Any:
        """Where each array of a state lies.

        Args:
          state: of `segjax.training.state`; shapes are enough.

        Returns:
          A tree like it, of shardings.

        Raises:
          UserError: if a pattern of the layout matches no parameter.
        """
        split = splitting(self.layout, state.params, self.mesh.shape["model"])

        def place(path: Any, x: Any) -> NamedSharding:
            axis = split(path, x)
            if axis is None:
                return self.replicated
            return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "model"))

        return jax.tree_util.tree_map_with_path(place, state)

    def divided(self, state: Any) -> list[tuple[int, ...]]:
        """The shapes of those arrays of a state that no device holds whole.

        Args:
          state: see `of_state`.

        Returns:
          A shape for each.
        """
        pairs = zip(
            jax.tree.leaves(state), jax.tree.leaves(self.of_state(state)), strict=True
        )
        return [tuple(x.shape) for x, place in pairs if place != self.replicated]

    def of_batch(self, batch: Mapping[str, Any]) -> dict[str, NamedSharding]:
        """Where each array of a batch lies: examples apart and, of maps, their rows.

        Args:
          batch: `[B, ...]` by name; shapes are enough. Rows that cannot be divided evenly, as
            of labels smaller than their images, are not.

        Returns:
          Shardings by name.
        """
        apart = NamedSharding(self.mesh, PartitionSpec(_EXAMPLES, "rows"))
        is_map = lambda x: len(x.shape) >= 3 and x.shape[1] % self.rows == 0
        divided = lambda x: self.rows > 1 and is_map(x)
        return {name: apart if divided(x) else self.batch for name, x in batch.items()}

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
        """Hands this process's part of a batch to its devices."""
        places = self.of_batch(batch)
        return {
            name: jax.make_array_from_process_local_data(places[name], value)
            for name, value in batch.items()
        }

    def put_replicated_here(self, tree: Any) -> Any:
        """Hands every device of a mesh of this process alone the whole of a tree."""
        return jax.device_put(tree, self.replicated)

    def put_state(self, state: Any) -> Any:
        """Hands every device its part of a state of host arrays, which all processes have."""
        return jax.tree.map(put_whole, state, self.of_state(state))

    def by_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Divides the rows of images among devices, evenly or not; traceable.

        Args:
          function: of variables and images `[B, H, W, C]`.

        Returns:
          The same function for programs of these devices; where an image has one, as it is.
        """

        if self.rows == 1:
            return function

        def divided(variables: Any, image: Array) -> Any:
            rows = NamedSharding(self.mesh, PartitionSpec(_EXAMPLES, "rows"))
            with self.lowering():
                return function(
                    variables, jax.lax.with_sharding_constraint(image, rows)
                )

        return divided


def use_cpu() -> None:
    """Leaves accelerators to other processes; to be called before anything is computed."""
    jax.config.update("jax_platforms", "cpu")


def cpu_devices(count: int) -> list[jax.Device]:
    """Some CPU devices; as many as are asked for, where nobody has said how many there are.

    Raises:
      UserError: if there are fewer.
    """
    settings: Any = jax.config
    if settings.jax_num_cpu_devices < 0:
        with contextlib.suppress(RuntimeError):  # they are there already
            settings.update("jax_num_cpu_devices", count)
    found = jax.devices("cpu")
    if len(found) < count:
        raise UserError(
            f"There are {len(found)} CPU devices here, and {count} are asked for: start the "
            f"process with JAX_NUM_CPU_DEVICES={count}."
        )
    return found[:count]


def local_device_count() -> int:
    """How many devices this process has."""
    return jax.local_device_count()


def device_count() -> int:
    """How many devices all processes have."""
    return jax.device_count()


def process_index() -> int:
    """Which of the processes this one is."""
    return jax.process_index()


def process_count() -> int:
    """How many processes work on the run."""
    return jax.process_count()


def gather(rows: np.ndarray) -> np.ndarray:
    """Concatenates the rows `[n, ...]` that each process has; n may differ.

    The bytes travel, as JAX would round float64 and int64 on the way.
    """
    if jax.process_count() == 1:
        return rows
    from jax.experimental import multihost_utils

    counts = multihost_utils.process_allgather(np.asarray(len(rows), np.int32))
    width = int(np.prod(rows.shape[1:])) * rows.dtype.itemsize
    mine = np.zeros((int(np.max(counts)), width), np.uint8)
    mine[: len(rows)] = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, width)
    everyone = multihost_utils.process_allgather(mine)
    kept = np.concatenate([x[:n] for x, n in zip(everyone, counts, strict=True)])
    return np.ascontiguousarray(kept).view(rows.dtype).reshape(-1, *rows.shape[1:])


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """Ends the work of all processes when it has failed in one, instead of waiting.

    The work itself must not wait for other processes.

    Raises:
      UserError: in each process; where the work itself failed, its own error.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # whatever it is, the others must not wait for ever
        failure = error
    agree(failure)


def agree(failure: Exception | None) -> None:
    """Raises in every process if one of them has failed.

    Args:
      failure: of this process.
    """
    if jax.process_count() > 1:
        message = "" if failure is None else f"Process {process_index()}: {failure}"
        sentences = gather_texts(message)
        if failure is None and any(sentences):
            raise UserError(next(filter(None, sentences)))
    if failure is not None:
        raise failure


def in_all_processes(value: bool) -> bool:
    """Whether a condition holds in every process."""
    return bool(gather(np.asarray([value], np.uint8)).all())


def check_same(what: str, value: str) -> None:
    """Checks that all processes have the same text.

    Raises:
      UserError: in every process, naming one that differs from process 0.
    """
    if jax.process_count() > 1:
        hashes = gather_texts(hashlib.sha256(value.encode()).hexdigest())
        for i, found in enumerate(hashes):
            if found != hashes[0]:
                raise UserError(
                    f"Process {i} has another {what} than process 0: start all "
                    "processes with the same flags and the same files."
                )


def gather_texts(text: str, size: int = 1000) -> list[str]:
    """The text of each process, in the order of processes, cut to `size` bytes."""
    row = np.zeros((1, size), np.uint8)
    content = text.encode()[:size]
    row[0, : len(content)] = np.frombuffer(content, np.uint8)
    rows = gather(row)
    return [bytes(x).rstrip(b"\0").decode(errors="ignore") for x in rows]


def any_process_wants_to_stop(step: int) -> bool:
    """Whether a process was asked to stop (SIGTERM), in the same step for all of them."""
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)
