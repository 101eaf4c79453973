"""Building TFDS data sets safely: once, whatever is killed or started twice.

TFDS writes into a folder `incomplete.*` beside the final one and renames it when all is
written, so a folder with the version's name is always whole. Two things are left to do
here: of several processes one builds while the others wait (`flock` on a file in the
data folder, which the kernel releases when its holder dies), and what a killed
process left behind is removed by the next one.

TensorFlow is not needed: builders write ArrayRecord, `as_data_source` reads it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from segjax.data.dataset import LazyRecords
from segjax.errors import UserError
from segjax.output.files import locked
from segjax.text_files import is_fault_of_machine, unreadable
from segjax.types import Record

if not hasattr(tfds, "core"):
    # TFDS logs the reason, swallows it, and leaves an empty module behind.
    raise UserError(
        "tensorflow_datasets is installed but could not start; the usual reason is a "
        "protobuf older than 6.31.1. Run `pip install --upgrade 'protobuf>=6.31.1,<8'`."
    )

_MEANT_FOR_PEOPLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
)


SOURCES = "sources"
"""Key of a data set's metadata: the fingerprint of the files that it was made from."""


def open_builder(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    cache_dir: str | None,
    config: tfds.core.BuilderConfig | None = None,
) -> Any:
    """Makes a builder that writes ArrayRecord, and reads what it has prepared before.

    Args:
      builder_class: the class of the builder.
      cache_dir: the folder of prepared data sets, with `~`; None is TFDS's own.
      config: what the builder is to make, where it makes several things.

    Returns:
      The builder, for `prepare`.

    Raises:
      UserError: what was prepared before is damaged.
    """
    root = expanded(cache_dir)
    parts = (
        builder_class.name,
        *([config.name] if config else []),
        str(builder_class.VERSION),
    )
    target = (root or Path(tfds.core.constants.DATA_DIR)).joinpath(*parts)
    verbosity = logging.get_verbosity()
    # TFDS warns that a configuration is not one of a list.
    logging.set_verbosity(logging.ERROR)
    options = {"config": config} if config else {}
    try:
        with _damage_as_user_error(target):
            return builder_class(data_dir=root, file_format="array_record", **options)
    finally:
        logging.set_verbosity(verbosity)


def files_to_compare(
    builder: Any, data_root: Path | None, find: Callable[[Path | None], list[Path]]
) -> list[Path]:
    """The files of the user that are to be read, or to be compared with those that were.

    Args:
      builder: a `tfds.core.DatasetBuilder`.
      data_root: what the user has given.
      find: names the files within a folder, all of which are there.

    Returns:
      What `find` gives; nothing where the data set is prepared and no folder is given.

    Raises:
      UserError: as `find` does.
    """
    is_prepared = Path(builder.data_dir).exists()
    if is_prepared and data_root is None:
        return []
    try:
        return find(data_root)
    except UserError as error:
        if not is_prepared:
            raise
        raise UserError(
            f"{error} Or leave --data_root out: the data set is prepared already."
        ) from error


def prepare(
    builder: Any, data_root: str | Path | None = None, files: Sequence[Path] = ()
) -> None:
    """Builds a TFDS data set unless it is there already.

    Quick when it is there: nothing is written or locked, so a data folder that many
    read may be read-only.

    Args:
      builder: a `tfds.core.DatasetBuilder` that writes ArrayRecord. Afterwards its
        `info` is that of the files.
      data_root: folder of files that the user has put there, for builders that
        read some.
      files: of `files_to_compare`; the builder's `info` has a `tfds.core.MetadataDict`
        where there are any.

    Raises:
      UserError: the data folder may not be written or is full, or the builder found
        something wrong with the files in `data_root`, or what was prepared before is
        damaged, or was made from other files.
      RuntimeError: the builder itself failed; names the innermost reason, which TFDS
        hides.
    """
    target = Path(builder.data_dir)
    sources = _fingerprint(files, data_root) if files and data_root else None
    if not target.exists():
        if sources:
            builder.info.metadata[SOURCES] = sources
        root = Path(builder.data_dir_root)
        with _as_user_errors(builder, root):
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / f".{builder.name}.lock", wait=True):
                if not target.exists():
                    _remove_leftovers(target)
                    _build(builder, data_root)
    _read_info(builder, target)
    # A data set that was prepared before this was kept states nothing.
    known = (builder.info.metadata or {}).get(SOURCES)
    if sources and known and known != sources:
        raise UserError(
            f"The data set in {target} was prepared from other files than those that lie "
            f"in {data_root} now. Remove the first folder, and it is built anew; leave "
            "--data_root out to take it as it is; or name another folder for prepared "
            "data sets with --cache_dir."
        )


def _fingerprint(files: Sequence[Path], root: str | Path) -> str:
    """A hash of names and bytes, wherever the folder lies and whatever it is called."""
    total = hashlib.blake2b(digest_size=32)
    for path in files:
        with path.open("rb") as file:
            own = hashlib.file_digest(file, "blake2b").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {own}\n".encode())
    return total.hexdigest()


