"""How commands end: signals, closed streams, memory and disks that do not suffice."""

import contextlib
import errno
import io
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax import config as config_lib
from segjax import ending
from segjax.errors import UserError
from segjax.runs import load
from segjax.training import loop
from segjax.training.checkpoints import checkpoint_files
from segjax.training.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
EM = "--config=configs/unet_em.py:smoke"
LONG = (
    *(EM, "--config.num_steps=5000", "--config.log_every=1"),
    *("--config.eval_every=1000", "--config.checkpoint_every=1000"),
)
LINE = "segjax: interrupted.\n"
PATIENCE = 900.0
"""Seconds: a machine may have much else to do."""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, cache_dir, write_run):
    """A run that has all its steps."""
    config = config_lib.load(str(ROOT / EM[len("--config=") :]))
    workdir = tmp_path_factory.mktemp("ending") / "run"
    return write_run(workdir, config, cache_dir=cache_dir)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (300, 400), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def read_until(process, words):
    """Reads lines of standard error until one has the words; returns them all."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} never came: {''.join(lines)}")


def start_code(code, *arguments, **streams):
    """Starts Python code in a process of its own, with arguments for the command line."""
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        text=True,
        **pipes | streams,
    )


def start_work(body, **streams):
    """Starts a command whose work is this code."""
    code = (
        "import ctypes, os, signal, sys, threading, time\n"
        "from segjax import ending\n"
        "ending.PATIENCE = 1.0\n"
        f"def work():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "ending.run(work, remedy=str, wants_traceback=bool)\n"
    )
    return start_code(code, **streams)


AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
class AtImport:
    def find_spec(name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, AtImport)
from segjax.main import run
run()
"""

AT_CALL = """
import os, signal
import {module} as module
def at_call(*args, **kwargs):
    {owner}.{name} = before
    os.kill(os.getpid(), signal.SIGINT)
    return before(*args, **kwargs)
before, {owner}.{name} = {owner}.{name}, at_call
from segjax.main import run
run()
"""


@pytest.mark.parametrize("name", ["segjax.errors", "absl", "jax"])
def test_ctrl_c_while_something_is_imported_is_one_line(name):
    process = start_code(AT_IMPORT.format(name=name), "summary", EM)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr) == (130, "", LINE)


@pytest.mark.parametrize(
    ("verb", "module", "owner", "name"),
    [
        ("evaluate", "segjax.predict.tiled", "module.Predictor", "_dispatch"),
        ("predict", "PIL.Image", "module.Image", "save"),
    ],
    ids=["evaluate, at work", "predict, writing"],
)
def test_ctrl_c_ends_a_verb_with_one_line(
    verb, module, owner, name, workdir, cache_dir, images, tmp_path
):
    arguments = {
        "evaluate": (f"--workdir={workdir}", f"--cache_dir={cache_dir}"),
        "predict": (
            f"--workdir={workdir}",
            f"--input={images}",
            f"--output={tmp_path / 'out'}",
        ),
    }
    code = AT_CALL.format(module=module, owner=owner, name=name)
    process = start_code(code, verb, *arguments[verb])
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.endswith(LINE)
    assert "Traceback" not in stderr
    assert list((tmp_path / "out").glob("*.png")) == []


def test_ctrl_c_ends_a_process_whose_stderr_nobody_reads():
    """As `segjax ... 2>&1 | less`, once the pipe is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    process = start_work(
        """
        print("ready", flush=True)
        print("more", file=sys.stderr, flush=True)
        """,
        stderr=writer,
    )
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=PATIENCE) == 130
        finally:
            process.kill()
            os.close(reader)
            os.close(writer)


IN_COMPILED_CODE = """
mutex = ctypes.create_string_buffer(256)
lock = ctypes.CDLL(None).pthread_mutex_lock
lock(mutex)
print("ready", flush=True)
lock(mutex)  # for ever, whatever signals come
"""


@pytest.mark.parametrize("then", [(), (signal.SIGTERM,), (signal.SIGINT,)])
def test_ctrl_c_ends_compiled_code_whatever_signal_follows(then):
    terminates = "signal.signal(signal.SIGTERM, lambda *_: None)"
    process = start_work(terminates + IN_COMPILED_CODE)
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGINT, *then):
                process.send_signal(number)
            assert process.wait(timeout=PATIENCE) == 130
        finally:
            process.kill()
        assert process.stderr.read() == LINE


def test_a_second_ctrl_c_does_not_cut_the_cleaning_up_short_with_a_traceback():
    process = start_work(
        """
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            ending.os._exit = lambda code: time.sleep(60)
            signal.raise_signal(signal.SIGINT)
            print("cleaned up", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert stdout == "cleaned up\n"
    assert "Traceback" not in stderr


def test_sigterm_closes_what_is_open():
    process = start_work(
        """
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("closed", flush=True)
        """
    )
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 143
        finally:
            process.kill()
        assert process.stdout.read() == "closed\n"
        assert process.stderr.read() == ""


def test_ctrl_c_after_all_is_done_changes_nothing():
    process = start_work(
        """
        def late():
            threading.main_thread().join()
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=late).start()
        """
    )
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr) == (0, "", "")


