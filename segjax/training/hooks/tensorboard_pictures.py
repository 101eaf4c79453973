"""Pictures of each evaluation, for TensorBoard."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from segjax.training.hooks.hook import RunStart


class TensorBoardPictures:
    """A hook that adds the pictures of each evaluation to `tensorboard/` of the run."""

    def on_start(self, run: RunStart) -> None:
        """Opens a file beside that of the numbers."""
        from tensorboardX.event_file_writer import EventsWriter

        folder = run.workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), ".pictures")

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Does nothing: the log is there already."""

    def on_evaluate(
        self,
        step: int,
        split: str,
        metrics: Mapping[str, float],
        pictures: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Adds the pictures."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for name, content in pictures().items():
            width, height = Image.open(io.BytesIO(content)).size
            image = Summary.Image(
                height=height,
                width=width,
                colorspace=3,
                encoded_image_string=content,
            )
            value = Summary.Value(tag=f"pictures/{Path(name).stem}", image=image)
            event = Event(step=step, summary=Summary(value=[value]))
            event.wall_time = time.time()
            self._events.write_event(event)
        self._events.flush()

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Does nothing."""

    def on_end(self, result: Any) -> None:
        """Closes the file."""
        self._events.close()
