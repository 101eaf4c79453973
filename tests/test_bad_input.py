"""Bad input: a sentence that names file or key, value and remedy; nothing written."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.predict.tiled import Predictor
from segjax.training import loop

ROOT = Path(__file__).resolve().parent.parent
EM = "--config=configs/unet_em.py:smoke"
FOLDER = "--config=configs/unet_folder.py:smoke"
SIDE = 40


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
      what: the user's words for it.
      make: makes the mistake in a fresh folder, and returns the command's arguments.
      words: words that the sentence must hold.
    """

    what: str
    make: Callable[[Path], list[str]]
    words: tuple[str, ...]


def grey(seed=0, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)


def good_folder(root: Path) -> Path:
    """Three images and their masks."""
    for i in range(3):
        save(root / f"images/{i}.png", grey(i))
        save(root / f"labels/{i}.png", np.where(grey(i) > 99, 255, 0).astype(np.uint8))
    return root


def save(path: Path, values: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        image = Image.fromarray(values)
        (image if mode is None else image.convert(mode)).save(path)


def training(tmp: Path, *more: str) -> list[str]:
    return [FOLDER, f"--data_root={tmp / 'mine'}", *more]


def with_folder(change: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    """A training on a good folder after something was done to it."""

    def make(tmp: Path) -> list[str]:
        change(good_folder(tmp / "mine"))
        return training(tmp)

    return make


def exchanged(name: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    """Takes image 1 away and writes another."""

    def change(root: Path) -> None:
        (root / "images/1.png").unlink()
        write(root / "images" / name)

    return change


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def not_finite(value: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        values = grey(1).astype(np.float32)
        values[3, 4] = value
        save(path, values)

    return write


def in_mode(mode: str) -> Callable[[Path], None]:
    return lambda path: save(path, grey(1), mode)


def see_through(path: Path) -> None:
    save(path, np.stack([grey(1)] * 4, -1))


def in_color(path: Path) -> None:
    save(path, np.stack([grey(1), grey(1), 255 - grey(1)], -1))


def truncated(path: Path) -> None:
    save(path, grey(1))
    cut(path)


def deep_label(root: Path) -> None:
    (root / "labels/1.png").unlink()
    save(root / "labels/1.tif", grey(1).astype(np.uint16) + 1000)


def fixed(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda tmp: list(arguments)


def under_a_file(tmp: Path) -> list[str]:
    (tmp / "file").write_text("")
    return [EM, f"--workdir={tmp / 'file' / 'run'}"]


def unlabelled(root: Path) -> None:
    (root / "labels/1.png").unlink()


def all_ignored(tmp: Path) -> list[str]:
    root = good_folder(tmp / "mine")
    for path in (root / "labels").iterdir():
        save(path, np.full((SIDE, SIDE), 255, np.uint8))
    copy = (ROOT / "configs/unet_folder.py").read_text()
    copy = copy.replace('"ignore": placeholder(int)', '"ignore": 255')
    copy = copy.replace('"remap": ((255, 1),)', '"remap": ()')
    (tmp / "mine.py").write_text(copy)
    return [f"--config={tmp / 'mine.py'}:smoke", f"--data_root={root}"]


def own_config(old: str, new: str) -> Callable[[Path], list[str]]:
    """A copy of the EM experiment with one thing changed."""

    def make(tmp: Path) -> list[str]:
        text = (ROOT / "configs/unet_em.py").read_text()
        assert old in text
        (tmp / "mine.py").write_text(text.replace(old, new))
        return [f"--config={tmp / 'mine.py'}:smoke"]

    return make


def no_config_in(tmp: Path) -> None:
    (tmp / "run").mkdir()


REFUSED_IMAGES = [
    ("NaN in an image", "1.tif", not_finite(np.nan), ("NaN or infinite", "Repair")),
    ("Inf in an image", "1.tif", not_finite(np.inf), ("NaN or infinite", "Repair")),
    ("RGBA image", "1.png", see_through, ("transparent part", "without transparency")),
    ("palette image", "1.png", in_mode("P"), ("palette", "grey or RGB")),
    ("CMYK image", "1.jpg", in_mode("CMYK"), ("CMYK", "grey or RGB")),
    ("zero-byte image", "1.png", lambda p: p.write_bytes(b""), ("empty", "0 bytes")),
    ("truncated image", "1.png", truncated, ("truncated",)),
    ("truncated TIFF", "1.tif", truncated, ("truncated",)),
]

TRAINING = [
    Case("no config", fixed(), ("--config=unet_em",)),
    Case(
        "missing config",
        fixed("--config=configs/unet_me.py"),
        ("configs/unet_me.py", "no file"),
    ),
    Case(
        "unknown preset",
        fixed("--config=configs/unet_em.py:smok"),
        ("smok", "isbi"),
    ),
    Case(
        "unknown key",
        fixed(EM, "--config.batchsize=4"),
        ("--config.batchsize", '"batch_size"'),
    ),
    Case(
        "unknown key in a group",
        fixed(EM, "--config.model.feature=4,8"),
        ("--config.model.feature", '"features"'),
    ),
    Case(
        "misspelt value",
        fixed(EM, "--config.batch_size=abc"),
        ("--config.batch_size=abc does not fit", "4."),
    ),
    Case(
        "misspelt value of a flag",
        fixed("evaluate", "--tile=abc"),
        ("--tile=abc cannot be read", "--help"),
    ),
    Case(
        "another value than there are",
        fixed("evaluate", "--workdir=a", "--checkpoint=newest"),
        ("--checkpoint needs a value, latest or best or a step, not newest.",),
    ),
    Case(
        "negative tile",
        fixed("evaluate", "--workdir=a", "--tile=-1"),
        ("--tile=-1 cannot be read", "-1"),
    ),
    Case(
        "negative tile in the config",
        own_config('"cell_class": 1', '"cell_class": 1, "tile": -16'),
        ("config.evaluation", "tile", "-16"),
    ),
    Case(
        "tile for training",
        fixed(EM, "--tile=64"),
        ("train does not use --tile", "evaluate, predict, report, export do"),
    ),
    Case(
        "config for evaluation",
        fixed("evaluate", EM, "--workdir=a"),
        ("evaluate does not use --config", "train, sweep, summary, plan, prepare do"),
    ),
    Case("unknown verb", fixed("trian", EM), ('"trian"', '"train"')),
    Case("unknown flag", fixed(EM, "--wrkdir=a"), ("no flag --wrkdir", '"--workdir"?')),
    Case(
        "unknown model",
        fixed(EM, "--config.model.name=unte"),
        ("config.model.name", "unte", '"unet"'),
    ),
    Case(
        "unknown normalization",
        fixed(EM, "--config.pipeline.normalization=rnage"),
        ("config.pipeline", "rnage", "'range'"),
    ),
    Case(
        "class weights of another length",
        own_config(
            '"name": "cross_entropy"',
            '"name": "cross_entropy", "class_weights": (1.0,)',
        ),
        ("config.loss", "class_weights has 1 entries for 2 classes"),
    ),
    Case(
        "unknown augmentation",
        own_config('("flip", {})', '("flop", {})'),
        ("flop", "flip"),
    ),
    Case(
        "cell class that does not exist",
        fixed(EM, "--config.evaluation.cell_class=2"),
        ("config.evaluation.cell_class is 2", "0 to 1"),
    ),
    Case(
        "unknown metric",
        own_config('"cell_class": 1', '"cell_class": 1, "best_metric": "mean_uoi"'),
        ("config.evaluation.best_metric", "mean_uoi", '"mean_iou"'),
    ),
    Case(
        "no data folder named",
        fixed(FOLDER),
        ("--data_root",),
    ),
    Case("missing data folder", training, ("mine", "not a folder", "--data_root")),
    Case(
        "empty data folder",
        with_folder(lambda root: [p.unlink() for p in root.glob("images/*")]),
        ("images is empty", "Put files"),
    ),
    Case(
        "data folder without images/",
        with_folder(lambda root: shutil.rmtree(root / "images")),
        ("images/ and labels/",),
    ),
    Case(
        "no image to evaluate on",
        lambda tmp: (
            good_folder(tmp / "mine")
            and training(tmp, "--config.data.validation_fraction=0.0")
        ),
        ('split "validation"', "--config.data.validation_fraction above 0"),
    ),
    Case("image without label", with_folder(unlabelled), ("no label", "1.png")),
    Case(
        "label without image",
        with_folder(lambda root: (root / "images/1.png").unlink()),
        ("no image", "1.png"),
    ),
    Case(
        "label of another size",
        with_folder(lambda root: save(root / "labels/1.png", grey(1, 41) * 0)),
        ("labels/1.png", "41 high x 41 wide", "40 high x 40 wide", "same size"),
    ),
    Case(
        "label value outside the spec",
        with_folder(lambda root: save(root / "labels/1.png", grey(1) * 0 + 7)),
        ("labels/1.png", "7 (1600 pixels)", "0 (background)", "remap"),
    ),
    Case(
        "16-bit label outside the spec",
        with_folder(deep_label),
        ("labels/1.tif", "label values that mean nothing", "labels=instances"),
    ),
    Case("all pixels ignored", all_ignored, ("ignored pixels", "labels/")),
    *(
        Case(what, with_folder(exchanged(name, write)), (f"images/{name}", *words))
        for what, name, write, words in REFUSED_IMAGES
    ),
    Case(
        "RGB image in a grey experiment",
        with_folder(exchanged("1.png", in_color)),
        ("images/1.png", "3 channels", "config.data.channels"),
    ),
    Case(
        "crop below the minimum size",
        fixed(
            "--config=configs/unet_em.py:paper", "--config.pipeline.input_size=64,64"
        ),
        ("config.pipeline.input_size", "64", "188"),
    ),
    Case(
        "crop that is not an accepted size",
        fixed(
            "--config=configs/unet_em.py:paper", "--config.pipeline.input_size=512,512"
        ),
        ("config.pipeline.input_size", "512", "508 and 524"),
    ),
    Case(
        "batch not divisible by the devices",
        fixed(EM, "--config.batch_size=6"),
        ("config.batch_size is 6", "4 devices", "4 or 8"),
    ),
    Case("workdir under a file", under_a_file, ("--workdir=", "folder of your own")),
    Case(
        "workdir in a place for no files",
        fixed(EM, "--workdir=/proc/segjax"),
        ("--workdir=/proc/segjax", "folder of your own"),
    ),
    Case("no workdir", fixed(EM, "--workdir="), ("--workdir",)),
]

USING = [
    Case(
        f"{verb}: {what}",
        lambda tmp, verb=verb, make=make: [
            verb,
            *make(tmp),
            *(
                (f"--input={tmp / 'in.png'}", f"--output={tmp / 'out'}")
                * (verb[0] == "p")
            ),
        ],
        words,
    )
    for verb in ("evaluate", "predict")
    for what, make, words in (
        (
            "missing workdir",
            lambda tmp: [f"--workdir={tmp / 'run'}"],
            ("run does not exist: give the folder", "train first"),
        ),
        (
            "workdir without a run",
            lambda tmp: [no_config_in(tmp) or f"--workdir={tmp / 'run'}"],
            ("holds no run", "config.json", "train first"),
        ),
        ("no workdir", lambda tmp: [], ("--workdir",)),
    )
] + [
    Case(
        "processes for a report",
        fixed("report", "--num_processes=2"),
        ("report does not use --num_processes", "train, evaluate, predict do"),
    ),
    Case(
        "processes without a place to meet",
        fixed("predict", "--num_processes=2"),
        ("--coordinator, --num_processes and --process_id belong together",),
    ),
]

PREDICTING = [
    *(
        Case(what, lambda tmp, w=write, n=name: w(tmp / n) or tmp / n, (name, *words))
        for what, name, write, words in REFUSED_IMAGES
    ),
    Case(
        "wrong number of channels for the checkpoint",
        lambda tmp: in_color(tmp / "1.png") or tmp / "1.png",
        ("1.png", "3 channels (RGB)", "1 channel (grey)", "Convert it to grey"),
    ),
    Case("missing input", lambda tmp: tmp / "1.png", ("1.png", "does not exist")),
    Case("empty input folder", lambda tmp: tmp, ("is empty", "Put files")),
]


def ids(cases):
    return [pytest.param(case, id=case.what.replace(" ", "_")) for case in cases]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def before_compilation(monkeypatch):
    """Fails a test that compiles the step, or predicts."""

    def reached(*_args, **_kwargs):
        raise AssertionError("the mistake was not found before compilation")

    monkeypatch.setattr(loop, "compile_step", reached)
    monkeypatch.setattr(Predictor, "pages", reached)


@pytest.fixture(scope="session")
def table(request):
    """Rows that `print_bad_input.py` asks for: input, sentence, exit code."""
    rows = []
    yield rows
    target = os.environ.get("SEGJAX_BAD_INPUT_TABLE")
    if target:
        lines = ["| input | what segjax says | exit code |", "|---|---|---|"]
        lines += [f"| {what} | {sentence} | {code} |" for what, sentence, code in rows]
        Path(target).write_text("\n".join(lines) + "\n")


def check(case, ended, table, tmp_path):
    sentence = ended.sentence.removeprefix("segjax: ").replace(str(tmp_path), "...")
    table.append((case.what, sentence.replace("|", "\\|"), ended.code))
    assert ended.code == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert ended.sentence.startswith("segjax: ")
    assert len(ended.sentence) < 600
    assert ended.sentence.endswith((".", "?"))
    for words in case.words:
        assert words in ended.sentence


@pytest.mark.parametrize("case", ids(TRAINING))
def test_training(case, main, cache_dir, tmp_path, before_compilation, table):
    arguments = case.make(tmp_path)
    if not any(a.startswith("--workdir") for a in arguments):
        arguments.append(f"--workdir={tmp_path / 'run'}")
    before = snapshot(tmp_path)
    check(case, main(*arguments, f"--cache_dir={cache_dir}"), table, tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("case", ids(USING))
def test_without_a_run(case, main, cache_dir, tmp_path, before_compilation, table):
    save(tmp_path / "in.png", grey())
    arguments = case.make(tmp_path)
    if arguments[0] != "predict":
        arguments.append(f"--cache_dir={cache_dir}")
    before = snapshot(tmp_path)
    check(case, main(*arguments), table, tmp_path)
    assert snapshot(tmp_path) == before


@pytest.fixture(scope="module")
def trained(cache_dir, tmp_path_factory, write_run):
    """A run of two steps."""
    from segjax import config

    smoke = config.load(str(ROOT / "configs/unet_em.py:smoke"))
    workdir = tmp_path_factory.mktemp("trained") / "run"
    return write_run(workdir, smoke, cache_dir=cache_dir)


@pytest.mark.parametrize("case", ids(PREDICTING))
def test_predicting(case, main, trained, tmp_path, before_compilation, table):
    folder = tmp_path / "in"
    folder.mkdir()
    source, out = case.make(folder), tmp_path / "out"
    arguments = (f"--workdir={trained}", f"--input={source}", f"--output={out}")
    before, run = snapshot(tmp_path), snapshot(trained)
    check(case, main("predict", *arguments), table, tmp_path)
    assert snapshot(tmp_path) == before
    assert snapshot(trained) == run


def test_predicting_into_the_folder_of_the_input(main, trained, tmp_path, table):
    save(tmp_path / "1.png", grey())
    arguments = (f"--input={tmp_path}", f"--output={tmp_path}")
    case = Case("results over the input", lambda _: [], ("--output=", "another folder"))
    before = snapshot(tmp_path)
    ended = main("predict", f"--workdir={trained}", *arguments)
    check(case, ended, table, tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_workdir_without_a_checkpoint(verb, main, trained, cache_dir, tmp_path, table):
    (tmp_path / "run").mkdir()
    shutil.copy(trained / "config.json", tmp_path / "run")
    save(tmp_path / "in.png", grey())
    more = {
        "evaluate": [f"--cache_dir={cache_dir}"],
        "predict": [f"--input={tmp_path / 'in.png'}", f"--output={tmp_path / 'out'}"],
    }
    before = snapshot(tmp_path)
    ended = main(verb, f"--workdir={tmp_path / 'run'}", *more[verb])
    case = Case(
        f"{verb}: workdir without a checkpoint",
        lambda _: [],
        ("There is no checkpoint", "Train first"),
    )
    check(case, ended, table, tmp_path)
    assert snapshot(tmp_path) == before


def test_a_damaged_newest_checkpoint(main, trained, cache_dir, tmp_path, table):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    files = sorted((run / "checkpoints/2/state/d").iterdir())
    cut(max(files, key=lambda path: path.stat().st_size))
    ended = main("evaluate", f"--workdir={run}", f"--cache_dir={cache_dir}")
    assert ended.code == 0, ended.stderr
    logged = [line for line in ended.stderr.splitlines() if "damaged" in line]
    assert len(logged) == 1
    assert "checkpoint of step 2" in logged[0]
    assert logged[0].endswith("Falling back to the one before.")
    assert '"step": 1' in ended.stdout.splitlines()[-1]
    table.append(
        (
            "damaged latest checkpoint",
            logged[0].replace(str(tmp_path), "..."),
            ended.code,
        )
    )


def test_a_data_folder_that_may_not_be_read(
    main, tmp_path, before_compilation, monkeypatch, table
):
    """Said by the system for others; the superuser may read everything."""
    root = good_folder(tmp_path / "mine")
    iterdir = Path.iterdir

    def refuse(self):
        if self == root / "images":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    ended = main(*training(tmp_path), f"--workdir={tmp_path / 'run'}")
    case = Case("unreadable data folder", lambda _: [], ("images", "Permission denied"))
    check(case, ended, table, tmp_path)


@pytest.mark.parametrize("side", [1, 7])
def test_images_below_the_minimum_size_are_mirrored(side, main, trained, tmp_path):
    save(tmp_path / "in/tiny.png", grey(0, side))
    ended = main(
        "predict",
        f"--workdir={trained}",
        f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'out'}",
    )
    assert ended.code == 0, ended.stderr
    with Image.open(tmp_path / "out/tiny.png") as label:
        assert label.size == (side, side)


def test_sixteen_bits_are_read(main, trained, tmp_path):
    save(tmp_path / "in/deep.tif", grey().astype(np.uint16) * 257)
    ended = main(
        "predict",
        f"--workdir={trained}",
        f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'out'}",
    )
    assert ended.code == 0, ended.stderr
    assert tifffile.imread(tmp_path / "out/deep.tif").shape == (SIDE, SIDE)


def test_in_a_process_of_its_own(run_segjax, tmp_path):
    ended = run_segjax("trian", EM, f"--workdir={tmp_path / 'run'}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == 'segjax: "trian" is not a verb. Did you mean "train"?\n'
    assert not (tmp_path / "run").exists()