def test_ctrl_c_before_the_first_step_leaves_at_once(start_segjax, cache_dir, tmp_path):
    process = start_segjax(*LONG, f"--workdir={tmp_path}", f"--cache_dir={cache_dir}")
    read_until(process, "Compiling the training step")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stderr.endswith(LINE)
    assert "Traceback" not in stderr
    assert stdout == ""
    assert time.monotonic() - began < ending.PATIENCE + 8
    assert not checkpoint_files.steps_on_disk(tmp_path)


@pytest.fixture
def stopped(main, cache_dir, tmp_path, monkeypatch):
    """Trains with a signal at step 2; returns how that ended."""

    def train(number, *arguments):
        update = Progress.update

        def stop(self, step):
            update(self, step)
            if step == 2:
                signal.raise_signal(number)

        monkeypatch.setattr(Progress, "update", stop)
        folders = (f"--workdir={tmp_path}", f"--cache_dir={cache_dir}")
        return main(*LONG, *folders, *arguments)

    return train


def test_the_first_ctrl_c_of_a_training_saves_and_leaves(stopped, tmp_path):
    ended = stopped(signal.SIGINT)
    assert ended.code == 130
    assert "Traceback" not in ended.stderr
    assert "again to stop at once" in ended.stderr
    result = json.loads(ended.stdout)
    assert result["interrupted"]
    (about,) = checkpoint_files.abouts_on_disk(tmp_path)
    assert about["step"] == result["step"] >= 2
    assert about["parameters_sha256"] == result["parameters_sha256"]


SECOND = """
import os, signal
from segjax.training import progress
from segjax.training.checkpoints import checkpoint
update, save = progress.Progress.update, checkpoint.Checkpoints.save
def first(self, step):
    update(self, step)
    if step == 5:
        os.kill(os.getpid(), signal.SIGINT)
def second(self, state, *args):
    save(self, state, *args)
    if int(state.step) == 6:
        os.kill(os.getpid(), signal.SIGINT)
progress.Progress.update, checkpoint.Checkpoints.save = first, second
from segjax.main import run
run()
"""


def test_the_second_ctrl_c_of_a_training_leaves_at_once(main, cache_dir, tmp_path):
    """It comes while a checkpoint is written, which does not harm the next start."""
    arguments = (
        *(EM, f"--workdir={tmp_path}", f"--cache_dir={cache_dir}"),
        *("--config.num_steps=8", "--config.eval_every=8"),
        "--config.checkpoint_every=2",
    )
    process = start_code(SECOND, *arguments)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.endswith(LINE)
    assert "again to stop at once" in stderr
    assert "Traceback" not in stderr
    again = main(*arguments)
    assert again.code == 0, again.stderr
    resumed = re.search(r"Resuming at step (\d)", again.stderr)
    assert int(resumed[1]) in (4, 6)
    assert json.loads(again.stdout)["step"] == 8


def test_sigterm_has_the_exit_code_that_is_asked_for(stopped):
    ended = stopped(signal.SIGTERM, "--interrupted_exit_code=75")
    assert ended.code == 75
    assert json.loads(ended.stdout)["interrupted"]


@pytest.mark.slow
def test_training_outlives_those_who_read_what_it_says(
    start_segjax, cache_dir, tmp_path
):
    process = start_segjax(EM, f"--workdir={tmp_path}", f"--cache_dir={cache_dir}")
    read_until(process, "Model ")
    process.stderr.close()
    with process:
        stdout = process.stdout.read()
    assert process.returncode == 0
    assert json.loads(stdout)["step"] == 2


