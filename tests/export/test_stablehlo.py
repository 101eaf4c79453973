"""Programs: what they answer is what `predict` answers, and what is wrong is refused."""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.normalization import Intensities, Percentiles, normalize
from segjax.errors import UserError
from segjax.export import loader
from segjax.export.functions import PixelNetwork, image_function, tile_functions
from segjax.export.stablehlo import lower, lower_first, write_stablehlo
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.tiles import plan
from segjax.models.unet import UNet
from segjax.predict.heads import SOFTMAX
from segjax.predict.test_time import AveragedPredictor, TestTimeAugmentation
from segjax.predict.tiled import Predictor
from segjax.pretrained.archive import write_archive
from segjax.tasks.semantic.crf import CRF

TOLERANCE = 1e-5

LEARNED = Intensities(spread=(30.0,), low=(9.0,), high=(90.0,))


def brightness(variables: Any, image: jax.Array) -> jax.Array:
    """The smallest network: pixels against a threshold."""
    grey = image.mean(-1, keepdims=True)
    bias = variables["bias"]
    return jnp.concatenate([bias - grey, grey - bias, 0.1 * grey], -1)


def network(**changes: Any) -> PixelNetwork:
    usual: dict[str, Any] = {
        "apply": brightness,
        "variables": {"bias": np.float32(0.4)},
        "channels": 1,
        "geometry": Geometry(stride=1),
        "head": SOFTMAX,
        "normalization": "range",
        "passes": TestTimeAugmentation(),
    }
    return PixelNetwork(**usual | changes)


def written(
    path: Path,
    given: PixelNetwork,
    *,
    size: tuple[int, int] | None = None,
    tile: int | None = None,
    dtype: str = "uint8",
) -> Path:
    stored = np.dtype(dtype)
    functions = (
        [image_function(given, size, stored)]
        if size
        else tile_functions(given, tile, stored)
    )
    pixels, lowered = lower_first(functions, given.channels, stored)
    assert lowered.platforms == ("cpu", "cuda", "tpu")
    assert b".py" not in lowered.mlir_module_serialized  # no folder of this machine
    with path.open("wb") as file:
        write_stablehlo(
            file, pixels, lowered, {"classes": ["a", "b", "c"]}, "# A card\n"
        )
    return path


def picture(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(2.0, 20.0, shape)
    return values.clip(0, 255).astype(dtype)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_unet_answers_images_of_any_size_as_predict_does(
    padding: str, tmp_path: Path
) -> None:
    model = UNet(num_classes=3, features=(2, 4), padding=padding)
    side = model.geometry.next_accepted(40)
    shapes = jax.eval_shape(
        lambda: model.init(
            jax.random.key(0), jnp.zeros((1, side, side, 1)), train=False
        )
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.normal(0, 0.4, x.shape).astype(x.dtype), shapes
    )
    apply = lambda variables, x: model.apply(variables, x, train=False)["logits"]
    given = network(apply=apply, variables=variables, geometry=model.geometry)
    program = loader.load(written(tmp_path / "unet.zip", given, tile=16), batch_size=3)
    predictor = Predictor(jax.tree_util.Partial(apply, variables), model.geometry)
    for shape in ((61, 50), (9, 13)):
        image = picture(*shape, 1)
        assert padding == "VALID" or program.about["plan"]["any_size"]
        expected = predictor.logits(normalize(image, "range"))
        np.testing.assert_allclose(program(image, "logits"), expected, atol=TOLERANCE)
        np.testing.assert_array_equal(program(image[..., 0]), expected.argmax(-1))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("range", "uint16"),
        ("per_image", "float32"),
        (Percentiles(learned=LEARNED), "uint8"),
        (Percentiles(over="dataset", learned=LEARNED), "uint16"),
    ],
)
def test_images_are_normalized_as_they_are_for_training(
    method: Any, dtype: str, tmp_path: Path
) -> None:
    given = network(normalization=method, temperature=2.0)
    stack = np.stack([picture(30, 41, 1, dtype=dtype, seed=i) for i in range(3)])
    if dtype == "uint16":
        stack *= 100
    expected = np.stack([normalize(image, method) for image in stack])
    for name, size in (("tiles", None), ("image", (30, 41))):
        path = written(tmp_path / f"{name}.zip", given, size=size, tile=16, dtype=dtype)
        program = loader.load(path)
        for batch_size, images in ((1, stack[:1]), (3, stack)):
            program._batch_size = batch_size
            found = 20 * program(images, "logits")[..., 2]
            np.testing.assert_allclose(
                found, expected[: len(images), ..., 0], rtol=2e-5, atol=2e-6
            )


