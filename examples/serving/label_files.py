"""Labels image files by a program: one PNG for each, whose values are the ids of the classes.

    python label_files.py cells.stablehlo.zip images/*.png --output=labels

A file that cannot be labelled is named with the reason, the others are labelled, and the exit
code is 1 then. No file is replaced.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import images
import loader


def label_files(
    program: loader.Program, paths: Sequence[Path], output: Path
) -> dict[Path, str]:
    """Labels files, one after the other.

    Args:
      program: what answers.
      paths: images.
      output: the folder of the results, `STEM.png`.

    Returns:
      The files without a result, and why.

    Raises:
      ValueError: two results would have one name, or one is there already.
    """
    targets = [output / f"{path.stem}.png" for path in paths]
    for i, (path, target) in enumerate(zip(paths, targets, strict=True)):
        if target.exists() or target in targets[:i]:
            raise ValueError(
                f"{target}, for the labels of {path}, is taken: give another --output."
            )
    output.mkdir(parents=True, exist_ok=True)
    failed = {}
    for path, target in zip(paths, targets, strict=True):
        try:
            labels = program(images.read_image(path, program))
        except (images.ImageError, loader.ProgramError) as error:
            failed[path] = str(error)
            continue
        unfinished = target.with_suffix(".unfinished")
        unfinished.write_bytes(images.labels_as_png(labels, program))
        os.replace(unfinished, target)  # there as a whole or not at all
    return failed


def main() -> None:
    """Labels the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--batch_size", type=int, default=1, help="tiles at a time")
    given = parser.parse_args()
    try:
        program = loader.load(given.program, batch_size=given.batch_size)
        failed = label_files(program, given.images, given.output)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    for path, why in failed.items():
        print(f"{path}: {why}", file=sys.stderr)
    print(
        f"{len(given.images) - len(failed)} of {len(given.images)} files are labelled"
    )
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