def expanded(path: str | None) -> Path | None:
    """Returns a folder with `~` resolved, which shells leave in `--cache_dir=~/data`.

    TFDS takes it literally, so builders are to be given what this returns.

    Example:
      >>> expanded("~/data") == Path.home() / "data"
      True
    """
    return None if path is None else Path(path).expanduser()


def records(
    builder: Any, split: str, to_record: Callable[[Record], Record] | None = None
) -> Sequence[Record]:
    """Returns a prepared split, in the order in which it was written.

    Args:
      builder: a prepared builder whose features are `image` `[H, W, C]` and `name`, and
        what `to_record` takes.
      split: name of the split.
      to_record: makes a record of what TFDS reads, and raises ValueError where it is
        none. By default the features hold a `label` `[H, W]` (or `[H, W, 1]`; of size 0
        where there is none).

    Raises:
      UserError: what was prepared is damaged; also when a record is read.
    """
    target = Path(builder.data_dir)
    with _damage_as_user_error(target):
        source = builder.as_data_source(split)
        places = range(len(source))
    return LazyRecords(
        functools.partial(_read_record, source, to_record or _labelled, target), places
    )


def _read_record(
    source: Sequence[Record],
    to_record: Callable[[Record], Record],
    target: Path,
    index: int,
) -> Record:
    """A record of a TFDS data source, its name as str."""
    with _damage_as_user_error(target):
        record = dict(source[index])
        name = record["name"]
        record["name"] = name.decode() if isinstance(name, bytes) else str(name)
        return to_record(record)


def _labelled(record: Record) -> Record:
    """A record without its label where that has size 0."""
    record = dict(record)
    if "label" in record and record["label"].size == 0:
        del record["label"]
    elif "label" in record and record["label"].ndim == 3:
        record["label"] = record["label"][..., 0]
    if "label" in record and record["label"].shape != record["image"].shape[:2]:
        raise ValueError("an image and its label differ in size")
    return record


def _read_info(builder: Any, target: Path) -> None:
    """Reads what was written, and looks whether all of it is still there."""
    count = tfds.core.file_adapters.ArrayRecordFileAdapter.num_examples
    with _damage_as_user_error(target):
        builder.info.read_from_directory(builder.data_dir)
        _ = builder.info.metadata  # TFDS reads it when it is asked for
        for split in builder.info.splits.values():
            for path in split.filepaths:
                if not Path(path).is_file():
                    raise ValueError(f"{Path(path).name} is missing")
            if sum(map(count, split.filepaths)) != split.num_examples:
                raise ValueError(f"{split.name} has lost records")


@contextlib.contextmanager
def _damage_as_user_error(target: Path) -> Iterator[None]:
    """Turns whatever TFDS raises for damaged files into a `UserError`."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except PermissionError as error:
        raise UserError(
            f"The prepared data set in {target} may not be read (permission denied). "
            "Change its permissions."
        ) from error
    except Exception as error:
        for reason in _reasons(error):
            if is_fault_of_machine(reason):
                what = f"The prepared data set in {target}"
                raise unreadable(what, reason) from error
        # TFDS and ArrayRecord have errors of many kinds, and long ones.
        kind = type(error).__name__
        message = str(error) if type(error) is ValueError else kind
        raise UserError(
            f"The prepared data set in {target} is damaged ({message[:100]}). Remove this "
            "folder; it is built again at the next start."
        ) from error


def _build(builder: Any, data_root: str | Path | None) -> None:
    """Runs TFDS without its bars and bold lines."""
    config = tfds.download.DownloadConfig(
        manual_dir=None if data_root is None else os.fspath(data_root),
        try_download_gcs=False,
    )
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_config=config, file_format="array_record"
            )
    except OSError as error:
        # Where locks do not work (some network folders) another process may have been
        # faster; TFDS then cannot rename its folder, and need not.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not Path(builder.data_dir).exists():
            raise


def _remove_leftovers(target: Path) -> None:
    """Removes what killed processes left; only the holder of the lock may call it."""
    for folder in target.parent.glob(f"incomplete.*_{target.name}"):
        if not folder.is_symlink():  # what a link leads to is somebody else's
            shutil.rmtree(folder)


@contextlib.contextmanager
def _as_user_errors(builder: Any, root: Path) -> Iterator[None]:
    """Finds the reason behind the errors that TFDS wraps around it."""
    try:
        yield
    except Exception as error:
        chain = list(_reasons(error))
        for reason in chain:
            if isinstance(reason, UserError):
                raise reason from None
        for reason in chain:
            if isinstance(reason, OSError) and reason.errno in _MEANT_FOR_PEOPLE:
                raise UserError(
                    f"{root} cannot take the data set {builder.name!r} "
                    f"({reason.strerror}). Name another folder with --cache_dir."
                ) from error
        raise RuntimeError(
            f"data set {builder.name!r} could not be built: "
            f"{type(chain[-1]).__name__}: {chain[-1]}"
        ) from error


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and what led to it, the innermost last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
