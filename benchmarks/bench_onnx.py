"""Shows what ONNX costs: bytes, milliseconds, and labels that change, for each precision.

    python benchmarks/bench_onnx.py --run=nuclei --images 'NUCLEI/images/*.png'

Each image is cut to a size that the network takes. Labels of segjax are those of `predict` for
the same part. Times are medians over the images, onnxruntime and segjax with as many threads as
each takes by itself; where other programs run, they mean little. The first image, with which
programs are compiled, is not counted.
"""

from __future__ import annotations

import argparse
import glob
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from segjax.data.files.channels import with_channels
from segjax.data.files.images import read_pages
from segjax.export.onnx.precision import PRECISIONS
from segjax.geometry.input_sizes import Geometry
from segjax.runs.exports.onnx import export_onnx
from segjax.runs.load import load_trained


def milliseconds(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    answer = call()
    return answer, 1e3 * (time.perf_counter() - began)


def part(image: np.ndarray, stride: int, remainder: int) -> np.ndarray:
    """The upper left of an image, of a size that the network takes."""
    height, width = (n - (n - remainder) % stride for n in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def labels_of(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    (labels,) = session.run(["labels"], {"image": image[None]})
    return labels[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default="nuclei", help="a run, a model file or a name")
    parser.add_argument("--images", required=True, help="a pattern of image files")
    parser.add_argument("--count", type=int, default=20, help="of the images")
    parser.add_argument("--size", type=int, nargs=2, help="of networks of one size")
    arguments = parser.parse_args()
    trained = load_trained(arguments.run)
    paths = sorted(glob.glob(arguments.images))[: arguments.count + 1]
    size = tuple(arguments.size) if arguments.size else None
    pages = [with_channels(next(read_pages(p)), trained.channels) for p in paths]
    network = trained.task.pixel_network(trained.variables, trained.channels, None)
    geometry: Geometry = network.geometry
    images = [
        image[: size[0], : size[1]]
        if size
        else part(image, geometry.stride, geometry.offset or 0)
        for image in pages
        if image is not None
    ]
    answers = [milliseconds(partial(trained.labels, image)) for image in images]
    own = statistics.median(time for _, time in answers[1:])
    print(f"{len(images) - 1} images; segjax: {own:.0f} ms an image")
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder) / f"{precision}.onnx"
            export_onnx(arguments.run, path, image_size=size, precision=precision)
            onnx.checker.check_model(path)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(path, options)
            found = [milliseconds(partial(labels_of, session, x)) for x in images]
            same = [
                np.mean(one == other)
                for (one, _), (other, _) in zip(found, answers, strict=True)
            ]
            times = [time for _, time in found[1:]]
            print(
                f"{precision:8} {path.stat().st_size / 1e6:7.2f} MB  "
                f"{statistics.median(times):7.0f} ms an image  "
                f"equal labels {100 * np.mean(same):.4f} %, at least {100 * min(same):.4f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
