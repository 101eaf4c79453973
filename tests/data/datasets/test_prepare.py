import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segjax.data.datasets.prepare import expanded, open_builder, prepare, records, tfds
from segjax.errors import UserError

ROOT = Path(__file__).resolve().parents[3]

BUILDER = '''
import os, time
import numpy as np
from segjax.data.datasets.prepare import prepare, records, tfds


class Squares(tfds.core.GeneratorBasedBuilder):
    """Two records, slowly."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        shape = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8, encoding="bytes")
        label = tfds.features.Tensor(shape=(None, 4), dtype=np.uint8, encoding="bytes")
        features = {"image": shape, "label": label, "name": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "test": self._generate_examples(0)}

    def _generate_examples(self, rows):
        for i in range(3):
            time.sleep(float(os.environ.get("SLOW", "0")))
            image = np.full((4, 4, 1), i, np.uint8)
            label = np.full((rows, 4), i, np.uint8)
            yield i, {"image": image, "label": label, "name": f"square/{i}"}
'''


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """The builder's class, as a module on disk so that other processes have it too."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "squares.py").write_text(BUILDER)
    sys.path.insert(0, str(folder))
    try:
        import squares as module

        yield module.Squares
    finally:
        sys.path.remove(str(folder))
        del sys.modules["squares"]


def build(cls, cache_dir):
    return cls(data_dir=str(cache_dir), file_format="array_record")


def start(cls, cache_dir, slow):
    """Starts another process that prepares the data set and prints how it went."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from squares import Squares, prepare, records\n"
        "b = Squares(data_dir=sys.argv[2], file_format='array_record')\n"
        "print('ready', flush=True)\n"
        "prepare(b)\n"
        "print([r['name'] for r in records(b, 'train')])\n"
    )
    package = Path(sys.modules[cls.__module__].__file__).parent
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, package, cache_dir],
        env=os.environ | {"SLOW": str(slow), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def version_folders(cache_dir):
    return sorted(path.name for path in (cache_dir / "squares").iterdir())


def test_records_come_back_in_order_without_empty_labels(squares, tmp_path):
    builder = build(squares, tmp_path)
    prepare(builder)
    train, test = records(builder, "train"), records(builder, "test")
    assert [record["name"] for record in train] == ["square/0", "square/1", "square/2"]
    np.testing.assert_array_equal(train[-1]["label"], np.full((4, 4), 2))
    assert "label" not in test[0]
    assert [record["name"] for record in test[1:]] == ["square/1", "square/2"]
    for index in (3, -4):
        with pytest.raises(IndexError, match=rf"record {index} of 3"):
            train[index]


def test_nothing_is_printed_and_nothing_remains_beside_the_data(
    squares, tmp_path, capfd
):
    prepare(build(squares, tmp_path))
    assert capfd.readouterr() == ("", "")
    assert version_folders(tmp_path) == ["1.0.0"]


def test_the_second_time_writes_nothing_and_needs_no_lock(
    squares, tmp_path, monkeypatch
):
    prepare(build(squares, tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    builder = build(squares, tmp_path)
    monkeypatch.setattr(builder, "download_and_prepare", None)
    monkeypatch.setattr("segjax.data.datasets.prepare.locked", None)
    prepare(builder)
    assert builder.info.splits["train"].num_examples == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_builder_made_before_another_one_built_reads_what_that_wrote(
    squares, tmp_path
):
    early, other = build(squares, tmp_path), build(squares, tmp_path)
    prepare(other)
    prepare(early)
    assert early.info.splits["train"].num_examples == 3
    assert len(records(early, "train")) == 3


def test_two_processes_at_once_build_it_once(squares, tmp_path, patience):
    processes = [start(squares, tmp_path, slow=0.1) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=patience)
        assert process.returncode == 0, err
        assert out.splitlines()[-1] == "['square/0', 'square/1', 'square/2']"
    assert version_folders(tmp_path) == ["1.0.0"]


def test_a_process_killed_half_way_leaves_nothing_that_counts(
    squares, tmp_path, patience
):
    process = start(squares, tmp_path, slow=30)
    deadline = time.monotonic() + patience
    while not list(tmp_path.glob("squares/incomplete.*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=patience)
    assert [name[:11] for name in version_folders(tmp_path)] == ["incomplete."]
    builder = build(squares, tmp_path)
    prepare(builder)
    assert len(records(builder, "train")) == 3
    assert version_folders(tmp_path) == ["1.0.0"]


def test_what_links_lead_to_is_not_removed_nor_written(squares, tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs/a.png").write_bytes(b"precious")
    (tmp_path / "data/squares").mkdir(parents=True)
    left = tmp_path / "data/squares/incomplete.ABC_1.0.0"
    left.symlink_to(tmp_path / "photographs")
    (tmp_path / "data/.squares.lock").symlink_to(tmp_path / "photographs/a.png")
    prepare(build(squares, tmp_path / "data"))
    assert (tmp_path / "photographs/a.png").read_bytes() == b"precious"
    assert version_folders(tmp_path / "data") == ["1.0.0", left.name]


def test_without_locks_the_slower_of_two_takes_what_is_there(
    squares, tmp_path, monkeypatch
):
    slower = build(squares, tmp_path)
    original = slower.download_and_prepare

    def overtaken(**arguments):
        original(**arguments)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(slower, "download_and_prepare", overtaken)
    prepare(slower)
    assert len(records(slower, "train")) == 3


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.unlink(), "train.array_record-00000-of-00001 is missing"),
        (lambda path: (path.parent / "dataset_info.json").unlink(), "is damaged ("),
        (lambda path: (path.parent / "dataset_info.json").write_text("{"), "damaged ("),
    ],
    ids=["shard gone", "info gone", "info cut"],
)
def test_a_prepared_data_set_that_was_damaged_is_reported(
    squares, tmp_path, spoil, sentence
):
    builder = build(squares, tmp_path)
    prepare(builder)
    (shard,) = tmp_path.glob("squares/1.0.0/*train.array_record*")
    spoil(shard)
    with pytest.raises(UserError) as caught:
        prepare(builder)
    assert sentence in str(caught.value)
    assert f"{tmp_path / 'squares' / '1.0.0'}" in str(caught.value)
    assert "Remove this folder" in str(caught.value)


def flip_a_bit(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def filled(path):
    """Where the bytes of a shard are that are not its padding."""
    return np.flatnonzero(np.frombuffer(path.read_bytes(), np.uint8))


def test_any_bit_of_a_record_that_changed_is_reported(squares, tmp_path):
    prepare(build(squares, tmp_path))
    (shard,) = tmp_path.glob("squares/1.0.0/*train.array_record*")
    whole = shard.read_bytes()
    accepted = []
    for at in filled(shard)[::7]:
        flip_a_bit(shard, at)
        with contextlib.suppress(UserError):
            builder = build(squares, tmp_path)
            prepare(builder)
            labels = [record["label"][0, 0] for record in records(builder, "train")]
            accepted.append(labels == [0, 1, 2])
        shard.write_bytes(whole)
    assert all(accepted)
    assert len(accepted) < 20


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"3"', '"2"'),
        lambda text: text.replace('"3"', '"4"'),
        lambda text: text.replace('"3"', "null"),
        lambda text: "[" * 100_000,
        lambda text: "3",
    ],
    ids=["a record less", "one more", "null", "nested", "no object"],
)
def test_a_description_that_does_not_fit_the_records_is_reported(
    squares, tmp_path, change
):
    prepare(build(squares, tmp_path))
    path = tmp_path / "squares/1.0.0/dataset_info.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=r"squares/1\.0\.0 is damaged \(.*Remove this"):
        prepare(open_builder(squares, str(tmp_path)))


def test_records_of_another_shape_are_reported(squares, tmp_path):
    builder = build(squares, tmp_path)
    prepare(builder)

    def refuse(record):
        raise ValueError("masks are not of their image's size")

    (first, *_) = records(builder, "train")
    assert first["label"].shape == (4, 4)
    with pytest.raises(UserError, match=r"damaged \(masks are not of their image's"):
        records(builder, "train", refuse)[0]


def test_a_fault_of_the_disk_is_not_reported_as_damage(squares, tmp_path):
    builder = build(squares, tmp_path)
    prepare(builder)

    def fail(record):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(UserError) as caught:
        records(builder, "train", fail)[0]
    assert "1.0.0 cannot be read (Input/output error). Try again" in str(caught.value)
    assert "Remove" not in str(caught.value)


def test_the_home_folder_may_be_written_as_a_tilde(squares, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    builder = squares(data_dir=expanded("~/data"), file_format="array_record")
    prepare(builder)
    assert expanded(None) is None
    assert len(records(builder, "train")) == 3
    assert version_folders(tmp_path / "data") == ["1.0.0"]


def test_a_data_folder_that_is_a_file_is_reported(squares, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(UserError, match=r"file cannot take .*'squares'.*--cache_dir"):
        prepare(build(squares, path))


@pytest.mark.parametrize(
    ("number", "reason"), [(13, "Permission denied"), (30, "Read-only"), (28, "space")]
)
def test_a_folder_that_cannot_be_written_is_reported(
    squares, tmp_path, monkeypatch, number, reason
):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(squares, "_split_generators", fail)
    with pytest.raises(UserError) as caught:
        prepare(build(squares, tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert reason in str(caught.value)
    assert "--cache_dir" in str(caught.value)
    assert version_folders(tmp_path) == []


def test_a_sentence_from_inside_the_builder_arrives_as_it_was(
    squares, tmp_path, monkeypatch
):
    def examples(self, rows):
        yield 0, {"image": np.zeros((4, 4, 1), np.uint8), "label": b"", "name": ""}

    def complain(self, rows):
        raise UserError("a.tif is not right. Repair it.")
        yield

    monkeypatch.setattr(squares, "_generate_examples", complain)
    with pytest.raises(UserError, match=r"^a\.tif is not right\. Repair it\.$"):
        prepare(build(squares, tmp_path))
    monkeypatch.setattr(squares, "_generate_examples", examples)
    with pytest.raises(RuntimeError, match="'squares' could not be built"):
        prepare(build(squares, tmp_path))
    assert version_folders(tmp_path) == []


def test_tfds_without_its_core_is_reported_as_a_protobuf_matter():
    program = (
        "import sys, types\n"
        "sys.modules['tensorflow_datasets'] = types.ModuleType('tensorflow_datasets')\n"
        "try: import segjax.data.datasets.prepare\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith("UserError tensorflow_datasets"), done.stderr
    assert "pip install --upgrade 'protobuf>=6.31.1,<8'" in done.stdout


def test_tensorflow_stays_outside(squares, tmp_path):
    prepare(build(squares, tmp_path))
    assert "tensorflow" not in sys.modules
    assert tfds.core is not None
    assert logging.getLogger("tensorflow").handlers == []
