"""Files of objects: what is written is what was found."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.instance_spec import InstanceSpec, KeypointSpec
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.metrics.average_precision import AveragePrecision
from segjax.rle import decode, encode, from_string
from segjax.tasks.instance import files
from segjax.tasks.instance.coco_results import coco_results, numbered
from segjax.tasks.instance.files import InstancePredictor, predict_instance_files

SPEC = LabelSpec(
    ("background", "dark", "light"), ((0, 0, 0), (9, 9, 9), (250, 250, 250))
)
OBJECTS = InstanceSpec((3, 44), KeypointSpec(("top_left", "center"), ((0, 1),)))


def find(image):
    """A perfect finder of squares: value 100 is class 1, 200 is class 2."""
    masks = [image[..., 0] == value for value in (200, 100)]
    found = {"boxes": [], "scores": [], "classes": [], "masks": [], "keypoints": []}
    for mask, k in zip(masks, (2, 1), strict=True):
        if mask.any():
            rows, columns = np.nonzero(mask)
            box = [rows.min(), columns.min(), rows.max() + 1.0, columns.max() + 1.0]
            found["boxes"].append(box)
            found["scores"].append(0.4 + 0.2 * k)
            found["classes"].append(k)
            found["masks"].append(encode(mask))
            center = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            found["keypoints"].append([[*box[:2], 1.0], [*center, 1.0]])
    shapes = {"boxes": (-1, 4), "keypoints": (-1, 2, 3)}
    return {
        key: tuple(x) if key == "masks" else np.array(x).reshape(shapes.get(key, (-1,)))
        for key, x in found.items()
    }


def rendered(offset=0):
    image = np.zeros((24, 30), np.uint8)
    image[4:10, 5 + offset : 13 + offset] = 100
    image[14:20, 8:12] = 200
    return image


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(rendered()).save(tmp_path / "in/a.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in/b.png")
    tifffile.imwrite(tmp_path / "in/c.tif", np.stack([rendered(), rendered(3)]))
    return tmp_path


@pytest.mark.parametrize(
    ("names", "image_id"),
    [(("000000000139", "25"), 139), (("01", "1"), 1)],
    ids=["numbers, as COCO's", "two of one number are counted instead"],
)
def test_files_named_by_numbers_keep_them(folder, names, image_id):
    (folder / "in/c.tif").unlink()
    for old, new in zip("ab", names, strict=True):
        (folder / f"in/{old}.png").rename(folder / f"in/{new}.png")
    predict_instance_files(find, folder / "in", folder / "out", label_spec=SPEC)
    rows = json.loads((folder / "out/results.json").read_text())
    assert {(r["file_name"], r["image_id"]) for r in rows} == {
        (f"{names[0]}.png", image_id)
    }


def test_a_chosen_page_keeps_its_number(folder):
    predict_instance_files(
        find,
        folder / "in/c.tif",
        folder / "out",
        label_spec=SPEC,
        chosen=(1,),
        overlay=True,
    )
    rows = json.loads((folder / "out/results.json").read_text())
    assert {row["page"] for row in rows} == {2}
    pictures = [path.name for path in (folder / "out").glob("*_overlay.png")]
    assert pictures == ["c_2_overlay.png"]


def test_label_images_results_and_pictures_are_written(folder):
    calls = []
    files = predict_instance_files(
        find,
        folder / "in",
        folder / "out",
        label_spec=SPEC,
        instances=OBJECTS,
        overlay=True,
        progress=lambda *x: calls.append(x),
    )
    assert [f.name for f in files] == ["a.png", "b.png", "c.tif", "results.json"]
    assert calls[-1] == (4, 4, "c.tif")
    label = np.asarray(Image.open(folder / "out/a.png"))
    np.testing.assert_array_equal(
        label, np.select([rendered() == 200, rendered() == 100], [1, 2])
    )
    assert not np.asarray(Image.open(folder / "out/b.png")).any()
    pages = tifffile.imread(folder / "out/c.tif")
    assert (pages.shape, pages.dtype) == ((2, 24, 30), np.uint16)
    pictures = sorted(p.name for p in (folder / "out").glob("*_overlay.png"))
    assert pictures == [
        "a_overlay.png",
        "b_overlay.png",
        "c_1_overlay.png",
        "c_2_overlay.png",
    ]
    rows = json.loads((folder / "out/results.json").read_text())
    assert [(r["file_name"], r["page"], r["image_id"], r["label"]) for r in rows] == [
        ("a.png", 1, 1, 1),
        ("a.png", 1, 1, 2),
        ("c.tif", 1, 3, 1),
        ("c.tif", 1, 3, 2),
        ("c.tif", 2, 4, 1),
        ("c.tif", 2, 4, 2),
    ]
    first = rows[1]
    assert first["category_id"] == 3
    assert first["category_name"] == SPEC.names[OBJECTS.class_of[3]]
    assert first["bbox"] == [5, 4, 8, 6]
    assert first["keypoints"] == [4.5, 3.5, 1, 8.5, 6.5, 1]
    rle = from_string(
        first["segmentation"]["counts"], tuple(first["segmentation"]["size"])
    )
    np.testing.assert_array_equal(decode(rle), rendered() == 100)


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 1), (3, 2), (3, 4)])
def test_a_stack_that_grows_or_shrinks_meanwhile_is_reported(
    folder, before, after, overlay
):
    def write(pages):
        stack = np.stack([rendered()] * pages)
        tifffile.imwrite(folder / "in/c.tif", stack, photometric="minisblack")

    def meanwhile(image):
        if not (folder / "out/c.tif").exists():
            write(after)
        return find(image)

    write(before)
    sentence = rf"c\.tif had {before} pages at first .* of 2 of 3 files are complete"
    arguments = (meanwhile, folder / "in", folder / "out")
    options = {"label_spec": SPEC, "overlay": overlay}
    with pytest.raises(UserError, match=sentence):
        predict_instance_files(*arguments, **options)
    assert not (folder / "out/c.tif").exists()
    rows = json.loads((folder / "out/results.json").read_text())
    assert [row["file_name"] for row in rows] == ["a.png"] * 2  # what is complete


def test_results_are_measured_as_what_was_found():
    found = find(rendered()[..., None])
    rows = coco_results(found, image_id=5, category_ids=(3, 44))
    class_of = OBJECTS.class_of
    again = {
        "classes": [class_of[row["category_id"]] for row in rows],
        "scores": [row["score"] for row in rows],
        "masks": [from_string(row["segmentation"]["counts"], (24, 30)) for row in rows],
    }
    metric = AveragePrecision(SPEC.names[1:], "masks")
    metric.add(found, again)
    assert metric.result().stats["AP"] == pytest.approx(1.0)


def test_inputs_are_shown_upright_in_the_channels_of_the_network(folder, caplog):
    exif, seen = Image.Exif(), []
    exif[0x0112] = 6
    turned = np.rot90(rendered())
    Image.fromarray(turned).save(folder / "in/d.jpg", exif=exif, quality=100)
    Image.fromarray(np.stack([rendered()] * 3, -1)).save(folder / "in/e.bmp")
    (folder / "in/notes.txt").write_text("x")

    def watched(image):
        seen.append(image.shape)
        return find(image)

    with caplog.at_level("INFO", logger="segjax"):
        predict_instance_files(watched, folder / "in", folder / "out", label_spec=SPEC)
    assert seen == [(24, 30, 3), (8, 8, 3), *[(24, 30, 3)] * 4]
    assert np.asarray(Image.open(folder / "out/d.png")).shape == (24, 30)
    assert "Left out: 1 file (.txt)" in caplog.messages
    assert "4 files are grey, where RGB is expected" in caplog.text


def test_where_objects_overlap_the_best_one_is_seen():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :, 1:4], masks[1, :, 2:6] = True, True
    label = numbered([encode(m) for m in masks], (4, 6))
    assert label[0].tolist() == [0, 1, 1, 1, 2, 2]


def test_more_objects_than_16_bits_count_have_32(folder, monkeypatch):
    label_of = files.label_of
    many = lambda *given: 70_000 * (label_of(*given) == 2)
    monkeypatch.setattr(files, "label_of", many)
    arguments = (find, folder / "in/c.tif", folder / "out")
    predict_instance_files(*arguments, label_spec=SPEC)
    label = tifffile.imread(folder / "out/c.tif")
    assert label.dtype == np.uint32
    assert np.unique(label).tolist() == [0, 70_000]
    with pytest.raises(
        UserError, match=r"a\.png has 70000 objects, .* Save it as TIFF"
    ):
        predict_instance_files(find, folder / "in/a.png", folder / "b", label_spec=SPEC)


def test_an_overlay_and_a_label_file_of_one_name_are_refused(folder):
    (folder / "in/b.png").rename(folder / "in/a_overlay.png")
    arguments = (find, folder / "in", folder / "out")
    with pytest.raises(UserError, match=r"a\.png and a_overlay\.png would both give"):
        predict_instance_files(*arguments, label_spec=SPEC, overlay=True)
    assert not (folder / "out").exists()
    predict_instance_files(*arguments, label_spec=SPEC)


@pytest.mark.parametrize("output", ["real", "in"])
def test_the_photograph_behind_a_link_is_kept(folder, output):
    (folder / "real").mkdir()
    (folder / "in/a.png").rename(folder / "real/a.png")
    (folder / "in/a.png").symlink_to("../real/a.png")
    before = (folder / "real/a.png").read_bytes()
    with pytest.raises(UserError, match="is the folder of the input"):
        predict_instance_files(find, folder / "in", folder / output, label_spec=SPEC)
    assert (folder / "real/a.png").read_bytes() == before
    assert (folder / "in/a.png").is_symlink()


@pytest.mark.parametrize("name", ["a.png", "c_2_overlay.png", "results.json"])
def test_files_of_the_user_are_kept_and_replaced_where_that_is_asked_for(folder, name):
    (folder / "out").mkdir()
    (folder / "out" / name).write_bytes(b"mine")
    arguments = (find, folder / "in", folder / "out")
    options = {"label_spec": SPEC, "overlay": True}
    with pytest.raises(UserError, match=f"out/{name} would be .* or --overwrite to"):
        predict_instance_files(*arguments, **options)
    assert [path.name for path in (folder / "out").iterdir()] == [name]
    predict_instance_files(*arguments, **options, overwrite=True)
    assert (folder / "out" / name).read_bytes() != b"mine"
    predict_instance_files(*arguments, **options)


def detect(batch):
    """Answers as a network does: bright squares of 8 pixels, at most four."""
    rows = {"boxes": [], "scores": [], "classes": [], "masks": [], "valid": []}
    for image in np.asarray(batch["image"])[..., 0]:
        boxes = np.zeros((4, 4), np.float32)
        ys, xs = np.nonzero(image > 0.5)
        cells = sorted(
            {(int(y) // 16, int(x) // 16) for y, x in zip(ys, xs, strict=True)}
        )
        for n, (a, b) in enumerate(cells):
            inside = (ys // 16 == a) & (xs // 16 == b)
            y, x = ys[inside], xs[inside]
            boxes[n] = y.min(), x.min(), y.max() + 1, x.max() + 1
        valid = np.arange(4) < len(cells)
        rows["boxes"].append(boxes)
        rows["scores"].append(np.where(valid, [0.9, 0.8, 0.7, 0.3], 0))
        rows["classes"].append(valid.astype(np.int32))
        rows["masks"].append(np.ones((4, 28, 28), np.float32))
        rows["valid"].append(valid)
    return {key: np.stack(x) for key, x in rows.items()}


def test_a_finder_takes_images_whole_or_in_tiles():
    image = np.zeros((32, 32, 1), np.uint8)
    image[4:12, 4:12], image[20:28, 20:28] = 255, 255
    arguments = {"detect": detect, "batch_size": 2, "buckets": ((32, 32),)}
    whole = InstancePredictor(resize="keep", **arguments)(image)
    assert whole["boxes"].tolist() == [[4, 4, 12, 12], [20, 20, 28, 28]]
    assert decode(whole["masks"][1])[20:28, 20:28].all()
    twice = np.kron(image, np.ones((2, 2, 1), np.uint8))
    shrunk = InstancePredictor(resize="fit", tile=0, **arguments)(twice)
    assert shrunk["boxes"].tolist() == [[8, 8, 24, 24], [40, 40, 56, 56]]
    assert decode(shrunk["masks"][0])[9:23, 9:23].all()
    tiled = InstancePredictor(resize="keep", **{**arguments, "buckets": ((24, 24),)})
    large = np.zeros((24, 60, 3), np.uint16)
    large[4:12, 4:12] = 65535
    assert len(tiled(large)["boxes"]) == 1
    strict = InstancePredictor(resize="keep", keep_score=0.85, **arguments)(image)
    assert len(strict["scores"]) == 1


@pytest.mark.parametrize(
    ("change", "output", "sentence"),
    [
        (lambda f: None, "in", "is the folder of the input"),
        (
            lambda f: Image.new("L", (4, 4)).save(f / "in/a.webp"),
            "out",
            "have the same stem",
        ),
        (lambda f: (f / "in/b.png").write_bytes(b"no"), "out", r"b\.png"),
        (lambda f: (f / "out").write_text(""), "out", "out is a file"),
    ],
)
def test_what_cannot_be_written_is_reported_before_anything_is(
    folder, change, output, sentence
):
    change(folder)
    with pytest.raises(UserError, match=sentence):
        predict_instance_files(find, folder / "in", folder / output, label_spec=SPEC)
    assert not list(folder.glob("out/*.png"))
