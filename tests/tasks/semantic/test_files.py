import dataclasses
import os
import shutil
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

import segjax.predict.inputs
import segjax.tasks.semantic.files
from segjax.data.files.images import read_label, read_label_pages
from segjax.data.intensities import RecordScales
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import Percentiles
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry
from segjax.output import manifest
from segjax.predict.inputs import in_channels
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic.files import predict_files

SPEC = LabelSpec(("dark", "light"), ((200, 10, 0), (0, 30, 250)))


def brightness(image):
    """Logits of a pixel: class 1 where the mean of the channels is above one half."""
    grey = image.mean(-1, keepdims=True) - 0.5
    return jnp.concatenate([-8 * grey, 8 * grey], -1)


PREDICTOR = Predictor(brightness, Geometry(stride=16, halo=16), tile=32, batch_size=2)
GREY = {"label_spec": SPEC, "channels": 1, "normalization": "range"}
RGB = GREY | {"channels": 3}


def grey(*shape, seed=0, dtype=np.uint8):
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high, shape, dtype, endpoint=True)


def write_stack(path, stack):
    """Says that pages are pages: three of them would be taken for RGB otherwise."""
    tifffile.imwrite(path, stack, photometric="minisblack")


def expected(image):
    values = image.astype(np.float64) / np.iinfo(image.dtype).max
    values = values.mean(-1) if values.shape[-1] == 3 else values
    return (values > 0.5).astype(np.uint8)


def names(folder):
    """All files, hidden ones, too, but for the list of what was written."""
    return sorted({path.name for path in folder.iterdir()} - {manifest.NAME})


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_picture_becomes_a_palette_png_of_its_size(tmp_path, suffix):
    rgb = grey(50, 71, 3)
    Image.fromarray(rgb).save(tmp_path / f"cell.{suffix}", lossless=True)
    out = tmp_path / "new" / "out"
    (path,) = predict_files(PREDICTOR, tmp_path / f"cell.{suffix}", out, **RGB)
    assert path == out / "cell.png"
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "P")
        assert tuple(image.getpalette()[:6]) == (200, 10, 0, 0, 30, 250)
        np.testing.assert_array_equal(np.array(image), expected(rgb))
    assert path.read_bytes()[24] == 8
    assert names(out) == ["cell.png"]


