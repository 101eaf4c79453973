"""Draws the pictures of README.md from the embedded data and a run trained on it.

    python docs/make_pictures.py --workdir=runs/demo

Writes `docs/unet_em.png`: a held-out section, its label, what the network says, and
where it is wrong. Every pixel was rendered by `segjax/data/datasets/synthetic/em_rendering.py`, so
there is no micrograph in the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from segjax.data.files.images import normalize
from segjax.runs.load import TrainedModel, load_trained
from segjax.training.task import require
from segjax.types import Record
from segjax.viz import comparison

DOCS = Path(__file__).resolve().parent
COLORS = 160
"""Colours of the palette: a comparison has greys and few colours, and stays small."""


def draw(workdir: Path, output: Path, cache_dir: str | None, section: int) -> Path:
    """Draws one section of the test split beside what a run makes of it.

    Args:
      workdir: folder of the run.
      output: folder for the picture.
      cache_dir: where prepared data sets lie; None for the default of TFDS.
      section: which section of the split, from 0.

    Returns:
      The file.
    """
    trained = load_trained(workdir)
    dataset = trained.task.open_dataset(cache_dir, data_root=None)
    record = trained.task.records(dataset, "test")[section]
    picture = _comparison(trained, record)
    path = output / "unet_em.png"
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _comparison(trained: TrainedModel, record: Record) -> Image.Image:
    task = require(trained.task, "labels", "The picture")
    image = normalize(record["image"], task.normalization)
    page = next(task.predictor(trained.variables).pages([image]))
    spec = trained.label_spec
    return comparison(
        record["image"],
        record["label"],
        page["labels"],
        spec.colors,
        spec.names,
    )


def main() -> None:
    """Reads the arguments and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="a trained run")
    parser.add_argument("--output", type=Path, default=DOCS, help="where to write")
    parser.add_argument("--cache_dir", help="where prepared data sets lie")
    parser.add_argument("--section", type=int, default=0, help="which test section")
    given = parser.parse_args()
    path = draw(given.workdir, given.output, given.cache_dir, given.section)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
