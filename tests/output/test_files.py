"""Single files: whole, of the usual rights, never written through a link; locks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.errors import UserError
from segjax.output.files import locked, require_writable, whole_file

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_there_when_it_is_whole_and_not_before(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_breaks_off_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"older")

    def interrupted():
        with whole_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_are_those_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "a.txt") as file:
            file.write(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_link_is_replaced_and_what_it_leads_to_is_kept(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "soft").symlink_to("precious")
    os.link(tmp_path / "precious", tmp_path / "hard")
    for name in ("soft", "hard"):
        with whole_file(tmp_path / name) as file:
            file.write(b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_no_two_partial_files_have_one_name(tmp_path):
    with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as other:
        assert one.name != other.name


def test_a_folder_that_is_missing_is_checked_and_not_made(tmp_path):
    require_writable(tmp_path / "new" / "deep")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        require_writable(tmp_path / "file" / "deep")
    assert os.listdir(tmp_path) == ["file"]


def test_one_holds_a_lock_at_a_time(tmp_path):
    path = tmp_path / ".lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path):
        pass
    with locked(path):
        pass


def test_a_lock_writes_nothing_to_what_lies_there(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    for name in ("precious", "link"):
        with (
            locked(tmp_path / name),
            pytest.raises(BlockingIOError),
            locked(tmp_path / name),
        ):
            pass
        assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_lock_makes_no_file_where_a_link_leads(tmp_path):
    (tmp_path / ".lock").symlink_to("elsewhere")
    with (
        pytest.raises(UserError, match=r"\.lock is a link that leads nowhere"),
        locked(tmp_path / ".lock"),
    ):
        pass
    assert os.listdir(tmp_path) == [".lock"]


def test_without_fcntl_all_is_imported_and_a_lock_is_a_sentence(tmp_path):
    """As on Windows, where Python has no such module."""
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "import segjax.data.datasets.prepare, segjax.runs.predict, segjax.training.loop\n"
        "from segjax.training.run_files.workdir import lock\n"
        "try:\n  with lock(Path(sys.argv[1])): pass\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.startswith(f"UserError {tmp_path / '.lock'} cannot be locked")
    assert "no module fcntl" in done.stdout
    assert os.listdir(tmp_path) == []
