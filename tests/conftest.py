"""What every test shares: fake devices, strict ranks, a compilation cache, real data."""

from __future__ import annotations

import logging
import os
import runpy
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Before jax is imported: tests are about numbers, and numbers are compared on the CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most programs of tests run once, so they are compiled quickly, not well, and in one piece
# each: what is split among threads costs a third more where other workers have the cores.
# Where the variable is set, be it to nothing, programs are compiled as users' are. An
# unknown flag ends the process: the last two are given to the versions that have them.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * (tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 12)),
)
# As the command line does it: a run has many programs of some tenths of a second, and
# the next run has the same. A variable, so that processes of their own do so, too.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FAKE_DEVICES = 4

CACHE = ROOT / ".pytest_cache" / "jax"

jax.config.update("jax_num_cpu_devices", FAKE_DEVICES)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the cases slow that `quick` leaves out, before slow ones are deselected."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("quick") and not item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for group in cases.values():
        (count,) = group[0].get_closest_marker("quick").args
        kept = {round(i * (len(group) - 1) / max(count - 1, 1)) for i in range(count)}
        for place, item in enumerate(group):
            if place not in kept:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder


@pytest.fixture(scope="session")
def torchvision() -> types.ModuleType:
    """The reference of the `parity` tests: torchvision, or a skipped test."""
    reference = runpy.run_path(str(ROOT / "tests" / "torchvision_reference.py"))
    return reference["torchvision"]()


@pytest.fixture(scope="session")
def write_zarr() -> Callable[..., Path]:
    """The function that writes an OME-Zarr image, see `tests/ome_zarr_files.py`."""
    return runpy.run_path(str(ROOT / "tests" / "ome_zarr_files.py"))["write_zarr"]


@pytest.fixture(scope="session")
def float16() -> jnp.dtype:
    """Half precision, or a skipped test where XLA's CPU backend cannot compile it.

    On processors without F16C it calls for a function that jaxlib does not bring along.
    """
    try:
        jax.jit(lambda x: x.astype(jnp.float32))(jnp.zeros((), jnp.float16))
    except jax.errors.JaxRuntimeError as error:
        if "Failed to materialize symbols" not in str(error):
            raise
        pytest.skip("XLA cannot convert float16 on this processor")
    return jnp.dtype(jnp.float16)


@pytest.fixture(params=["bfloat16", "float16"])
def half(request: pytest.FixtureRequest) -> jnp.dtype:
    """Both dtypes of 16 bits, one after the other."""
    if request.param == "float16":
        return request.getfixturevalue("float16")
    return jnp.dtype(jnp.bfloat16)


@pytest.fixture
def smoke() -> ml_collections.ConfigDict:
    """The experiment that takes seconds; each test may change its own."""
    from segjax import config

    return config.load(str(ROOT / "configs" / "unet_em.py:smoke"))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for prepared data sets, the same for all tests: they are rendered once."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def patience() -> float:
    """Seconds after which a process hangs: many times what it takes on one busy core."""
    return 1800.0


@pytest.fixture(scope="session")
def start_segjax() -> Callable[..., subprocess.Popen[str]]:
    """Starts the command line in a process of its own, with `devices` fake devices."""

    def start(*arguments: str, devices: int = 1) -> subprocess.Popen[str]:
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": str(CACHE),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "segjax.main", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def run_segjax(
    start_segjax: Callable[..., subprocess.Popen[str]], patience: float
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own, to its end."""

    def run(*arguments: str, devices: int = 1) -> subprocess.CompletedProcess[str]:
        process = start_segjax(*arguments, devices=devices)
        stdout, stderr = process.communicate(timeout=patience)
        return subprocess.CompletedProcess(
            arguments, process.returncode, stdout, stderr
        )

    return run


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """The function that makes the folder of a run that was never trained.

    It has two checkpoints, of which the first is the best. Parameters are normal numbers,
    and nothing is compiled, so it is there at once.
    """

    def write(
        workdir: Path, config: ml_collections.ConfigDict, **about: object
    ) -> Path:
        from segjax.tasks.table import make_task
        from segjax.training.about import LEARNED, about_run
        from segjax.training.checkpoints.checkpoint import Checkpoints
        from segjax.training.run_files.workdir import write_config

        workdir.mkdir()
        write_config(workdir, config)
        task = make_task(config)
        if cache_dir := about.pop("cache_dir", None):
            dataset = task.open_dataset(cache_dir, None)
            about = about_run(task.config, dataset) | {LEARNED: task.learn(dataset)}
        rng = np.random.default_rng(0)
        normal = lambda x: rng.normal(size=x.shape).astype(x.dtype)
        positive = lambda x: 1 + abs(normal(x))
        zeros = lambda x: np.zeros(x.shape, x.dtype)
        abstract = jax.eval_shape(lambda: task.init_state(about["channels"]))
        with Checkpoints(workdir, "mean_iou") as checkpoints:
            for step, mean_iou in ((1, 0.75), (2, 0.5)):
                state = abstract.replace(
                    step=np.int32(step),
                    params=jax.tree.map(normal, abstract.params),
                    batch_stats=jax.tree.map(positive, abstract.batch_stats),
                    opt_state=jax.tree.map(zeros, abstract.opt_state),
                )
                checkpoints.save(state, about, {"mean_iou": mean_iou})
            checkpoints.wait()
        return workdir

    return write


@pytest.fixture
def run_with_a_log(tmp_path: Path) -> Callable[[int], Path]:
    """Makes the folder of a run that has just begun, with a log of so many bytes."""

    def make(size: int) -> Path:
        from segjax import config

        workdir = tmp_path / "run"
        (workdir / "checkpoints").mkdir(parents=True)
        begun = config.load(str(ROOT / "configs" / "unet_em.py:smoke"))
        (workdir / "config.json").write_text(config.to_json(begun))
        row = '{"step": 0, "split": "before", "value": 0.5}\n'
        (workdir / "metrics.jsonl").write_text(row * (size // len(row)))
        return workdir

    return make


@pytest.fixture(scope="session")
def run_benchmark() -> Callable[..., None]:
    """Runs a program of `benchmarks/` in a process of its own; it must end well."""

    def run(name: str, *arguments: str) -> None:
        ended = subprocess.run(
            [sys.executable, f"benchmarks/{name}", *arguments],
            cwd=ROOT,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(CACHE)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    return run


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """The message that the user gets at the end."""
        return self.stderr.strip().splitlines()[-1]


@pytest.fixture
def main(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Calls the command line within this process, as often as one likes."""
    from absl import flags
    from absl import logging as absl_logging

    from segjax import main as main_module

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    root, logger = logging.getLogger(), logging.getLogger("segjax")
    before = logger.handlers[:], logger.propagate, logger.level
    verbosity, root_level = absl_logging.get_verbosity(), root.level

    def call(*arguments: str) -> Ended:
        for name in flags.FLAGS:  # those of absl: a verb has its own anew
            flags.FLAGS[name].unparse()
        flags.FLAGS.unparse_flags()
        monkeypatch.setattr(sys, "argv", ["segjax", *arguments])
        capfd.readouterr()
        handler = signal.getsignal(signal.SIGINT)
        try:
            with pytest.raises(SystemExit) as ended:
                main_module.run()
        finally:  # Ctrl-C means nothing any more to a process that ends
            signal.signal(signal.SIGINT, handler)
        return Ended(ended.value.code or 0, *capfd.readouterr())

    yield call
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
    absl_logging.set_verbosity(verbosity)  # which sets the level of the root, too
    root.setLevel(root_level)
