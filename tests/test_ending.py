"""How commands end: signals, closed streams, memory and disks that do not suffice."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax import ending
from segjax.errors import UserError
from segjax.train import checkpoint, loop, trained
from segjax.train.progress import Progress

EM = "--config=configs/unet_em.py:smoke"
LONG = (
    *(EM, "--config.num_steps=5000", "--config.log_every=1"),
    *("--config.eval_every=1000", "--config.checkpoint_every=1000"),
)
LINE = "segjax: interrupted.\n"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, data_dir, run_segjax):
    """A run that has all its steps."""
    workdir = tmp_path_factory.mktemp("ending") / "run"
    ended = run_segjax(EM, f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert ended.returncode == 0, ended.stderr
    return workdir


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


@pytest.mark.parametrize("seconds", [0.7, 2.0, 4.0])
@pytest.mark.parametrize("verb", ["evaluate", "predict", "summary"])
def test_ctrl_c_ends_a_verb_with_one_line_whenever_it_comes(
    verb, seconds, start_segjax, workdir, data_dir, images, tmp_path
):
    arguments = {
        "evaluate": (f"--workdir={workdir}", f"--data_dir={data_dir}", "--baseline"),
        "predict": (
            f"--workdir={workdir}",
            f"--input={images}",
            f"--output={tmp_path / 'out'}",
        ),
        "summary": ("--config=configs/unet_em.py:paper",),
    }
    process = start_segjax(verb, *arguments[verb])
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    if process.returncode == 0:  # a fast machine had ended before
        assert stdout
        return
    assert process.returncode == 130, stderr
    assert stderr.splitlines(keepends=True)[-1] == LINE
    assert "Traceback" not in stderr
    for path in (tmp_path / "out").glob("*.png"):
        assert Image.open(path).size == (400, 300)


@pytest.mark.parametrize("words", ["Model ", "Compiling the training step"])
def test_ctrl_c_before_the_first_step_leaves_at_once(
    words, start_segjax, data_dir, tmp_path
):
    process = start_segjax(*LONG, f"--workdir={tmp_path}", f"--data_dir={data_dir}")
    read_until(process, words)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.endswith(LINE)
    assert "Traceback" not in stderr
    assert stdout == ""
    assert time.monotonic() - began < ending.PATIENCE + 8
    assert not checkpoint.steps_on_disk(tmp_path)


def test_the_first_ctrl_c_of_a_training_saves_and_leaves(
    start_segjax, data_dir, tmp_path
):
    process = start_segjax(*LONG, f"--workdir={tmp_path}", f"--data_dir={data_dir}")
    read_until(process, "step 2/")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "again to stop at once" in stderr
    said = json.loads(stdout)
    assert said["interrupted"]
    (about,) = checkpoint.abouts_on_disk(tmp_path)
    assert about["step"] == said["step"] >= 2
    assert about["parameters_sha256"] == said["parameters_sha256"]


def test_the_second_ctrl_c_of_a_training_leaves_at_once(
    start_segjax, data_dir, tmp_path
):
    """Nothing that it leaves behind stands in the way of the next start."""
    arguments = (f"--workdir={tmp_path}", f"--data_dir={data_dir}")
    process = start_segjax(*LONG, "--config.checkpoint_every=2", *arguments)
    read_until(process, "step 6/")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stdout == "" or json.loads(stdout)["interrupted"]
    again = start_segjax(*LONG, *arguments)
    read_until(again, "loss ")
    again.send_signal(signal.SIGTERM)
    stdout, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert json.loads(stdout)["step"] >= 3


def test_sigterm_has_the_exit_code_that_is_asked_for(start_segjax, data_dir, tmp_path):
    process = start_segjax(
        *LONG,
        f"--workdir={tmp_path}",
        f"--data_dir={data_dir}",
        "--interrupted_exit_code=75",
    )
    read_until(process, "step 2/")
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert json.loads(stdout)["interrupted"]


def test_a_run_that_is_not_interrupted_ends_with_0(main, workdir, data_dir):
    ended = main(
        EM,
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
        "--interrupted_exit_code=75",
    )
    assert ended.code == 0


def test_training_outlives_those_who_read_what_it_says(
    start_segjax, data_dir, tmp_path
):
    process = start_segjax(EM, f"--workdir={tmp_path}", f"--data_dir={data_dir}")
    read_until(process, "Model ")
    process.stderr.close()
    with process:
        stdout = process.stdout.read()
    assert process.returncode == 0
    assert json.loads(stdout)["step"] == 2


@pytest.mark.parametrize(
    ("shell", "code", "says"),
    [
        ("{} 2>ERR | true; exit ${{PIPESTATUS[0]}}", 141, ""),
        ("{} >&- 2>ERR", 0, ""),
        ("{} 2>&-", 0, "parameters"),
        ("{} 2>/dev/full", 0, "parameters"),
        ("{} >/dev/full 2>ERR", 1, ""),
    ],
)
def test_closed_streams_end_in_peace(shell, code, says, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = f"{sys.executable} -m segjax.main summary {EM} --json"
    ended = subprocess.run(
        ["bash", "-c", shell.format(command).replace("ERR", str(tmp_path / "err"))],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ
        | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert says in ended.stdout
    err = tmp_path / "err"
    said = err.read_text() if err.exists() else ""
    assert said.count("\n") <= (code == 1)
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path):
    """What the system's libraries write to number 2 would end up in the file."""
    code = (
        "import os, sys; from segjax import ending\n"
        f"def work(): print(open({str(tmp_path / 'a')!r}, 'w').fileno() > 2)\n"
        "ending.run(work, remedy=str, wants_traceback=bool)"
    )
    ended = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$1" 2>&- <&-', "-", code],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "True\n"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of so many kB, of which somebody else takes nothing."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes):
        options = ("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
        if shutil.which("mount") is None or os.geteuid():
            pytest.skip("needs the right to mount a small disk")
        if subprocess.run(["mount", *options], check=False).returncode:
            pytest.skip("needs the right to mount a small disk")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("kilobytes", [4, 30, 200])
def test_a_full_disk_is_a_sentence_and_costs_no_checkpoint(
    kilobytes, run_segjax, small_disk, data_dir
):
    """The smallest has no room for the log, the next for no checkpoint, the last for one."""
    workdir = small_disk(kilobytes) / "run"
    ended = run_segjax(
        EM,
        "--config.num_steps=40",
        "--config.checkpoint_every=4",
        "--config.eval_every=40",
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
    )
    assert ended.returncode == 1
    sentence = ended.stderr.splitlines()[-1]
    assert sentence.startswith("segjax: ")
    assert "No space left on device" in sentence
    assert str(workdir) in sentence
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("segjax:") == 1
    steps = [about["step"] for about in checkpoint.abouts_on_disk(workdir)]
    assert steps == checkpoint.steps_on_disk(workdir)
    assert bool(steps) == (kilobytes == 200)
    if steps:
        assert f"of step {steps[0]}" in sentence
        assert trained.load_trained(workdir).step == steps[0]


def no_memory_of_xla(*_, **__):
    return jnp.zeros((2**50,), jnp.uint8) + 1


def no_memory_of_numpy(*_, **__):
    return np.zeros((2**50,), np.uint8) + 1


def no_memory_of_an_accelerator(*_, **__):
    raise jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."
    )


