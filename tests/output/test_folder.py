"""What a user owns is never overwritten: the files of a command, planned and written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.errors import UserError
from segjax.output import folder as folder_module
from segjax.output.folder import Outputs
from segjax.output.manifest import NAME

ROOT = Path(__file__).resolve().parents[2]


def write(folder, contents, **options):
    """Writes files as a command does: all are planned, then made one by one."""
    outputs = Outputs(folder, [(name, "input") for name in contents], **options)
    outputs.make_folder()
    for name, content in contents.items():
        with outputs.file(name) as file:
            file.write(content)


def test_what_segjax_wrote_is_replaced(tmp_path):
    write(tmp_path / "out", {"a.png": b"1", "b.png": b"1"})
    write(tmp_path / "out", {"a.png": b"2", "c.png": b"2"})
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    assert found == {"a.png": b"2", "b.png": b"1", "c.png": b"2"}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a.png"], r"a\.png would be .* it has been changed since\. .* replace it\."),
        (["a.png", "b.png"], r"a\.png and 1 other file would be .* replace them\."),
        (
            ["c.png", "b.png", "a.png"],
            r"c\.png and 2 other files would .* replace them",
        ),
    ],
)
def test_files_of_the_user_are_refused_before_anything_is_written(
    tmp_path, names, sentence
):
    for name in names:
        (tmp_path / name).write_bytes(b"by hand")
    with pytest.raises(UserError, match=sentence) as caught:
        write(tmp_path, dict.fromkeys(["new.png", *names], b"2"))
    assert "Give another --output, or --overwrite" in str(caught.value)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"by hand"}
    write(tmp_path, dict.fromkeys(["new.png", *names], b"2"), overwrite=True)
    assert {path.read_bytes() for path in tmp_path.glob("*.png")} == {b"2"}
    write(tmp_path, dict.fromkeys(names, b"3"))  # now it is segjax that wrote them


def test_a_file_that_was_corrected_belongs_to_the_user(tmp_path):
    write(tmp_path, {"a.png": b"1", "b.png": b"1"})
    (tmp_path / "b.png").write_bytes(b"corrected")
    with pytest.raises(UserError, match=r"b\.png would be overwritten"):
        write(tmp_path, {"a.png": b"2", "b.png": b"2"})
    assert (tmp_path / "a.png").read_bytes() == b"1"
    assert (tmp_path / "b.png").read_bytes() == b"corrected"
    write(tmp_path, {"a.png": b"2"})


def test_a_link_belongs_to_the_user_and_is_replaced_itself(tmp_path):
    (tmp_path / "precious").write_bytes(b"1")
    write(tmp_path / "out", {"a.png": b"1"})
    (tmp_path / "out/a.png").unlink()
    (tmp_path / "out/a.png").symlink_to("../precious")  # of the very content
    with pytest.raises(UserError, match=r"a\.png would be overwritten"):
        write(tmp_path / "out", {"a.png": b"2"})
    write(tmp_path / "out", {"a.png": b"2"}, overwrite=True)
    assert not (tmp_path / "out/a.png").is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"1"


def test_a_link_that_leads_nowhere_belongs_to_the_user(tmp_path):
    (tmp_path / "a.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"a\.png would be overwritten"):
        write(tmp_path, {"a.png": b"2"})
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "link",
    [
        lambda own, other: other.symlink_to(own),
        lambda own, other: os.link(own, other),
        lambda own, other: own.rename(other),
    ],
    ids=["soft link", "hard link", "the file itself"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_an_output(tmp_path, link, overwrite):
    (tmp_path / "in").mkdir()
    write(tmp_path / "out", {"a.png": b"1"})  # so that segjax owns it
    link(tmp_path / "out/a.png", tmp_path / "in/a.png")
    given = tmp_path / "in/a.png"
    if not (tmp_path / "out/a.png").exists():
        (tmp_path / "out/a.png").symlink_to(given)
    with pytest.raises(
        UserError, match=r"out/a\.png would .* it is the input .*in/a\.png"
    ):
        write(tmp_path / "out", {"a.png": b"2"}, inputs=[given], overwrite=overwrite)
    assert given.read_bytes() == b"1"


def test_inputs_are_looked_at_only_where_something_would_be_replaced(tmp_path):
    def inputs():
        raise AssertionError
        yield

    write(tmp_path, {"a.png": b"1"}, inputs=inputs())


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.png", "a.png"), ("a.png", "A.PNG"), ("\u00e9.png", "e\u0301.png")],
    ids=["the same", "case", "form of Unicode"],
)
def test_two_files_of_one_name_are_refused(tmp_path, one, other):
    planned = [(one, Path("in/x.png")), (other, Path("in/y.png"))]
    with pytest.raises(UserError, match=r"in/x\.png and y\.png would both give"):
        Outputs(tmp_path / "out", planned)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("lying", "name"), [("A.PNG", "a.png"), ("e\u0301.png", "\u00e9.png")]
)
def test_a_name_that_some_disk_takes_for_that_of_a_file_there_is_refused(
    tmp_path, lying, name
):
    (tmp_path / lying).write_bytes(b"by hand")
    with pytest.raises(UserError, match=f"{lying} would be overwritten"):
        write(tmp_path, {name: b"1"})
    assert os.listdir(tmp_path) == [lying]


@pytest.mark.parametrize("target", ["nowhere", "out"])
def test_a_folder_that_is_a_link_to_nowhere_is_a_sentence(tmp_path, target):
    (tmp_path / "out").symlink_to(target)
    with pytest.raises(UserError, match=r"--output=.*out is a link that leads nowhere"):
        write(tmp_path / "out", {"a.png": b"1"})


def test_a_folder_in_the_place_of_a_file_is_named_whatever_the_flag(tmp_path):
    (tmp_path / "a.png").mkdir()
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"a\.png is a folder, .* Rename it, or"):
            write(tmp_path, {"a.png": b"1"}, overwrite=overwrite)


def test_a_link_to_a_folder_within_is_not_written_through(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images").symlink_to("../precious")
    with pytest.raises(UserError, match=r"out/images is a link"):
        write(tmp_path / "out", {"images/a.png": b"1"}, overwrite=True)
    assert os.listdir(tmp_path / "precious") == []
    (tmp_path / "link").symlink_to("precious")  # the user's own way to say where
    write(tmp_path / "link", {"a.png": b"1"})
    assert (tmp_path / "precious/a.png").read_bytes() == b"1"


def test_a_file_in_the_place_of_a_folder_within_is_a_sentence(tmp_path):
    (tmp_path / "images").write_bytes(b"mine")
    with pytest.raises(
        UserError, match=r"images cannot be written \(Not a directory\)"
    ):
        write(tmp_path, {"images/a.png": b"1"})


def test_something_of_the_user_in_the_place_of_the_list_is_not_touched(tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(UserError, match=f"{NAME} would be overwritten"):
        write(tmp_path, {"a.png": b"1"})
    assert (tmp_path / NAME).read_bytes() == b"mine"
    write(tmp_path, {"a.png": b"1"}, overwrite=True)
    write(tmp_path, {"a.png": b"2"})


def test_a_link_in_the_place_of_the_list_is_never_written_through(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).symlink_to("../precious")
    with pytest.raises(UserError, match=f"{NAME} would be overwritten"):
        write(tmp_path / "out", {"a.png": b"1"})
    write(tmp_path / "out", {"a.png": b"1"}, overwrite=True)
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_what_appears_meanwhile_is_not_overwritten(tmp_path):
    outputs = Outputs(tmp_path, [("a.png", "x"), ("b.png", "y")])
    with outputs.file("a.png") as file:
        file.write(b"1")
        (tmp_path / "a.png").write_bytes(b"by hand")
        (tmp_path / "b.png").symlink_to("a.png")
        with pytest.raises(UserError, match=r"b\.png would be"), outputs.file("b.png"):
            pass
        (tmp_path / "a.png").unlink()
    assert (tmp_path / "a.png").read_bytes() == b"1"


def test_files_of_another_process_may_be_replaced(tmp_path):
    one, other = (Outputs(tmp_path, [("a.png", "x")]) for _ in range(2))
    for outputs, content in ((one, b"1"), (other, b"2"), (one, b"3")):
        with outputs.file("a.png") as file:
            file.write(content)
    assert (tmp_path / "a.png").read_bytes() == b"3"
    write(tmp_path, {"a.png": b"4"})


def test_a_kill_just_before_a_file_takes_its_place_leaves_the_older_one_known(
    tmp_path, monkeypatch
):
    write(tmp_path, {"a.png": b"1"})

    def killed(*paths):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(SystemExit):
            write(tmp_path, {"a.png": b"2"})
    assert (tmp_path / "a.png").read_bytes() == b"1"
    write(tmp_path, {"a.png": b"2"})


KILLED = """
import os, signal, sys
from pathlib import Path
from segjax.output.folder import Outputs

