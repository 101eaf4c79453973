"""How a command ends: interrupted, with its streams closed, or with memory or disk used up.

| what happens | exit code | message |
| --- | --- | --- |
| a mistake of the user, no memory, no disk | 1 | one sentence |
| Ctrl-C | 130 | one line |
| nobody reads standard output any more | 141 | nothing |
| nobody reads standard error any more | as if somebody did | - |
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from segjax.errors import UserError, escape_control

INTERRUPTED, UNREAD, TERMINATED = 128 + signal.SIGINT, 141, 128 + signal.SIGTERM
"""Exit codes as of shells: 128 and the number of the signal; SIGPIPE is 13."""

PATIENCE = 2.0
"""Seconds that an interrupted command has to clean up. Compiled code, as of XLA's compiler,
cannot be interrupted, and may take minutes."""

_IMPORT = "<frozen importlib._bootstrap>"
"""The file of Python's own import, in the frames of what is being imported."""

_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)
_LOST = re.compile(
    "Gloo .* failed|remote process exited|coordination service|heartbeat", re.IGNORECASE
)
"""What XLA says where a process of the same run is not there any more."""
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF}
"""Errors of a stream that nobody will read again; EIO is that of a terminal."""

_DISK = "Check the disk and try again."
_RIGHTS = "Change its permissions, or choose another place."
_OF_FILES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _DISK),
    **dict.fromkeys((errno.EROFS, errno.EIO), _DISK),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _RIGHTS),
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Its links lead in a circle: give the place itself.",
}
"""Remedies for files and folders that cannot be opened or made, by error number."""


class Steady:
    """A stream that drops what nobody reads: a run outlives the terminal it began in.

    What cannot be written just now, as the reader is slow or the disk full, is dropped, too.
    """

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
            except OSError as error:
                self.is_open = error.errno not in _GONE
            except ValueError:  # a closed file
                self.is_open = False


class UnwrittenError(Exception):
    """Standard output that cannot be written; its cause says why."""


def say(text: str) -> None:
    """Writes to standard output what may hold names of files or classes.

    Raises:
      UnwrittenError: if it cannot be written, as nobody reads it, or a disk is full.
    """
    try:
        print(escape_control(text), flush=True)
    except OSError as error:
        raise UnwrittenError from error


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
      remedy: says what helps where there is not enough memory; asked only then.
      wants_traceback: whether sentences come as tracebacks; asked only then.

    Raises:
      SystemExit: with the exit code.
      BaseException: what is nobody's mistake but ours, as it was raised.
    """
    interrupt = _Interrupt()
    try:
        with _streams() as interrupt.stderr, interrupt, _termination():
            code = _outcome(command, remedy, wants_traceback)
            code = _flush_stdout(code)
            interrupt.ignore()  # all is done: what is left at exit is not worth a traceback
    except BaseException as error:
        if interrupt.caught or isinstance(error, KeyboardInterrupt):
            interrupt.leave()
        raise
    if interrupt.caught:
        interrupt.leave()
    sys.exit(code)


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Lets SIGTERM close what is open, as an error would; a second one ends it at once.

    Training notes the signal by itself, and saves (`segjax.training.stop`).
    """

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
    except UnwrittenError as error:
        return _give_up_stdout(error.__cause__)
    except Exception as error:
        sentence = sentence_for(error, remedy)
        if sentence is None or wants_traceback():
            raise
        print(f"segjax: {sentence}", file=sys.stderr)
        if is_of_lost_process(error):
            _leave_without_the_others()
        return 1
    return 0


