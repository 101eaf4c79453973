"""A process that has JAX, NumPy and the loader of programs, and no segjax."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from segjax.export import loader

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def ask(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., dict[str, np.ndarray]]]:
    """Asks the process without segjax for outputs of a program for an image."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(loader.__file__, folder)
    process = subprocess.Popen(
        [sys.executable, "-I", str(HERE / "bare_process.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def answers(
        program: Path, image: np.ndarray, outputs: Sequence[str] = ("labels", "logits")
    ) -> dict[str, np.ndarray]:
        np.save(folder / "image.npy", image)
        asked = {"program": str(program), "image": str(folder / "image.npy")}
        asked |= {"answers": str(folder / "answers.npz"), "batch_size": 2}
        line = json.dumps(asked | {"outputs": list(outputs)})
        print(line, file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"
        with np.load(folder / "answers.npz") as found:
            return dict(found)

    with process:
        yield answers
        process.stdin.close()
    assert process.returncode == 0