outputs = Outputs(Path(sys.argv[1]), [(f"{i}.png", "x") for i in range(5)])
outputs.make_folder()
for i in range(5):
    with outputs.file(f"{i}.png") as file:
        file.write(sys.argv[2].encode())
        if i == 3:
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_files_that_were_complete_before_a_kill_are_known(tmp_path):
    out = tmp_path / "out"
    for content in "12":
        command = [sys.executable, "-c", KILLED, str(out), content]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        found = {path.name: path.read_text() for path in out.glob("[0-9]*")}
        assert found == {f"{i}.png": content for i in range(3)}
    write(out, {f"{i}.png": b"3" for i in range(5)})


def test_two_processes_write_into_one_folder(tmp_path):
    program = KILLED.replace("if i == 3", "if False").replace(
        '{i}.png"', '{sys.argv[2]}{i}.png"'
    )
    commands = [[sys.executable, "-c", program, str(tmp_path), x] for x in "ab"]
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0]
    write(tmp_path, {f"{x}{i}.png": b"3" for i in range(5) for x in "ab"})


def test_a_file_is_read_again_only_where_it_is_replaced(tmp_path, monkeypatch):
    write(tmp_path, {f"{i}.png": b"1" for i in range(9)})
    looked = []
    knows = folder_module.Manifest.knows
    monkeypatch.setattr(
        folder_module.Manifest,
        "knows",
        lambda self, path: looked.append(path.name) or knows(self, path),
    )
    write(tmp_path, {"3.png": b"2", "new.png": b"2"})
    assert looked == ["3.png"]