FAILURES = (no_memory_of_xla, no_memory_of_numpy, no_memory_of_an_accelerator)


@pytest.mark.parametrize("fail", FAILURES)
def test_a_step_that_is_too_large_says_what_makes_it_smaller(
    fail, main, data_dir, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(loop.Programs, "__call__", fail)
        ended = main(
            EM,
            "--config.batch_size=8",
            f"--workdir={tmp_path / 'run'}",
            f"--data_dir={data_dir}",
        )
    assert ended.code == 1
    assert "The memory does not suffice" in ended.sentence
    ways = ("--config.batch_size=4", "--config.model.dtype=bfloat16")
    assert all(way in ended.sentence for way in ways)
    monkeypatch.setattr(loop, "draw_run", lambda workdir, *_: [workdir])
    again = main(EM, *ways, f"--workdir={tmp_path / 'other'}", f"--data_dir={data_dir}")
    assert again.code == 0, again.stderr


@pytest.mark.parametrize("fail", FAILURES)
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_an_image_that_is_too_large_says_the_tile_that_is_not(
    verb, fail, main, workdir, data_dir, images, tmp_path, monkeypatch
):
    arguments = {
        "evaluate": (f"--data_dir={data_dir}",),
        "predict": (f"--input={images / '0.png'}", f"--output={tmp_path / 'out'}"),
    }[verb]
    asked = (verb, f"--workdir={workdir}", *arguments)
    with monkeypatch.context() as patch:
        patch.setattr("segjax.predict.tiled.Predictor._dispatch", fail)
        ended = main(*asked, "--tile=48")
    assert ended.code == 1
    assert "The memory does not suffice" in ended.sentence
    assert "--tile=24" in ended.sentence
    assert ("--downscale=2" in ended.sentence) == (verb == "predict")
    again = main(*asked, "--tile=24")
    assert again.code == 0, again.stderr


def test_networks_that_see_the_whole_image_are_offered_no_tile(tmp_path, smoke):
    from segjax.train import remedies
    from segjax.train.workdir import write_config

    smoke.evaluation.flip = True
    write_config(tmp_path, smoke)
    assert "tile" not in remedies.for_images(tmp_path, "evaluate", None)
    assert "--downscale=2" in remedies.for_images(tmp_path, "predict", None)
    assert "Free some" in remedies.for_images(tmp_path / "none", "predict", None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("a\x1b[2Jb"), r"a\x1b[2Jb"),
        (MemoryError(), "The memory does not suffice. Wait."),
        (
            OSError(errno.ENOSPC, "No space left on device", "a\x1bb"),
            r"a\x1bb cannot be read or written (No space left on device). See to the "
            "disk, and call again.",
        ),
        (KeyError("step"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), None),
        (ValueError("no such class"), None),
    ],
)
def test_errors_have_sentences_where_they_are_not_ours(error, said):
    assert ending.sentence_for(error, lambda: "Wait.") == said


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

    monkeypatch.setattr(trained, "load_trained", fail)
    with pytest.raises(KeyError, match="a mistake"):
        main("evaluate", f"--workdir={workdir}")