def is_of_lost_process(error: BaseException | None) -> bool:
    """Whether an error says that another process of the same run is not there any more."""
    cause = error
    while cause is not None:
        if isinstance(cause, RuntimeError | ValueError) and _LOST.search(str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _leave_without_the_others() -> None:
    """Ends the process, which would wait for the others at exit, and be aborted for it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)


def sentence_for(error: BaseException, remedy: Callable[[], str]) -> str | None:
    """The message for the user about an error; None where it is our own mistake.

    Args:
      error: what was raised.
      remedy: says what helps where there is not enough memory.

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
            return str(
                UserError(f"There is not enough memory{_amount(cause)}. {remedy()}")
            )
        if is_runtime and (found := _LOST.search(str(cause))):
            return str(
                UserError(
                    "Another process of this run has ended, or cannot be reached any more "
                    f"({_around(str(cause), found.start())}). Start all of them again: "
                    "training resumes from its last checkpoint."
                )
            )
        if isinstance(cause, OSError) and cause.errno in _OF_FILES:
            what, advice = cause.filename or "A file", _OF_FILES[cause.errno]
            return str(
                UserError(
                    f"{what} cannot be read or written ({cause.strerror}). {advice}"
                )
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _around(text: str, start: int) -> str:
    """The line of a text from a place on, cut short."""
    return text[start:].splitlines()[0][:200].rstrip(" .")


def _amount(error: BaseException) -> str:
    """How much memory was asked for, if the error says it."""
    found = re.search(r"allocat\w+ (?:of )?([\d.]+ ?\w*)", str(error))
    return f" ({found[1].rstrip('.')} were asked for)" if found else ""


class _Interrupt:
    """The handler of Ctrl-C: the command is left by KeyboardInterrupt, in silence.

    Python calls its handlers between two of its own instructions, so while compiled code
    runs a thread watches over them: it ends the process where the command does not end in
    time, and at once when a second Ctrl-C comes. A handler that another part has put in
    this one's place, as training does, is left alone the first time.
    """

    def __init__(self) -> None:
        self.caught = False
        self.stderr: Steady | None = None
        self._leaving = threading.Lock()
        self._before: tuple[Any, int] | None = None

    def __enter__(self) -> _Interrupt:
        if os.name != "posix" or (
            threading.current_thread() is not threading.main_thread()
        ):
            return self  # Python's own handler raises KeyboardInterrupt, too
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        number = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True).start()
        self._before = signal.getsignal(signal.SIGINT), number
        signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before and not self.caught:
            handler, number = self._before
            if signal.getsignal(signal.SIGINT) == self._handle:
                signal.signal(signal.SIGINT, handler)
            signal.set_wakeup_fd(number)
            os.close(self._writer)  # which ends the thread

    def ignore(self) -> None:
        """Takes the meaning from Ctrl-C until the process has ended.

        Whoever lives on, as tests do, puts the handler back.
        """
        if self._before:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def leave(self) -> None:
        """Ends the process, without waiting for threads that are at work."""
        if self._leaving.acquire(blocking=False):
            # Not through a stream that is being written, nor into a pipe that is full.
            with contextlib.suppress(OSError, ValueError):
                if os.name != "posix" or select.select([], [2], [], 0)[1]:
                    bar = b"\n" if os.isatty(2) else b""
                    os.write(2, bar + b"segjax: interrupted.\n")
            os._exit(INTERRUPTED)
        threading.Event().wait()

    def _handle(self, _: int, frame: FrameType | None) -> None:
        if self.caught:  # what it raised cleans up, and nothing may come in between
            return
        self.caught = True
        if self.stderr:
            self.stderr.is_open = False
        while frame is not None:
            if frame.f_code.co_filename == _IMPORT:
                self.leave()  # extension modules that an error cuts short can crash
            frame = frame.f_back
        raise KeyboardInterrupt

    def _watch(self) -> None:
        """Reads the numbers of all signals that come, as bytes."""
        came, deadline = False, None
        with open(self._reader, "rb", buffering=0) as signals:
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if not select.select([signals], [], [], left and max(left, 0))[0]:
                    self.leave()
                number = signals.read(1)
                if not number:  # the command has ended
                    return
                if number[0] == signal.SIGINT:
                    if came:
                        self.leave()
                    came = True
                    if signal.getsignal(signal.SIGINT) == self._handle:
                        deadline = time.monotonic() + PATIENCE


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
        failed = _give_up_stdout(error)
        return failed if failed == UNREAD else code or failed
    return code


def _give_up_stdout(error: BaseException | None) -> int:
    """Says why standard output cannot be written, if anybody cares; returns the exit code."""
    # Python tries again at exit, and would complain.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return UNREAD
    why = getattr(error, "strerror", None)
    print(f"segjax: Standard output cannot be written ({why}).", file=sys.stderr)
    return 1