def test_the_channels_of_caffe_are_reversed(tmp_path: Path) -> None:
    given = network(
        apply=lambda variables, image: image + variables["bias"],
        channels=3,
        normalization="caffe_vgg",
    )
    image = picture(4, 5, 3)
    found = loader.load(written(tmp_path / "bgr.zip", given))(image, "logits")
    np.testing.assert_allclose(found - 0.4, normalize(image, "caffe_vgg"), atol=1e-4)


def test_a_whole_image_has_its_passes_its_crf_and_its_size_back(tmp_path: Path) -> None:
    passes = TestTimeAugmentation(scales=(1.0, 0.5), flip=True, crop=(8, 8))
    crf = CRF(w1=2.0, sigma_alpha=6.0, sigma_beta=20.0, num_iterations=2)
    given = network(
        geometry=Geometry(stride=2, halo=None), passes=passes, refine=crf.refine
    )
    image = picture(12, 15, 1)
    path = written(tmp_path / "whole.zip", given, size=(12, 15))
    averaged = AveragedPredictor(
        jax.tree_util.Partial(brightness, given.variables), given.geometry, passes
    )
    (page,) = averaged.pages([normalize(image, "range")], ("logits",))
    expected = np.asarray(crf.refine(image, page["logits"]))
    found = loader.load(path)(image, "logits")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_smaller_images_are_enlarged_again(tmp_path: Path) -> None:
    from segjax.predict.resampled import Resampling

    given = network(geometry=Geometry(stride=1, halo=None), downscale=2)
    image = picture(7, 10, 1)
    small = Resampling(2)(image)
    logits = brightness(given.variables, normalize(small, "range"))
    page = {"logits": np.asarray(logits)}
    expected = Resampling(2).answer(page, (7, 10), ("logits", "labels"))
    program = loader.load(written(tmp_path / "small.zip", given, size=(7, 10)))
    np.testing.assert_allclose(
        program(image, "logits"), expected["logits"], atol=TOLERANCE
    )
    np.testing.assert_array_equal(program(image), expected["labels"])


@pytest.mark.parametrize(
    ("geometry", "tile", "any_size"),
    [
        (Geometry(16, margin=92, minimum=188, offset=60), 388, False),
        (Geometry(16, halo=96, minimum=16), 100, True),
        (Geometry(8, halo=24, minimum=9, offset=1), 64, False),
        (Geometry(4, halo=6, offset=None), 32, True),
    ],
)
def test_the_loader_lays_tiles_as_predict_does(
    geometry: Geometry, tile: int, any_size: bool
) -> None:
    functions = tile_functions(network(geometry=geometry), tile, np.dtype(np.uint8))
    stated = next(
        x.about["plan"] for x in functions if x.about["plan"]["any_size"] == any_size
    )
    for side in (400, 477, 701, 1024):
        expected = plan(geometry, side, tile)
        found = loader.windows(stated, "height", side)
        assert found[0].target.start == 0
        assert found[-1].target.stop == side
        if geometry.offset is None:  # a tile may be some pixels larger there
            continue
        assert [(w.trusted, w.target) for w in found] == [
            (w.trusted, w.target) for w in expected.windows
        ]
        for one, other in zip(found, expected.windows, strict=True):
            np.testing.assert_array_equal(one.source, expected.source(other))


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of tiles of 16 pixels that see 4 of their neighbours."""
    given = network(geometry=Geometry(stride=4, halo=4, minimum=4))
    folder = tmp_path_factory.mktemp("program")
    pixels = tile_functions(given, 8, np.dtype(np.uint8))[-1]
    lowered = lower(pixels, 1, np.dtype(np.uint8))
    with (folder / "cells.zip").open("wb") as file:
        write_stablehlo(file, pixels, lowered, {}, "# A card\n")
    return folder / "cells.zip"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (picture(20, 20, 3), r"is \[20, 20, 3\], but this program takes \[H, W, 1\]"),
        (picture(20, 20, dtype="uint16"), "is uint16, but this program takes uint8"),
        (picture(20, 11), "The width of the image is 11, less than a tile"),
    ],
)
def test_images_that_a_program_does_not_take_are_refused(
    image: np.ndarray, message: str, program_file: Path
) -> None:
    with pytest.raises(loader.ProgramError, match=message):
        loader.load(program_file)(image)


def changed(path: Path, change: Callable[[dict[str, bytes]], Any], to: Path) -> Path:
    """A program with other members, whose digests fit."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    del members[loader.DIGESTS]
    change(members)
    with to.open("wb") as file:
        write_archive(file, members, dict.fromkeys(members, 1 << 30))
    return to


