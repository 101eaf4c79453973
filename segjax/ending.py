"""How a command ends: interrupted, with its streams closed, or with memory or disk used up.

| what happens | exit code | what is said |
| --- | --- | --- |
| a person's mistake, no memory, no disk | 1 | one sentence |
| Ctrl-C | 130 | one line |
| nobody reads standard output any more | 141 | nothing |
| nobody reads standard error any more | as if somebody did | - |
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from segjax.errors import UserError, escape_control

INTERRUPTED, UNREAD = 128 + signal.SIGINT, 141
"""Exit codes as of shells: 128 and the number of the signal; SIGPIPE is 13."""

PATIENCE = 2.0
"""Seconds that an interrupted command has to clean up. Compiled code, as of XLA's compiler,
cannot be interrupted, and may take minutes."""

_IMPORT = "<frozen importlib._bootstrap>"
"""The file of Python's own import, in the frames of what is being imported."""

_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)
_NO_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class Steady:
    """A stream that drops what nobody reads: a run outlives the terminal it began in."""

    def __init__(self, stream: Any):
        self._stream, self.is_open = stream, True

    def write(self, text: str) -> int:
        """Writes, or does nothing once the stream is closed."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flushes, or does nothing once the stream is closed."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: Callable[[], object]) -> None:
        if self.is_open:
            try:
                action()
            except (OSError, ValueError):  # a closed file is a ValueError
                self.is_open = False


class _Lines(logging.Formatter):
    """Messages as they are, but for what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_control(super().format(record))


def send_log_to_stderr() -> None:
    """Sends segjax's own messages to stderr as plain lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(message)s"))
    logger = logging.getLogger("segjax")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)


def run(
    command: Callable[[], None],
    *,
    remedy: Callable[[], str],
    wants_traceback: Callable[[], bool],
) -> None:
    """Runs a command to its end, and exits.

    Args:
      command: what is done; what it raises decides how it ends.
      remedy: says what helps where the memory does not suffice; asked only then.
      wants_traceback: whether sentences come as tracebacks; asked only then.

    Raises:
      SystemExit: with the exit code.
      BaseException: what is nobody's mistake but ours, as it was raised.
    """
    with _streams() as stderr, _Interrupt(stderr) as interrupt:
        try:
            code = _outcome(command, remedy, wants_traceback)
            code = _flush_stdout(code)
        except BaseException as error:
            if interrupt.caught or isinstance(error, KeyboardInterrupt):
                interrupt.leave()
            raise
        if interrupt.caught:
            interrupt.leave()
        # What is left to do at exit is not worth a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        sys.exit(code)


def _outcome(
    command: Callable[[], None],
    remedy: Callable[[], str],
    wants_traceback: Callable[[], bool],
) -> Any:
    """Calls the command; returns the exit code, or raises what has no sentence."""
    try:
        command()
    except SystemExit as ended:
        return ended.code or 0
    except BrokenPipeError:
        return UNREAD
    except Exception as error:
        sentence = sentence_for(error, remedy)
        if sentence is None or wants_traceback():
            raise
        print(f"segjax: {sentence}", file=sys.stderr)
        return 1
    return 0


def sentence_for(error: BaseException, remedy: Callable[[], str]) -> str | None:
    """What a person is told of an error; None where it is our own mistake.

    Args:
      error: what was raised.
      remedy: says what helps where the memory does not suffice.

    Returns:
      One or two sentences, or None.
    """
    if isinstance(error, UserError):
        return str(error)
    cause: BaseException | None = error
    while cause is not None:
        # JAX's errors are RuntimeErrors, TensorStore's are ValueErrors.
        is_runtime = isinstance(cause, RuntimeError | ValueError)
        if isinstance(cause, MemoryError) or (
            is_runtime and _NO_MEMORY.search(str(cause))
        ):
            return escape_control(
                f"The memory does not suffice{_amount(cause)}. {remedy()}"
            )
        if isinstance(cause, OSError) and cause.errno in _NO_DISK:
            where = f"{cause.filename} cannot" if cause.filename else "A file cannot"
            return escape_control(
                f"{where} be read or written ({cause.strerror}). See to the disk, and "
                "call again."
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _amount(error: BaseException) -> str:
    """How much memory was asked for, if the error says it."""
    found = re.search(r"allocat\w+ (?:of )?([\d.]+ ?\w*)", str(error))
    return f" ({found[1].rstrip('.')} were asked for)" if found else ""


class _Interrupt:
    """What Ctrl-C does: the command is left by KeyboardInterrupt, in silence.

    Python calls its handlers between two of its own instructions, so while compiled code
    runs a thread watches over them: it ends the process where the command does not end in
    time, and at once when a second Ctrl-C comes. A handler that another part has put in
    this one's place, as training does, is left alone the first time.
    """

    def __init__(self, stderr: Steady):
        self.caught = False
        self._stderr, self._leaving = stderr, threading.Lock()

    def __enter__(self) -> _Interrupt:
        if os.name != "posix" or (
            threading.current_thread() is not threading.main_thread()
        ):
            return self  # Python's own handler raises KeyboardInterrupt, too
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = (
            signal.signal(signal.SIGINT, self._handle),
            signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False),
        )
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_before"):
            signal.signal(signal.SIGINT, self._before[0])
            signal.set_wakeup_fd(self._before[1])
            os.close(self._writer)  # which ends the thread

    def leave(self) -> None:
        """Ends the process, without waiting for threads that are at work."""
        if self._leaving.acquire(blocking=False):
            with contextlib.suppress(
                OSError
            ):  # not through a stream that is being written
                bar = b"\n" if os.isatty(2) else b""
                os.write(2, bar + b"segjax: interrupted.\n")
            os._exit(INTERRUPTED)
        threading.Event().wait()

    def _handle(self, _: int, frame: FrameType | None) -> None:
        self.caught, self._stderr.is_open = True, False
        while frame is not None:
            if frame.f_code.co_filename == _IMPORT:
                self.leave()  # extension modules that an error cuts short can crash
            frame = frame.f_back
        raise KeyboardInterrupt

    def _watch(self) -> None:
        with open(self._reader, "rb", buffering=0) as signals:
            came = 0
            while number := signals.read(1):
                if number[0] != signal.SIGINT:
                    continue
                came += 1
                ours = signal.getsignal(signal.SIGINT) == self._handle
                if came > 1 or (
                    ours and not select.select([signals], [], [], PATIENCE)[0]
                ):
                    self.leave()


@contextlib.contextmanager
def _streams() -> Iterator[Steady]:
    """Makes the standard streams safe to use, whatever state they are in.

    A closed one would lend its number to the first file that is opened, and what the
    system's libraries say there would end up in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    before = sys.stderr
    steady = Steady(open(os.devnull, "w") if before is None else before)  # noqa: SIM115 - as above
    sys.stderr = steady  # it has what is used of a stream
    try:
        yield steady
    finally:
        sys.stderr = before


def _flush_stdout(code: Any) -> Any:
    """Writes what is left to standard output; returns the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"segjax: Standard output: {error.strerror}.", file=sys.stderr)
        code = UNREAD if isinstance(error, BrokenPipeError) else code or 1
        # Python tries again at exit, and would complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