@pytest.mark.parametrize(
    ("shell", "code", "says", "complains"),
    [
        ("{} 2>ERR | true; exit ${{PIPESTATUS[0]}}", 141, "", ""),
        ("{} >&- 2>ERR", 0, "", ""),
        ("{} 2>&-", 0, "segjax VERB", ""),
        ("{} 2>/dev/full", 0, "segjax VERB", ""),
        (
            "{} >/dev/full 2>ERR",
            *(1, ""),
            "segjax: Standard output cannot be written (No space left on device).\n",
        ),
    ],
)
def test_closed_streams_end_in_peace(shell, code, says, complains, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = f"{sys.executable} -m segjax.main --help"
    ended = subprocess.run(
        ["bash", "-c", shell.format(command).replace("ERR", str(tmp_path / "err"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert says in ended.stdout
    err = tmp_path / "err"
    assert (err.read_text() if err.exists() else "") == complains


@pytest.mark.parametrize("close", ["2>&-", "2>/dev/full"])
def test_what_is_written_to_a_closed_stderr_costs_nothing(close):
    code = (
        "import sys; from segjax import ending\n"
        "def work():\n"
        "    for _ in range(9999): print('a line', file=sys.stderr, flush=True)\n"
        "    ending.say('done')\n"
        "ending.run(work, remedy=str, wants_traceback=bool)"
    )
    ended = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$1" {close}', "-", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")


def test_a_pipe_that_is_not_standard_output_may_not_break_in_silence():
    """A worker that has died, for one."""

    def lose_a_worker():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        ending.run(lose_a_worker, remedy=str, wants_traceback=bool)


class Failing(io.StringIO):
    """A stream whose next write fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        error, self.error = self.error, None
        if error:
            raise error
        return super().write(text)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "b"),
        (OSError(errno.ENOSPC, "No space left on device"), "b"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (OSError(errno.EIO, "Input/output error"), ""),
        (OSError(errno.EBADF, "Bad file descriptor"), ""),
        (ValueError("I/O operation on closed file."), ""),
    ],
)
def test_a_stream_is_given_up_where_nobody_will_read_it_again(error, kept):
    stream = Failing(error)
    steady = ending.Steady(stream)
    steady.write("a")
    steady.write("b")
    assert stream.getvalue() == kept


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path):
    """What the system's libraries write to number 2 would end up in the file."""
    code = (
        "import os, sys; from segjax import ending\n"
        f"def work(): print(open({str(tmp_path / 'a')!r}, 'w').fileno() > 2)\n"
        "ending.run(work, remedy=str, wants_traceback=bool)"
    )
    ended = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$1" 2>&- <&-', "-", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "True\n"


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("full", "at"), [("log", 1), ("checkpoints", 1), ("checkpoints", 5)]
)
def test_a_full_disk_is_a_sentence_and_costs_no_checkpoint(
    full, at, main, cache_dir, tmp_path, run_with_a_log, monkeypatch
):
    """From a step on no file may have more than 16 kB, which a checkpoint has."""
    most = 2**14
    workdir = run_with_a_log(most) if full == "log" else tmp_path / "run"
    update = Progress.update
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, step):
        update(self, step)
        if step == at:
            while step > 4 and not checkpoint_files.steps_on_disk(workdir):
                time.sleep(0.01)  # the checkpoint of step 4 is being written
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))

    monkeypatch.setattr(Progress, "update", fill)
    try:
        ended = main(
            *(EM, "--config.num_steps=40", "--config.log_every=1"),
            *("--config.checkpoint_every=4", "--config.eval_every=40"),
            f"--workdir={workdir}",
            f"--cache_dir={cache_dir}",
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.code == 1
    assert "File too large" in ended.sentence
    assert str(workdir) in ended.sentence
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("segjax:") == 1
    steps = [about["step"] for about in checkpoint_files.abouts_on_disk(workdir)]
    assert steps == checkpoint_files.steps_on_disk(workdir)
    assert steps == ([4] if at == 5 else [])
    if steps:
        assert "of step 4" in ended.sentence
        assert load.load_trained(workdir).step == 4


def no_memory_of_xla(*_, **__):
    return jnp.zeros((2**50,), jnp.uint8) + 1


def no_memory_of_numpy(*_, **__):
    return np.zeros((2**50,), np.uint8) + 1


def no_memory_of_an_accelerator(*_, **__):
    raise jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."
    )


FAILURES = (no_memory_of_xla, no_memory_of_numpy, no_memory_of_an_accelerator)


