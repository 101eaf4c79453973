"""The files that the pages of an input give: labels, probabilities, overlays, objects."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from segjax import viz
from segjax.data.label_spec import LabelSpec
from segjax.output.folder import Outputs
from segjax.predict.inputs import Source
from segjax.predict.writers import finish, page_file
from segjax.tasks.semantic.object_files import (
    OUTLINES,
    ObjectFiles,
    OpenTable,
    number_file,
)
from segjax.tasks.semantic.page_results import PageResult, WriteResult


@contextlib.contextmanager
def result_files(
    outputs: Outputs,
    names: Mapping[str, str],
    source: Source,
    label_spec: LabelSpec,
    object_files: ObjectFiles | None = None,
    open_table: OpenTable | None = None,
) -> Iterator[WriteResult]:
    """Writes all files of an input, page by page.

    Args:
      outputs: where they belong.
      names: of the files, by kind: "labels", "probabilities", "overlay", "instances" or a key
        of `OUTLINES`.
      source: the input.
      label_spec: names and colours of the classes.
      object_files: makes the files of objects, where these are wanted.
      open_table: opens the table of objects, which has those of the input when all of its
        files are whole.

    Yields:
      The function that adds a page to each.
    """
    with contextlib.ExitStack() as files:
        # What is opened first is closed last, when all others are whole.
        writers = [files.enter_context(open_table())] if open_table else []
        files.enter_context(_finished(outputs, names, source))
        for kind, name in names.items():
            if kind in OUTLINES and object_files is not None:
                file = object_files.outlines(outputs, name, kind, source)
            elif kind == "instances":
                file = number_file(outputs, name, source)
            else:
                file = _FILES[kind](outputs, name, source, label_spec)
            writers.append(files.enter_context(file))

        def write(page: PageResult) -> None:
            for add in writers:
                add(page)

        yield write


@contextlib.contextmanager
def _finished(
    outputs: Outputs, names: Mapping[str, str], source: Source
) -> Iterator[None]:
    """Writes what several files have in common once they are closed."""
    yield
    finish(outputs, names.values(), source)


@contextlib.contextmanager
def _labels(
    outputs: Outputs, name: str, source: Source, spec: LabelSpec
) -> Iterator[WriteResult]:
    """Writes class ids, whose palette are the colours of the classes."""
    colors, names = spec.value_colors, spec.value_names
    with page_file(
        outputs, name, source, np.uint8, colors=colors, class_names=names
    ) as write:
        yield lambda page: write(page.outputs["labels"])


@contextlib.contextmanager
def _probabilities(
    outputs: Outputs, name: str, source: Source, spec: LabelSpec
) -> Iterator[WriteResult]:
    """Writes a page for each class of each page."""
    with page_file(
        outputs,
        name,
        source,
        np.float32,
        values_per_pixel=len(spec.names),
        class_names=spec.names,
        are_channels=True,
    ) as write:

        def write_classes(page: PageResult) -> None:
            values = page.outputs["probabilities"]
            for k, class_name in enumerate(spec.names):
                of_class = np.ascontiguousarray(values[..., k])
                write(of_class, f"{page.number}: {class_name}")

        yield write_classes


@contextlib.contextmanager
def _overlay(
    outputs: Outputs, name: str, source: Source, spec: LabelSpec
) -> Iterator[WriteResult]:
    """Writes the image below its objects, where these are found, or else its classes."""
    with page_file(outputs, name, source, np.uint8, values_per_pixel=3) as write:

        def write_overlay(page: PageResult) -> None:
            assert page.image is not None
            if page.objects is not None:
                write(viz.overlay_instances(page.image, page.objects.numbers))
                return
            write(viz.overlay(page.image, page.outputs["labels"], spec.value_colors))

        yield write_overlay


_FILES = {"labels": _labels, "probabilities": _probabilities, "overlay": _overlay}
