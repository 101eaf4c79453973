"""A run in Weights & Biases."""

from __future__ import annotations

import io
import math
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from segjax.errors import UserError
from segjax.output.files import whole_file
from segjax.text_files import read_bytes

if TYPE_CHECKING:
    from segjax.training.hooks.hook import RunStart

RUN_ID = "wandb_run_id"
"""The file in a run's folder by which a resumed run goes on in the same run of W&B."""


class WeightsAndBiases:
    """A hook that keeps numbers, config and pictures in Weights & Biases.

    Where they go is said by wandb's own variables: `WANDB_MODE=offline` writes files into the
    run's folder, for `wandb sync`.
    """

    def __init__(
        self,
        project: str = "segjax",
        run_name: str | None = None,
        group: str | None = None,
        entity: str | None = None,
        tags: tuple[str, ...] = (),
        pictures: bool = True,
    ):
        """Imports wandb.

        Args:
          project: of W&B.
          run_name: there; None for the name of the run's folder.
          group: of runs, such as the seeds of one experiment.
          entity: user or team; None for the default of the account.
          tags: for the run.
          pictures: whether pictures of each evaluation are kept, too.

        Raises:
          UserError: if the package is missing.
        """
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                f'The hook "wandb" needs the package wandb, which cannot be imported ({error}): '
                "pip install wandb, or take it out of config.hooks."
            ) from error
        self._wandb, self._pictures = wandb, pictures
        self._arguments: dict[str, Any] = {
            "project": project,
            "name": run_name,
            "group": group,
            "entity": entity,
            "tags": list(tags),
        }

    def on_start(self, run: RunStart) -> None:
        """Begins a run of W&B, or goes on with that of the folder."""
        path = run.workdir / RUN_ID
        if not path.exists():
            with whole_file(path) as file:
                file.write(secrets.token_hex(4).encode())
        name = self._arguments["name"] or run.workdir.resolve().name
        self._run = self._wandb.init(
            **{**self._arguments, "name": name},
            id=read_bytes(path).decode().strip(),
            resume="allow",
            dir=str(run.workdir),
            config=dict(run.config),
        )
        self._run.define_metric("*", step_metric="step")

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps the numbers of the training steps."""
        self._add(step, "train", metrics)

    def on_evaluate(
        self,
        step: int,
        split: str,
        metrics: Mapping[str, float],
        pictures: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Keeps what was measured, and pictures."""
        images = pictures() if self._pictures else {}
        self._add(
            step,
            split,
            metrics,
            {
                f"pictures/{Path(name).stem}": self._wandb.Image(
                    Image.open(io.BytesIO(content))
                )
                for name, content in images.items()
            },
        )

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Does nothing: checkpoints stay where they are."""

    def on_end(self, result: Any) -> None:
        """Ends the run of W&B, as failed where an error ended it."""
        self._run.finish(exit_code=1 if result is None else 0)

    def _add(
        self,
        step: int,
        split: str,
        metrics: Mapping[str, float],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a row. W&B refuses steps that come again, so the step is one of its numbers."""
        named = {f"{split}/{k}": v for k, v in metrics.items() if math.isfinite(v)}
        self._run.log({"step": step, **named, **(more or {})})
