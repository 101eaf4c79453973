"""Names of images as tools of all systems write them: found, or reported with their place."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from segjax.data.datasets.coco.image_places import ImageFolder
from segjax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """`set/img` with two files and one in `set/img/sub`, and a file beside `img`."""
    root = tmp_path / "set" / "img"
    (root / "sub").mkdir(parents=True)
    for path in ("a.png", "b.png", "sub/a.png", "../out.png", "Ö.png"):
        name = unicodedata.normalize("NFC", path)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


FOUND = {
    "plain": ("a.png", "a.png"),
    "sub": ("sub/a.png", "sub/a.png"),
    "windows": ("sub\\a.png", "sub/a.png"),
    "dot": ("./sub/a.png", "sub/a.png"),
    "inside": ("sub/../a.png", "a.png"),
    "prefixed": ("img/a.png", "a.png"),
    "prefixed_twice": ("set/img/sub/a.png", "sub/a.png"),
    "prefixed_windows": ("set\\img\\sub\\a.png", "sub/a.png"),
    "decomposed": (unicodedata.normalize("NFD", "Ö.png"), "Ö.png"),
}


@pytest.mark.parametrize(("name", "place"), FOUND.values(), ids=FOUND)
def test_a_name_beyond_doubt_is_found(folder, name, place):
    assert ImageFolder(folder).places([name, "b.png"], Path("x.json")) == [
        place,
        "b.png",
    ]


def test_absolute_paths_within_the_folder_are_found(folder, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(folder)
    for opened in (folder, tmp_path / "link"):
        name = str(folder / "sub" / "a.png")
        assert ImageFolder(opened).places([name], Path("x.json")) == ["sub/a.png"]
    monkeypatch.chdir(tmp_path)
    relative = ImageFolder(Path("set/img"))
    assert relative.places([name, str(folder / "a.png")], Path("x")) == [
        "sub/a.png",
        "a.png",
    ]


def test_a_file_of_that_very_name_goes_first(folder):
    (folder / "img").mkdir()
    for name in ("sub\\a.png", "img/a.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
        assert ImageFolder(folder).place(name) == name


TOLD = {
    "missing": ("c.png", r"lacks 1 of the 2 images .*: c\.png\. Put them there"),
    "address": ("https://x.org/a.png", "is an address: put the images there"),
    "bucket": ("s3://set/a.png", "is an address"),
    "windows": ("C:\\data\\img\\a.png", "is a path outside of this folder"),
    "share": ("\\\\host\\img\\a.png", "is a path outside of this folder"),
    "absolute": ("/data/img/a.png", "is a path outside of this folder"),
    "climbing": ("../out.png", "leads out of this folder"),
    "climbing_windows": ("..\\out.png", "leads out of this folder"),
    "climbing_within": ("sub/../../out.png", "leads out of this folder"),
    "case": ("A.PNG", r"There is a\.png: write the name as the file has it"),
    "folder": ("sub", "lacks 1"),
    "null": ("a\0/b.png", "lacks 1"),
    "surrogate": ("\ud800/a.png", "lacks 1"),
    "long": ("x" * 5000 + "/a.png", "lacks 1"),
}


@pytest.mark.parametrize(("name", "sentence"), TOLD.values(), ids=TOLD)
def test_a_name_that_is_not_in_the_folder_is_reported(folder, name, sentence):
    with pytest.raises(UserError, match=sentence):
        ImageFolder(folder).places([name, "b.png"], Path("x.json"))


def test_an_absolute_path_of_a_file_elsewhere_is_reported(folder):
    with pytest.raises(UserError, match="is a path outside of this folder"):
        ImageFolder(folder).places([str(folder.parent / "out.png")], Path("x.json"))


def test_one_file_under_two_names_is_reported(folder):
    with pytest.raises(UserError, match=r"x\.json lists the image \./a\.png twice"):
        ImageFolder(folder).places(["a.png", "./a.png"], Path("x.json"))


def test_images_beside_those_listed_are_named(folder):
    opened = ImageFolder(folder)
    (folder / "sub" / "notes.txt").write_text("")
    (folder / "sub" / ".hidden.png").write_text("")
    assert opened.unlisted({"sub/a.png"}) == []
    assert opened.unlisted({"a.png"}) == ["b.png", "Ö.png"]


@pytest.mark.parametrize("name", ["gone.png", "img\\gone.png", "sub/gone.png"])
def test_a_link_that_leads_nowhere_is_reported(folder, name):
    for place in (folder, folder / "sub"):
        (place / "gone.png").symlink_to("/not/mounted/gone.png")
    with pytest.raises(
        UserError,
        match=r"gone\.png is a link to /not/mounted/gone\.png, which does not",
    ):
        ImageFolder(folder).places([name, "a.png"], Path("x.json"))