def test_where_no_flag_names_the_folder_none_is_advised(tmp_path):
    (tmp_path / "curves.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"Move or rename it\.$") as caught:
        Outputs(tmp_path, [("curves.png", "the run")], flag=None)
    assert "--" not in str(caught.value)


def test_an_earlier_version_that_was_brought_back_belongs_to_the_user(tmp_path):
    for content in (b"1", b"2"):
        write(tmp_path, {"a.png": content, "b.png": content})
    (tmp_path / "a.png").write_bytes(b"1")
    with pytest.raises(UserError, match=r"a\.png would be overwritten"):
        write(tmp_path, {"a.png": b"3", "b.png": b"3"})
    assert (tmp_path / "a.png").read_bytes() == b"1"


def test_files_that_do_not_change_are_listed_once(tmp_path):
    for _ in range(3):
        write(tmp_path, {"a.png": b"1", "b.png": b"1"})
    lines = (tmp_path / NAME).read_bytes().splitlines()
    assert len(lines) == 4
    assert lines[-1] == b'{"completed": true}'


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    write(tmp_path, {"a.png": b"1"})
    outputs = Outputs(tmp_path, [("a.png", "x")])
    found = (tmp_path / "a.png").stat()
    (tmp_path / "a.png").write_bytes(b"2")
    os.utime(tmp_path / "a.png", ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(UserError, match=r"a\.png would be"), outputs.file("a.png"):
        pass
    assert (tmp_path / "a.png").read_bytes() == b"2"


def test_only_errors_of_its_own_are_reported_as_those_of_a_file(tmp_path):
    outputs = Outputs(tmp_path, [("a.png", "x")])
    with pytest.raises(FileNotFoundError), outputs.file("a.png"):
        (tmp_path.parent / "next_input.png").read_bytes()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for error in (full, OSError("4 requested and 2 written")):  # NumPy gives no number
        with (
            pytest.raises(UserError, match=r"a\.png cannot be written"),
            outputs.file("a.png"),
        ):
            raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a" * 300, "\u00e9" * 130, "images/" + "a" * 256])
def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(UserError, match=r"names in .* have at most 255 bytes\. Rename"):
        write(tmp_path / "out", {"b.png": b"1", name: b"1"})
    assert os.listdir(tmp_path) == []