def test_jpeg_becomes_a_png(tmp_path):
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(
        tmp_path / "cell.JPG", "JPEG"
    )
    (path,) = predict_files(PREDICTOR, tmp_path / "cell.JPG", tmp_path / "out", **GREY)
    assert path.name == "cell.png"
    np.testing.assert_array_equal(read_label(path), np.ones((20, 30)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stack_becomes_a_stack_of_the_same_pages(tmp_path, dtype):
    stack = grey(5, 40, 90, dtype=dtype)
    write_stack(tmp_path / "volume.tiff", stack)
    out = tmp_path / "out"
    (path,) = predict_files(PREDICTOR, tmp_path / "volume.tiff", out, **GREY)
    assert path == out / "volume.tif"
    labels = tifffile.imread(path)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected(stack))
    np.testing.assert_array_equal(list(read_label_pages(path)), expected(stack))
    with tifffile.TiffFile(path) as file:
        assert file.pages[4].compression.name == "ADOBE_DEFLATE"
        assert file.pages[4].photometric.name == "PALETTE"
        colors = file.pages[4].colormap[:, :2] // 257
    np.testing.assert_array_equal(colors.T, SPEC.colors)


def test_large_results_are_bigtiff(tmp_path, monkeypatch):
    stack = grey(3, 16, 16)
    write_stack(tmp_path / "volume.tif", stack)
    big = []
    for limit in (3 * 16 * 16, 3 * 16 * 16 - 1):
        monkeypatch.setattr("segjax.predict.writers.CLASSIC_TIFF_BYTES", limit)
        (path,) = predict_files(
            PREDICTOR, tmp_path / "volume.tif", tmp_path / "out", **GREY
        )
        with tifffile.TiffFile(path) as file:
            big.append(file.is_bigtiff)
            np.testing.assert_array_equal(file.asarray(), expected(stack))
    assert big == [False, True]


def test_pages_of_one_stack_may_differ_in_size(tmp_path):
    pages = [grey(20, 30), grey(33, 17, seed=1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, metadata=None)
    (path,) = predict_files(PREDICTOR, tmp_path / "a.tif", tmp_path / "out", **GREY)
    for found, page in zip(read_label_pages(path), pages, strict=True):
        np.testing.assert_array_equal(found, expected(page))


def test_folder_gives_one_file_each_and_reports_each_page(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    pictures = {"s10.png": grey(20, 35), "s2.png": grey(64, 30, seed=1)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(images / name)
    stack = grey(3, 18, 18, seed=2)
    write_stack(images / "t.tif", stack)
    (images / "notes.txt").write_text("no image")
    calls = []
    out = tmp_path / "out"
    paths = predict_files(
        PREDICTOR, images, out, **GREY, progress=lambda *what: calls.append(what)
    )
    assert [path.name for path in paths] == ["s2.png", "s10.png", "t.tif"]
    for name, picture in pictures.items():
        np.testing.assert_array_equal(read_label(out / name), expected(picture))
    np.testing.assert_array_equal(tifffile.imread(out / "t.tif"), expected(stack))
    assert [what[0] for what in calls] == [1, 2, 3, 4, 5]
    assert calls[0] == (1, 5, "s2.png")
    assert names(out) == ["s10.png", "s2.png", "t.tif"]


def test_probabilities_are_float_pages_with_classes_innermost(tmp_path):
    stack = grey(2, 20, 30)
    write_stack(tmp_path / "a.tif", stack)
    out = tmp_path / "out"
    predict_files(PREDICTOR, tmp_path / "a.tif", out, **GREY, probabilities=True)
    found = tifffile.imread(out / "a_probabilities.tif")
    light = 1 / (1 + np.exp(-16 * (stack / 255 - 0.5)))
    assert found.dtype == np.float32
    assert found.shape == (4, 20, 30)
    np.testing.assert_allclose(found[1::2], light, atol=1e-6)
    np.testing.assert_allclose(found[0::2], 1 - light, atol=1e-6)
    with tifffile.TiffFile(out / "a_probabilities.tif") as file:
        assert file.pages[3].description == "2: light"
    np.testing.assert_array_equal(tifffile.imread(out / "a.tif"), expected(stack))


def test_overlays_lie_beside_the_labels(tmp_path):
    (tmp_path / "in").mkdir()
    stack, rgb = np.stack([np.zeros((20, 30)), np.full((20, 30), 255)]), grey(20, 30)
    write_stack(tmp_path / "in" / "a.tif", stack.astype(np.uint8))
    Image.fromarray(rgb).save(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    predict_files(PREDICTOR, tmp_path / "in", out, **GREY, overlay=True)
    assert names(out) == ["a.tif", "a_overlay.tif", "b.png", "b_overlay.png"]
    found = tifffile.imread(out / "a_overlay.tif").astype(int)
    assert found.shape == (2, 20, 30, 3)
    # Class 0 is red and lies over black, class 1 is blue and lies over white.
    assert found[0, 5, 5, 0] > found[0, 5, 5, 2]
    assert found[1, 5, 5, 2] > found[1, 5, 5, 0] > found[0, 5, 5, 0]
    with Image.open(out / "b_overlay.png") as image:
        assert (image.mode, image.size) == ("RGB", (30, 20))


def test_older_results_are_replaced(tmp_path):
    out = tmp_path / "out"
    for size in ((9, 9), (20, 30)):
        Image.fromarray(grey(*size)).save(tmp_path / "a.png")
        predict_files(PREDICTOR, tmp_path / "a.png", out, **GREY)
        assert read_label(out / "a.png").shape == size


def test_a_run_that_breaks_off_leaves_older_results_and_no_half_file(tmp_path):
    write_stack(tmp_path / "a.tif", grey(4, 20, 30))
    out = tmp_path / "out"
    predict_files(PREDICTOR, tmp_path / "a.tif", out, **GREY)
    older = (out / "a.tif").read_bytes()

    def stop(done, total, name):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(PREDICTOR, tmp_path / "a.tif", out, **GREY, progress=stop)
    assert names(out) == ["a.tif"]
    assert (out / "a.tif").read_bytes() == older


def test_memory_does_not_grow_with_the_pages(tmp_path):
    side = 320
    predictor = Predictor(brightness, PREDICTOR.geometry, tile=128)

    def peak(pages):
        path = tmp_path / f"{pages}.tif"
        with tifffile.TiffWriter(path) as file:
            for i in range(pages):
                file.write(grey(side, side, seed=i), metadata=None)
        tracemalloc.start()
        predict_files(predictor, path, tmp_path / "out", **GREY)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    # Held on to, 30 further pages would be 30 times this, and 120 times as float32.
    # Batches in flight make a page or two of difference.
    assert peak(33) - peak(3) < 6 * side * side


def test_one_page_is_alive_at_a_time(tmp_path, monkeypatch):
    """Counts the images that exist while the next is read."""
    import weakref

    write_stack(tmp_path / "a.tif", grey(6, 100, 100))
    alive, most = weakref.WeakSet(), []

    class Counted(np.ndarray):
        __hash__ = object.__hash__

        def __array_finalize__(self, obj):
            pass

    original = segjax.tasks.semantic.files.read_source

    def counting(source, channels):
        for page in original(source, channels):
            most.append(len(alive))
            page = page.view(Counted)
            alive.add(page)
            yield page
            del page

    monkeypatch.setattr(segjax.tasks.semantic.files, "read_source", counting)
    predict_files(PREDICTOR, tmp_path / "a.tif", tmp_path / "out", **GREY)
    assert len(most) == 6
    assert max(most) == 0


@pytest.mark.parametrize(("over", "light"), [("image", 2), ("stack", 1)])
def test_pages_of_a_stack_have_one_scale_where_it_is_asked_for(tmp_path, over, light):
    bright, dim = grey(40, 48), grey(40, 48, seed=1) // 8
    write_stack(tmp_path / "a.tif", np.stack([dim, bright]))
    method = Percentiles(low=0, high=100, over=over)
    predict_files(
        PREDICTOR,
        tmp_path / "a.tif",
        tmp_path / "out",
        **GREY | {"normalization": method},
    )
    labels = list(read_label_pages(tmp_path / "out" / "a.tif"))
    assert sum(bool(page.any()) for page in labels) == light
    predict_files(
        *(PREDICTOR, tmp_path / "a.tif", tmp_path / "one"),
        chosen=(0,),
        **GREY | {"normalization": method},
    )
    np.testing.assert_array_equal(
        read_label(next((tmp_path / "one").glob("*.tif"))), labels[0]
    )
    records = [
        {"image": page[..., None], "name": f"a/{i}", "stack": "a.tif"}
        for i, page in enumerate([dim, bright])
    ]
    scales = RecordScales(records, method)
    for i, record in enumerate(records):
        found = scales(i, record)(record["image"])[..., 0] > 0.5
        np.testing.assert_array_equal(found, labels[i])


@pytest.mark.parametrize(
    ("found", "wanted", "remedy"),
    [(4, 3, "Choose with --channels"), (3, 1, "Convert it to grey"), (3, 4, "Take a")],
)
def test_any_number_of_channels_is_called_so(found, wanted, remedy):
    image = np.arange(4 * found, dtype=np.uint8).reshape(2, 2, found)
    match = rf"x\.png has . channels.* on . channel.*\. {remedy}"
    with pytest.raises(UserError, match=match):
        in_channels("x.png", image, wanted)


def test_wrong_channels_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    Image.fromarray(grey(9, 9, 3)).save(tmp_path / "in" / "b.png")
    message = r"b.png has 3 channels \(RGB\).*1 channel \(grey\).*to grey"
    with pytest.raises(UserError, match=message):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("expects", [GREY, RGB], ids=["grey", "RGB"])
def test_grey_images_get_the_channels_of_the_network_and_the_log_says_so(
    tmp_path, expects, caplog
):
    (tmp_path / "in").mkdir()
    pictures = {"a.png": grey(20, 30), "b.png": grey(20, 30, seed=1)}
    Image.fromarray(pictures["a.png"]).save(tmp_path / "in/a.png")
    Image.fromarray(np.stack([pictures["b.png"]] * 3, -1)).save(tmp_path / "in/b.png")
    with caplog.at_level("INFO", logger="segjax"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **expects)
    for name, picture in pictures.items():
        np.testing.assert_array_equal(
            read_label(tmp_path / "out" / name), expected(picture)
        )
    logged = [m for m in caplog.messages if "1 file is" in m]
    assert len(logged) == 1
    assert ("channel is repeated" in logged[0]) == (expects is RGB)


def test_pages_that_differ_from_the_first_are_converted_and_the_log_says_so(
    tmp_path, caplog
):
    first, second = grey(20, 30), grey(20, 30, seed=1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(first, photometric="minisblack", metadata=None)
        for _ in range(2):
            colors = np.stack([second] * 3, -1)
            file.write(colors, photometric="rgb", metadata=None)
    with caplog.at_level("INFO", logger="segjax"):
        predict_files(PREDICTOR, tmp_path / "a.tif", tmp_path / "out", **GREY)
    (logged,) = (m for m in caplog.messages if "RGB with three equal" in m)
    assert f"In {tmp_path / 'a.tif'}, 2 pages are RGB" in logged


def test_labels_lie_on_a_turned_photograph_as_viewers_show_it(tmp_path):
    picture = grey(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture)).save(tmp_path / "a.png", exif=exif)
    (path,) = predict_files(PREDICTOR, tmp_path / "a.png", tmp_path / "out", **GREY)
    np.testing.assert_array_equal(read_label(path), expected(picture))


def test_what_is_left_out_of_a_folder_is_reported(tmp_path, caplog):
    (tmp_path / "in" / "older").mkdir(parents=True)
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.bmp")
    for name in ("b.PDF", "notes.txt", ".hidden", "Thumbs.db"):
        (tmp_path / "in" / name).write_text("no image")
    with caplog.at_level("INFO", logger="segjax"):
        paths = predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert [path.name for path in paths] == ["a.png"]
    assert "Left out: 2 files (.pdf, .txt)" in caplog.messages


def test_folders_of_plates_are_mirrored_and_found_anew_without_the_results(tmp_path):
    for name in ("plate1/a.png", "plate2/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.fromarray(grey(9, 9)).save(tmp_path / "in" / name)
    out = tmp_path / "in" / "predicted"
    for _ in range(2):
        paths = predict_files(PREDICTOR, tmp_path / "in", out, **GREY, overlay=True)
        found = [str(path.relative_to(out)) for path in paths]
        assert found == ["plate1/a.png", "plate2/a.png"]
    assert names(out / "plate1") == ["a.png", "a_overlay.png"]
    shutil.rmtree(out / "plate1")
    (out / "plate1").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"predicted/plate1 is a link, through which"):
        predict_files(PREDICTOR, tmp_path / "in", out, **GREY)


def test_labels_are_not_taken_for_images(tmp_path):
    for name in ("images/a.png", "labels/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(grey(9, 9)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"labels besides images.*--input=.*images\."):
        predict_files(PREDICTOR, tmp_path, tmp_path / "out", **GREY)


def test_two_inputs_of_one_stem_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    write_stack(tmp_path / "in" / "a.tif", grey(9, 9))
    with pytest.raises(UserError, match=r"a.png and a.tif have the same stem"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert not (tmp_path / "out").exists()


def test_an_input_named_like_a_result_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a_overlay.png")
    with pytest.raises(UserError, match=r"both give a_overlay.png"):
        predict_files(
            PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY, overlay=True
        )


@pytest.mark.parametrize("what", ["", "a.png"])
def test_output_beside_the_input_is_refused(tmp_path, what):
    Image.fromarray(grey(9, 9)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(UserError, match=r"is the folder of the input"):
        predict_files(PREDICTOR, tmp_path / what, tmp_path / "x" / "..", **GREY)
    assert names(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.fixture
def linked(tmp_path):
    """A folder of links to photographs that lie elsewhere."""
    (tmp_path / "real").mkdir()
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(grey(9, 9)).save(tmp_path / "real" / name)
        (tmp_path / "in" / name).symlink_to(f"../real/{name}")
    return tmp_path


@pytest.mark.parametrize("output", ["in", "real"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_what_they_lead_to_are_not_overwritten(linked, output, overwrite):
    before = {path: path.read_bytes() for path in (linked / "real").iterdir()}
    with pytest.raises(UserError, match=r"is the folder of the input"):
        predict_files(
            PREDICTOR, linked / "in", linked / output, **GREY, overwrite=overwrite
        )
    assert {path: path.read_bytes() for path in before} == before
    assert all(path.is_symlink() for path in (linked / "in").iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_hard_link_of_an_input_is_not_overwritten(linked, overwrite):
    (linked / "out").mkdir()
    os.link(linked / "real/b.png", linked / "out/b.png")
    before = (linked / "out/b.png").read_bytes()
    with pytest.raises(UserError, match=r"out/b\.png would be .* it is the input"):
        predict_files(
            PREDICTOR, linked / "in", linked / "out", **GREY, overwrite=overwrite
        )
    assert (linked / "out/b.png").read_bytes() == before
    assert names(linked / "out") == ["b.png"]


def test_labels_of_the_user_are_overwritten_where_that_is_asked_for(linked):
    (linked / "out").mkdir()
    (linked / "out/b.png").write_bytes(b"drawn by hand")
    with pytest.raises(UserError, match=r"out/b\.png would be .* or --overwrite to"):
        predict_files(PREDICTOR, linked / "in", linked / "out", **GREY)
    assert names(linked / "out") == ["b.png"]
    predict_files(PREDICTOR, linked / "in", linked / "out", **GREY, overwrite=True)
    np.testing.assert_array_equal(
        read_label(linked / "out/b.png"), expected(grey(9, 9))
    )


def test_a_label_that_was_corrected_by_hand_is_kept(linked):
    predict_files(PREDICTOR, linked / "in", linked / "out", **GREY)
    predict_files(PREDICTOR, linked / "in", linked / "out", **GREY)
    Image.fromarray(np.ones((9, 9), np.uint8)).save(linked / "out/b.png")
    corrected = (linked / "out/b.png").read_bytes()
    with pytest.raises(
        UserError, match=r"out/b\.png would be .* has been changed since"
    ):
        predict_files(PREDICTOR, linked / "in", linked / "out", **GREY)
    assert (linked / "out/b.png").read_bytes() == corrected


def test_a_link_at_the_name_of_a_partial_file_is_not_written_through(linked):
    (linked / "out").mkdir()
    (linked / "precious").write_bytes(b"precious")
    (linked / "out/.a.png.partial").symlink_to("../precious")
    predict_files(PREDICTOR, linked / "in", linked / "out", **GREY)
    assert (linked / "precious").read_bytes() == b"precious"
    assert names(linked / "out") == [".a.png.partial", "a.png", "b.png"]


def test_what_belongs_to_the_user_is_found_before_anything_is_decoded(
    linked, monkeypatch
):
    (linked / "out").mkdir()
    (linked / "out/b.png").write_bytes(b"drawn by hand")
    monkeypatch.setattr(segjax.tasks.semantic.files, "look_at_all", None)
    with pytest.raises(UserError, match="would be overwritten"):
        predict_files(PREDICTOR, linked / "in", linked / "out", **GREY)


def test_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match=r"out is a file. Give the name of a folder"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    with pytest.raises(UserError, match=r"cannot be written to \(Not a directory\)"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out" / "sub", **GREY)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_output_without_permission_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"cannot be written to \(Permission denied\)"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")

    def full(image, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"a.png cannot be written \(No space left"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert names(tmp_path / "out") == []


def test_a_truncated_file_is_reported_before_anything_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(grey(99, 99)).save(tmp_path / "in" / name)
    whole = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"b.png cannot be decoded"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert not (tmp_path / "out").exists()


def test_a_later_page_of_other_channels_is_found_before_anything_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    with tifffile.TiffWriter(tmp_path / "in" / "b.tif") as file:
        file.write(grey(9, 9), photometric="minisblack", metadata=None)
        file.write(grey(9, 9, 3), photometric="rgb", metadata=None)
    with pytest.raises(UserError, match=r"b\.tif, page 2 of 2, has 3 channels \(RGB\)"):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert not (tmp_path / "out").exists()
    one = {"chosen": (0,)} | GREY
    assert predict_files(PREDICTOR, tmp_path / "in" / "b.tif", tmp_path / "out", **one)


def test_what_only_decoding_finds_names_the_page_and_what_stands(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(grey(9, 9)).save(tmp_path / "in" / "a.png")
    path = tmp_path / "in" / "b.tif"
    tifffile.imwrite(
        path, grey(3, 64, 64), photometric="minisblack", compression="zlib"
    )
    with tifffile.TiffFile(path) as file:
        (start,), (size,) = file.pages[2].dataoffsets, file.pages[2].databytecounts
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    sentence = (
        r"b\.tif, page 3 of 3, cannot be decoded: .* of 1 of 2 files are complete"
    )
    with pytest.raises(UserError, match=sentence):
        predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert names(tmp_path / "out") == ["a.png"]
    with pytest.raises(UserError, match=r"decoded: .* No results were written\.$"):
        predict_files(PREDICTOR, path, tmp_path / "alone", **GREY)


def test_a_stack_that_grows_meanwhile_is_reported(tmp_path, monkeypatch):
    write_stack(tmp_path / "a.tif", grey(3, 20, 30))
    look_at = segjax.predict.inputs.look_at

    def earlier(path, channels, chosen):
        return dataclasses.replace(look_at(path, channels, chosen), pages=2)

    monkeypatch.setattr(segjax.predict.inputs, "look_at", earlier)
    with pytest.raises(UserError, match=r"a.tif had 2 pages at first"):
        predict_files(PREDICTOR, tmp_path / "a.tif", tmp_path / "out", **GREY)
    assert names(tmp_path / "out") == []


def test_the_real_stack_keeps_its_thirty_pages(tmp_path, shared_data):
    path = shared_data / "isbi2012_em" / "test-volume.tif"
    predictor = Predictor(brightness, Geometry(stride=16, halo=96), batch_size=4)
    (result,) = predict_files(predictor, path, tmp_path / "out", **GREY)
    labels = tifffile.imread(result)
    assert labels.shape == (30, 512, 512)
    np.testing.assert_array_equal(labels, expected(tifffile.imread(path)))


def test_labels_beside_images_are_not_predicted(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "a_cp_masks", "b_mask"):
        Image.fromarray(grey(9, 9)).save(tmp_path / "in" / f"{name}.png")
    paths = predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **GREY)
    assert [path.name for path in paths] == ["a.png", "b_mask.png"]
