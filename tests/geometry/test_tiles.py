import random

import numpy as np
import pytest

from segjax.geometry.tiles import (
    TILE_INPUT_SIDE,
    WHOLE_INPUT_SIDE,
    Geometry,
    default_tile,
    mirror_indices,
    plan,
    tile_input_side,
)

PAPER = Geometry(stride=16, margin=92, halo=0, minimum=188, offset=60)
GEOMETRIES = {
    "paper": PAPER,
    "padded": Geometry(stride=16, margin=0, halo=112, minimum=16, offset=0),
    "odd halo": Geometry(stride=4, margin=0, halo=13, minimum=4, offset=0),
    "sliding window": Geometry(stride=1, margin=3, halo=0, minimum=7, offset=0),
    "margin and halo": Geometry(stride=8, margin=5, halo=9, minimum=20, offset=3),
}


def test_legal_sides_of_the_paper_are_16_k_plus_60():
    assert [n for n in range(300) if PAPER.accepted(n)] == list(range(188, 300, 16))
    assert PAPER.output_side(572) == 388
    assert PAPER.next_accepted(573) == 588
    assert PAPER.next_accepted(1) == 188


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_nearest_legal_sides_are_those_of_a_search(geometry):
    accepted = [n for n in range(400) if geometry.accepted(n)]
    for side in range(1, 350):
        above = min(n for n in accepted if n >= side)
        below = max((n for n in accepted if n <= side), default=above)
        assert geometry.nearest_accepted(side) == (below, above)


def test_illegal_side_is_refused_with_the_two_nearest():
    with pytest.raises(ValueError, match=r"image H = 512 .*nearest: 508 and 524$"):
        PAPER.check_input_side(512, name="image H")
    with pytest.raises(ValueError, match=r"side = 100 .*at least 188.*nearest: 188$"):
        PAPER.output_side(100)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": 2, "halo": -1}, "halo must be >= 0, got -1"),
        ({"stride": 2, "margin": 4, "minimum": 8}, "minimum must exceed .* = 8"),
    ],
)
def test_impossible_geometry_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Geometry(**wrong)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_mirrored_indices_are_those_of_numpy_reflect(side):
    padded = np.pad(np.arange(side), (20, 30), mode="reflect")
    np.testing.assert_array_equal(mirror_indices(-20, side + 30, side), padded)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_every_pixel_is_covered_once_by_an_output_that_is_right(geometry):
    random.seed(7)
    tiled = 0
    for _ in range(300):
        side = random.choice([random.randint(1, 60), random.randint(1, 3000)])
        tile = random.choice([None, 0, 1, random.randint(1, 1500)])
        axis = plan(geometry, side, tile)
        covered = np.zeros(side, int)
        for window in axis.windows:
            assert window.stop - window.start == axis.tile_side
            assert window.start % geometry.stride == 0
            assert 0 <= window.start < window.stop <= axis.canvas_side
            left = geometry.halo if window.start > 0 else 0
            right = geometry.halo if window.stop < axis.canvas_side else 0
            output = geometry.output_side(axis.tile_side)
            assert left <= window.trusted.start < window.trusted.stop <= output - right
            assert window.target.start == window.start + window.trusted.start
            assert window.target.stop == window.start + window.trusted.stop
            covered[window.target] += 1
        assert (covered == 1).all()
        assert geometry.accepted(axis.canvas_side)
        tiled += len(axis.windows) > 1
    assert tiled > 50


def test_canvas_of_a_padded_network_is_never_larger_than_the_next_multiple():
    for side in range(1, 400):
        for tile in (None, 0, 64, 500):
            assert plan(GEOMETRIES["padded"], side, tile).canvas_side == -(
                -side // 16 * 16
            )


def test_tiles_of_the_paper_step_by_384_and_not_by_388():
    axis = plan(PAPER, 2000, tile=388)
    starts = [window.start for window in axis.windows]
    assert axis.tile_side == 572
    assert starts[:5] == [0, 384, 768, 1152, 1536]
    assert starts[-1] == axis.canvas_side - 572


def test_tile_is_rounded_up_to_what_is_possible():
    assert tile_input_side(PAPER, 388) == 572
    assert tile_input_side(PAPER, 389) == 588
    assert tile_input_side(PAPER, 1) == 204
    assert tile_input_side(GEOMETRIES["padded"], 1) == 240


def test_large_images_of_all_sizes_share_one_tile():
    sides = {plan(PAPER, side, tile=388).tile_side for side in range(388, 3000)}
    assert sides == {572}


def test_small_images_of_all_sizes_share_few_tiles():
    sides = {plan(PAPER, side, tile=388).tile_side for side in range(1, 389)}
    assert len(sides) <= 8
    assert max(sides) == 572


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_default_tile_bounds_the_memory_and_wastes_little(geometry):
    for side in (10, 512, 700, 1030, 1100, 2000, 4096, 30000):
        axis = plan(geometry, side)
        most = WHOLE_INPUT_SIDE if len(axis.windows) == 1 else TILE_INPUT_SIDE
        assert axis.tile_side <= most + geometry.stride
        assert len(axis.windows) * axis.tile_side <= 1.5 * side + 350
        assert axis == plan(geometry, side, default_tile(geometry, side))


def test_tile_zero_takes_the_image_whole():
    assert len(plan(PAPER, 5000, tile=0).windows) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, None), "image_side must be at least 1"), ((5, -1), "tile must be >= 0")],
)
def test_impossible_plan_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan(PAPER, *arguments)