@pytest.mark.quick(1)
@pytest.mark.parametrize("fail", FAILURES)
def test_a_step_that_is_too_large_says_what_makes_it_smaller(
    fail, main, cache_dir, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(loop.CompiledStep, "__call__", fail)
        ended = main(
            EM,
            "--config.batch_size=8",
            f"--workdir={tmp_path / 'run'}",
            f"--cache_dir={cache_dir}",
        )
    assert ended.code == 1
    assert "There is not enough memory" in ended.sentence
    ways = ("--config.batch_size=4", "--config.model.dtype=bfloat16")
    assert all(way in ended.sentence for way in ways)
    if fail is not FAILURES[0]:
        return
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    again = main(
        *(EM, *ways, "--interrupted_exit_code=75"),  # which it is not
        f"--workdir={tmp_path / 'other'}",
        f"--cache_dir={cache_dir}",
    )
    assert again.code == 0, again.stderr


@pytest.mark.parametrize(
    ("verb", "fail"),
    [("evaluate", FAILURES[0]), *(("predict", fail) for fail in FAILURES)],
)
def test_an_image_that_is_too_large_says_the_tile_that_is_not(
    verb, fail, main, workdir, cache_dir, images, tmp_path, monkeypatch
):
    arguments = {
        "evaluate": (f"--cache_dir={cache_dir}",),
        "predict": (f"--input={images / '0.png'}", f"--output={tmp_path / 'out'}"),
    }[verb]
    monkeypatch.setenv("HOME", str(workdir.parent))
    asked = (verb, f"--workdir=~/{workdir.name}", *arguments)
    with monkeypatch.context() as patch:
        patch.setattr("segjax.predict.tiled.Predictor._dispatch", fail)
        ended = main(*asked, "--tile=48")
    assert ended.code == 1
    assert "There is not enough memory" in ended.sentence
    assert "--tile=24" in ended.sentence
    assert ("--downscale=2" in ended.sentence) == (verb == "predict")
    again = main(*asked, "--tile=24")
    assert again.code == 0, again.stderr


def test_networks_that_see_the_whole_image_are_offered_no_tile(tmp_path, smoke):
    from segjax.runs import remedies
    from segjax.training.run_files.workdir import write_config

    smoke.evaluation.flip = True
    write_config(tmp_path, smoke)
    assert "tile" not in remedies.for_images(tmp_path, "evaluate", None)
    assert "--downscale=2" in remedies.for_images(tmp_path, "predict", None)
    assert "Free some" in remedies.for_images(tmp_path / "none", "predict", None)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("a\x1b[2Jb"), r"a\x1b[2Jb"),
        (MemoryError(), "There is not enough memory. Wait."),
        (
            OSError(errno.ENOSPC, "No space left on device", "a\x1bb"),
            r"a\x1bb cannot be read or written (No space left on device). Check the "
            "disk and try again.",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a" * 9000),
            f"{'a' * 400} [...] {'a' * 319} cannot be read or written (File name too "
            "long). Choose a shorter name.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            "a/b cannot be read or written (Permission denied). Change its permissions, "
            "or choose another place.",
        ),
        (
            RuntimeError(
                "UNKNOWN: Gloo all-reduce failed: Connection reset by peer\nat"
            ),
            "Another process of this run has ended, or cannot be reached any more (Gloo "
            "all-reduce failed: Connection reset by peer). Start all of them again: "
            "training resumes from its last checkpoint.",
        ),
        (KeyError("step"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), None),
        (ValueError("no such class"), None),
    ],
)
def test_errors_have_sentences_where_they_are_not_ours(error, sentence):
    assert ending.sentence_for(error, lambda: "Wait.") == sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--workdir={}"],
        ["predict", "--workdir={}", "--input=x", "--output=y"],
        ["--config=configs/unet_em.py:smoke", "--workdir={}"],
        ["--config={}.py", "--workdir=x"],
        ["prepare", "--config=configs/unet_folder.py", "--data_root={}"],
    ],
    ids=" ".join,
)
def test_a_name_that_no_disk_takes_is_a_sentence(arguments, main, tmp_path):
    long = str(tmp_path / ("a" * 300))
    ended = main(*(part.format(long) for part in arguments))
    assert ended.code == 1
    assert "(File name too long). Choose a shorter name." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_error_that_was_wrapped_is_known_by_its_cause():
    error = RuntimeError("a thread failed")
    error.__cause__ = MemoryError()
    assert "memory" in ending.sentence_for(error, lambda: "Wait.")


def test_the_log_and_the_progress_hold_nothing_that_a_terminal_obeys(capsys):
    logger = logging.getLogger("segjax")
    before = logger.handlers[:], logger.propagate, logger.level
    try:
        ending.send_log_to_stderr()
        logger.warning("%s is damaged", "a\x1b[31m.png")
    finally:
        logger.handlers[:], logger.propagate = before[:2]
        logger.setLevel(before[2])
    Progress(3).say("b\x1b[2J.png")
    assert capsys.readouterr().err == "a\\x1b[31m.png is damaged\nb\\x1b[2J.png\n"


def test_our_own_mistakes_stay_tracebacks(main, monkeypatch, workdir):
    def fail(*_, **__):
        raise KeyError("a mistake")

    monkeypatch.setattr("segjax.runs.evaluate.load_ensemble", fail)
    with pytest.raises(KeyError, match="a mistake"):
        main("evaluate", f"--workdir={workdir}")


def test_who_has_lost_another_process_does_not_wait_for_it_at_exit():
    """JAX waits for all at exit, and aborts with a page where one does not come."""
    code = (
        "import atexit; from segjax import ending; atexit.register(print, 'waits')\n"
        "def command(): raise RuntimeError('Gloo all-reduce failed: Connection reset')\n"
        "ending.run(command, remedy=str, wants_traceback=bool)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("segjax: Another process of this run has ended")
    assert ended.stdout == ""
