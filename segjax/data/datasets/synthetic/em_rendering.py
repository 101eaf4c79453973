"""The look of a rendered EM section: membranes, organelles, stain, optics, noise.

Grey levels are those of the ISBI 2012 stack (4 nm pixels, sections of 50 nm; Arganda-
Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 9:142, 2015): cytoplasm about 150, membrane
about 60 before the noise. A membrane that the section cuts at a slant is wide and faint.
What must be distinguished from membrane by its surroundings: the outline and cristae of
mitochondria, vesicles, reticulum, microtubules, granules, folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segjax.data.datasets.synthetic.em_cells import CellPlane, Diagram
from segjax.data.datasets.synthetic.em_noise import (
    Plane,
    SmoothNoise,
    blur,
    bump,
    generator_of,
    uniform,
)
from segjax.data.datasets.synthetic.em_organelles import Mitochondria, render_rings
from segjax.data.datasets.synthetic.em_tracks import Tracks, sample_tracks

_PSF = (1.0, 0.62, 0.15)
_GRAIN = (1.0, 0.42, 0.05)


@dataclass(frozen=True)
class Section:
    """One rendered section.

    Attributes:
      image: Grey levels, uint8 `[H, W]`.
      label: 0 membrane, 1 inside of a cell, uint8 `[H, W]`.
      cells: The cell that each pixel belongs to, the same number in every section of
        the volume, and 0 on membrane, uint16 `[H, W]`.
    """

    image: np.ndarray
    label: np.ndarray
    cells: np.ndarray


def render_volume(
    seeds: tuple[int, ...], *, sections: int, height: int, width: int
) -> Iterator[Section]:
    """Renders serial EM sections, the same for the same arguments on every machine.

    Args:
      seeds: Numbers >= 0 that name the volume.
      sections: Number of sections.
      height: Height in pixels, a multiple of 8, at least 64.
      width: Width in pixels, a multiple of 8, at least 64.

    Yields:
      The sections, from the first to the last.

    Raises:
      ValueError: If a size is not allowed.

    Example:
      >>> first, second = render_volume((0, 0), sections=2, height=64, width=64)
      >>> first.image.shape, sorted(set(first.label.ravel().tolist()))
      ((64, 64), [0, 1])
    """
    if sections < 1:
        raise ValueError(f"sections is {sections}; it must be at least 1")
    for name, n in (("height", height), ("width", width)):
        if n % 8 or n < 64:
            raise ValueError(f"{name} is {n}; it must be a multiple of 8, at least 64")
    generator = generator_of(*seeds)
    tracks = sample_tracks(generator, sections, height, width)
    diagram = Diagram(generator, tracks, height, width)
    tissue = _Tissue(generator, tracks, (sections, height, width))
    for z in range(sections):
        plane = diagram.section(z)
        membrane = plane.distance < tissue.half_width(z, plane)
        label = np.logical_not(membrane).astype(np.uint8)
        image = _photograph(generator, tissue.reflect(generator, z, plane))
        yield Section(image, label, (plane.cell * label).astype(np.uint16))


class _Tissue:
    """The stained cells: the grey levels before the microscope.

    Args:
      generator: Where the randomness comes from; later sections render from it again.
      tracks: The seeds of the volume.
      shape: `(sections, H, W)`.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        tracks: Tracks,
        shape: tuple[int, int, int],
    ) -> None:
        cells = int(tracks.cell.max()) + 1

        def noise(spacing: float, depth: float) -> SmoothNoise:
            return SmoothNoise(generator, shape, spacing=spacing, depth=depth)

        grey = 157 + 10 * generator.standard_normal(cells, dtype=np.float32)
        self._grey = grey - np.float32(34) * (generator.random(cells) < 0.07)
        crowd = generator.random(cells, dtype=np.float32)
        self._crowd = np.maximum(crowd * crowd * crowd, np.float32(0.2))  # few are full
        self._thickness = noise(40, 4)
        self._contrast = noise(28, 2)
        self._cloud = noise(22, 1.5)
        self._reticulum = noise(11, 2)
        self._reticulum_zone = noise(45, 4)
        self._synapse = noise(24, 3)
        self._mitochondria = Mitochondria(generator, tracks, shape[0])

    def half_width(self, z: int, plane: CellPlane) -> Plane:
        """Half the width of the labelled membrane in pixels, `[H, W]`."""
        thick = 2.05 + 0.35 * self._thickness.section(z)
        slant = np.float32(0.22) * np.minimum(plane.shift, 14)
        return np.maximum(thick, 1.3) + slant

    def reflect(
        self, generator: np.random.Generator, z: int, plane: CellPlane
    ) -> Plane:
        """Renders section `z` as a perfect microscope would see it, grey levels."""
        inside = np.clip((plane.distance - 4) / 3, 0, 1)
        cloud = self._cloud.section(z)
        grain = blur(
            generator.standard_normal(plane.distance.shape, dtype=np.float32),
            (1.0, 0.8, 0.45, 0.15),
        )
        grey = self._grey[plane.cell] + 8 * cloud + 44 * grain
        dark = self._reticulum_lines(z) * inside
        dark += render_rings(generator, plane, self._crowd[plane.cell], inside)
        grey -= 85 * np.minimum(dark, np.float32(1.1))
        grey = self._mitochondria.render(grey, z, plane, cloud)
        grey -= 70 * self._synapses(z, plane)
        return grey + self._membranes(z, plane) * (34 - grey)

    def _membranes(self, z: int, plane: CellPlane) -> Plane:
        """Opacity of the membranes in [0, 1]."""
        slant = np.minimum(plane.shift, 14)
        core = 2.5 + 0.4 * self._thickness.section(z) + 0.4 * slant
        opacity = 1.04 - 0.08 * slant + 0.16 * self._contrast.section(z)
        gaps = np.clip(1.6 + self._contrast.section(z), 0.4, 1)
        return bump(plane.distance / core) * np.clip(opacity * gaps, 0.33, 1)

    def _reticulum_lines(self, z: int) -> Plane:
        """Darkness of the endoplasmic reticulum: level lines of a smooth field."""
        zone = np.clip(2 * self._reticulum_zone.section(z) - 1.6, 0, 1)
        return zone * bump(self._reticulum.section(z) / 0.32)

    def _synapses(self, z: int, plane: CellPlane) -> Plane:
        """Darkness of the densities along some membranes, wider than these."""
        zone = np.clip(1.4 * self._synapse.section(z) - 1.7, 0, 1)
        return zone * bump(plane.distance / 13)