def test_a_program_of_another_jax_is_refused(
    program_file: Path, tmp_path: Path
) -> None:
    def age(members: dict[str, bytes]) -> None:
        about = json.loads(members[loader.ABOUT])
        about |= {"calling_convention": 1, "jax": "0.1.0"}
        members[loader.ABOUT] = json.dumps(about).encode()

    old = changed(program_file, age, tmp_path / "old.zip")
    with pytest.raises(loader.ProgramError, match=r"written by JAX 0\.1\.0, whose"):
        loader.load(old)


def test_a_program_that_was_changed_is_refused(
    program_file: Path, tmp_path: Path
) -> None:
    raw = program_file.read_bytes()
    place = raw.index(np.float32(0.4).tobytes())
    path = tmp_path / "changed.zip"
    for damaged in (raw[:place] + b"\1" + raw[place + 1 :], raw[: len(raw) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(loader.ProgramError, match="is not a whole program"):
            loader.load(path)
    for name in (loader.MODULE, loader.WEIGHTS):
        other = changed(
            program_file,
            lambda members, name=name: members.update({name: members[name][:40]}),
            path,
        )
        with pytest.raises(
            loader.ProgramError, match=r"contradicts itself|cannot be run by JAX"
        ):
            loader.load(other)(picture(20, 20))


def test_a_program_that_calls_what_is_not_in_it_is_refused(
    program_file: Path, tmp_path: Path
) -> None:
    call = jax.ffi.ffi_call("outside", jax.ShapeDtypeStruct((1,), np.float32))
    unchecked = [jax.export.DisabledSafetyCheck.custom_call("outside")]
    exported = jax.export.export(jax.jit(call), disabled_checks=unchecked)(np.zeros(1))
    module = {loader.MODULE: exported.mlir_module_serialized}
    path = changed(program_file, lambda x: x.update(module), tmp_path / "calls.zip")
    with pytest.raises(loader.ProgramError, match="calls outside, which is not in it"):
        loader.load(path)


def test_a_program_with_another_member_is_refused(
    program_file: Path, tmp_path: Path
) -> None:
    more = {"more.txt": b"more"}
    path = changed(program_file, lambda x: x.update(more), tmp_path / "more.zip")
    with pytest.raises(loader.ProgramError, match="is not a whole program"):
        loader.load(path)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (
            lambda variables, x: (
                jax.pure_callback(lambda y: y, x, x) + variables["bias"]
            ),
            "uses the primitive pure_callback, which calls code that is not in a program",
        ),
        (
            lambda variables, x: x[: int(x.shape[0])] * np.ones(x.shape[0])[0],
            "cannot be traced for any number of images",
        ),
    ],
)
def test_a_network_that_cannot_be_exported_says_why(apply: Any, message: str) -> None:
    (pixels,) = tile_functions(network(apply=apply), 8, np.dtype(np.uint8))
    with pytest.raises(UserError, match=message):
        lower(pixels, 1, np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": Geometry(1, halo=None)}, "sees the whole image, so a program is"),
        ({"downscale": 2}, "made smaller by 2 for this network, so"),
        ({"normalization": "range"}, "A program for images of float32 cannot be made"),
    ],
)
def test_what_tiles_cannot_do_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tile_functions(network(**changes), None, np.dtype(np.float32))


def test_the_loader_knows_jax_and_numpy_alone() -> None:
    tree = ast.parse(Path(loader.__file__).read_text(encoding="utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    others = {str(name).partition(".")[0] for name in names} - {"__future__"}
    assert others - sys.stdlib_module_names == {"jax", "numpy"}


def test_bfloat16_weights_are_read(tmp_path: Path) -> None:
    given = network(variables={"bias": jnp.array(0.5, jnp.bfloat16)})
    program = loader.load(written(tmp_path / "half.zip", given))
    assert program(picture(3, 4), "logits").shape == (3, 4, 3)