def _photograph(generator: np.random.Generator, grey: Plane) -> np.ndarray:
    """Folds, dirt, point spread, uneven light, shot noise; uint8 `[H, W]`."""
    height, width = grey.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    grey = _artefacts(generator, grey, y, x)
    grey = blur(grey, _PSF)
    light = SmoothNoise(generator, (1, height, width), spacing=110, depth=1).section(0)
    tilt = uniform(generator, -7, 7, 2)
    gain, offset = uniform(generator, 0.92, 1.16, 1), uniform(generator, -9, 9, 1)
    grey = (grey - 128) * gain + 128 + offset + tilt[0] * y + tilt[1] * x + 6 * light
    # Shot noise grows with the root of the signal; its grain is that of the scanner.
    strength = uniform(generator, 3.3, 5.2, 1)
    noise = blur(generator.standard_normal(grey.shape, dtype=np.float32), _GRAIN)
    grey = grey + strength * np.sqrt(np.maximum(grey, 20)) * noise
    return np.clip(np.floor(grey + np.float32(0.5)), 0, 255).astype(np.uint8)


def _artefacts(
    generator: np.random.Generator, grey: Plane, y: Plane, x: Plane
) -> Plane:
    """A fold in one section of eight, specks of stain, a knife mark now and then."""
    chance = generator.random(3)
    shape = (1, *grey.shape)
    turn = uniform(generator, -1, 1, 2)
    bend = SmoothNoise(generator, shape, spacing=90, depth=1).section(0)
    line = y * turn[0] + x * turn[1] + np.float32(0.07) * bend
    start = uniform(generator, -0.5, 0.5, 2)
    if chance[0] < 0.12:
        grey = grey - 75 * bump((line - start[0]) / uniform(generator, 0.03, 0.07, 1))
    if chance[1] < 0.15:
        grey = grey + 22 * bump((line - start[1]) / np.float32(0.02))
    if chance[2] < 0.3:
        stain = SmoothNoise(generator, shape, spacing=9, depth=1).section(0)
        grey = grey - 60 * np.clip(1.5 * stain - 4.2, 0, 1)
    return grey
