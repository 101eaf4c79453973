"""The command line: `segjax [VERB] --flag=value ...`, or `python -m segjax.main`.

Verbs:
  train     (default) trains the experiment of --config in --workdir, or resumes it
  evaluate  measures the newest checkpoint of --workdir; the last line is JSON
  predict   labels the images of --input into --output
  tune_crf  searches for the values of --crf on a split; the last line is JSON
  summary   describes the network of --config: layers, sizes, receptive field
  prepare   builds the data set of --config ahead of time
  import    makes --workdir of the weights in --input that others have trained (--source)

The presets of a config come after a colon: --config=configs/unet_em.py:isbi. Its keys can
be changed one by one: --config.batch_size=8 --config.model.features=8,16,32.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging
from ml_collections import config_flags

from segjax import config as config_lib
from segjax import ending
from segjax.errors import UserError, suggestion

if TYPE_CHECKING:
    import ml_collections

TOGETHER = ("coordinator", "num_processes", "process_id")
"""The flags of a run of many processes."""

VERBS = {
    "train": (
        *("config", "workdir", "data_dir", "manual_dir"),
        *("interrupted_exit_code", *TOGETHER),
    ),
    "evaluate": (
        *("workdir", "data_dir", "manual_dir"),
        *("split", "checkpoint", "baseline", "tile", "crf"),
        *TOGETHER,
    ),
    "predict": (
        *("workdir", "input", "output", "overwrite"),
        *("checkpoint", "tile", "downscale", "probabilities", "overlay", "crf"),
    ),
    "tune_crf": (
        *("workdir", "data_dir", "manual_dir"),
        *("split", "checkpoint", "images", "keep"),
    ),
    "summary": ("config", "json"),
    "prepare": ("config", "data_dir", "manual_dir", "split", "export", "overwrite"),
    "import": ("source", "input", "workdir", "overwrite"),
}
"""The verbs, and the flags that each of them uses."""

FLAGS = flags.FLAGS
CONFIG = "config"

flags.DEFINE_string("workdir", None, "Folder of a run: config, checkpoints, logs.")
flags.DEFINE_string(
    "data_dir", None, "Where prepared data sets lie; default: that of TFDS."
)
flags.DEFINE_string(
    "manual_dir", None, "Your own files: stacks of a challenge, images/ and labels/."
)
flags.DEFINE_string("split", None, "evaluate, tune_crf, prepare --export: the split.")
flags.DEFINE_enum(
    "checkpoint", "latest", ["latest", "best"], "evaluate, predict, tune_crf: which."
)
flags.DEFINE_bool(
    "baseline",
    False,
    "evaluate: measures what needs no network, too: Otsu's threshold, a watershed, or "
    "the commonest class at each place.",
)
flags.DEFINE_string(
    "export", None, "prepare: a folder; writes images/ and labels/ there."
)
flags.DEFINE_string("input", None, "predict: image, stack or folder; import: weights.")
flags.DEFINE_string(
    "source", None, "import: whose weights, such as torchvision/deeplabv3_resnet50."
)
flags.DEFINE_string("output", None, "predict: the folder to write to.")
flags.DEFINE_bool("overwrite", False, "Replaces files that segjax did not write, too.")
flags.DEFINE_integer(
    "tile",
    None,
    "evaluate, predict: output side of a tile in pixels, 0 for whole images; default: "
    "one that suits the image.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "downscale",
    None,
    "predict: makes images smaller by this factor; default: as in training.",
    lower_bound=1,
)
flags.DEFINE_bool("probabilities", False, "predict: writes probabilities, too.")
flags.DEFINE_bool("overlay", False, "predict: writes overlays, too.")
flags.DEFINE_bool("crf", False, "evaluate, predict: refines labels by config.crf.")
flags.DEFINE_integer("images", 100, "tune_crf: of how many images.", lower_bound=1)
flags.DEFINE_bool("keep", False, "tune_crf: puts the values into the run's config.")
flags.DEFINE_bool("json", False, "summary: writes JSON instead of a table.")
flags.DEFINE_integer(
    "interrupted_exit_code",
    0,
    "train: exit code where SIGTERM ended the run before its last step.",
    lower_bound=0,
    upper_bound=255,
)
flags.DEFINE_string(
    "coordinator", None, "Address host:port of process 0, in a run of many processes."
)
flags.DEFINE_integer("num_processes", None, "How many processes there are.")
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0 on.")


def run() -> None:
    """Runs the command that the arguments of the process name."""
    app.run(_main, flags_parser=_parse)


def wants_traceback() -> bool:
    """Whether errors are shown as tracebacks (--verbosity=1)."""
    return FLAGS.is_parsed() and logging.get_verbosity() > 0


def _verb(argv: list[str]) -> tuple[str, list[str]]:
    """The verb, and the arguments after it."""
    if argv[1:] and not argv[1].startswith("-"):
        return argv[1], argv[2:]
    return "train", argv[1:]


def remedy() -> str:
    """Says what helps a verb for which there is not enough memory."""
    from segjax.runs import remedies

    verb, _ = _verb(sys.argv)
    if verb == "train":
        return remedies.for_training(_config())
    return remedies.for_images(Path(_path("workdir") or ""), verb, FLAGS.tile)


def _parse(argv: list[str]) -> list[str]:
    """Takes the verb out of the arguments and parses the flags."""
    verb, rest = _verb(argv)
    if verb not in VERBS:
        raise UserError(f'"{verb}" is no verb.{suggestion(verb, VERBS)}')
    if CONFIG not in FLAGS:
        config_flags.DEFINE_config_file(
            CONFIG, None, "The experiment: a file, and a preset after a colon."
        )
    if {"--help", "-h", "-help"} & set(rest):
        listed = FLAGS.module_help(__name__)
        ending.say(f"{__doc__}\nFlags:\n{listed}")
        sys.exit(0)
    config = config_lib.named_by(rest, f"--{CONFIG}")
    try:
        unused = FLAGS([argv[0], *rest])[1:]
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        raise UserError(_flag_sentence(error, config)) from error
    if unused:
        raise UserError(f'"{unused[0]}" is no flag: flags are written --flag=value.')
    _check_use(verb)
    return [argv[0], verb]


def _check_use(verb: str) -> None:
    """Checks that the verb uses all the flags that were given."""
    for name in sorted({flag for used in VERBS.values() for flag in used}):
        if FLAGS[name].present and name not in VERBS[verb]:
            users = [other for other, used in VERBS.items() if name in used]
            raise UserError(
                f"{verb} does not use --{name}; {', '.join(users)} "
                f"{'do' if len(users) > 1 else 'does'}. Leave it out."
            )


def _flag_sentence(error: Exception, config: ml_collections.ConfigDict | None) -> str:
    """Says what absl found wrong with the flags, and what would be right."""
    if isinstance(error, flags.UnrecognizedFlagError):
        flag = f"--{error.flagname}"
        own = (flag.name for flag in FLAGS.get_key_flags_for_module(__name__))
        known = [f"--{name}" for name in dict.fromkeys((CONFIG, *own))]
        return f"There is no flag {flag}.{suggestion(flag, known)}"
    text = " ".join(str(error).split()).rstrip(".")
    flag, _, reason = text.removeprefix("flag ").partition(": ")
    name = flag.partition("=")[0].removeprefix(f"--{CONFIG}.")
    if not flag.startswith("--") or not reason:
        return f"{text}. See --help."
    if config is None or name == flag.partition("=")[0]:
        return f"{flag} cannot be read: {reason}. See --help."
    value = config_lib.value_of(config, name)
    return f"{flag} does not fit ({reason}): give a value like the config's, {value!r}."


def _main(argv: list[str]) -> None:
    """Sets the process up, then hands over to the verb."""
    verb = argv[1]
    ending.send_log_to_stderr()
    if logging.get_verbosity() <= 0:
        logging.set_verbosity(logging.ERROR)  # absl's, and so that of Orbax and JAX
    _set_up_jax()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(orbax|grain|tensorflow_datasets)")
        {
            "train": _train,
            "evaluate": _evaluate,
            "predict": _predict,
            "tune_crf": _tune_crf,
            "summary": _summary,
            "prepare": _prepare,
            "import": _import,
        }[verb]()


def _set_up_jax() -> None:
    """Joins the other processes, and keeps compiled programs for the next time."""
    import jax

    from segjax.training.malloc import keep_freed_memory
    from segjax.training.sharding import join_processes

    keep_freed_memory()
    cache = "JAX_COMPILATION_CACHE_DIR"
    if cache not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", f"{home}/segjax/jax")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    join_processes(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)


def _train() -> None:
    from segjax.runs.train import train

    result = train(_config(), _workdir(), _path("data_dir"), _path("manual_dir"))
    _print_result(
        {
            "step": result.step,
            "parameters_sha256": result.parameters_sha256,
            "interrupted": result.interrupted,
            **result.metrics,
        }
    )
    if result.signal == signal.SIGINT:
        sys.exit(ending.INTERRUPTED)
    sys.exit(FLAGS.interrupted_exit_code if result.interrupted else 0)


def _evaluate() -> None:
    from segjax.runs.evaluate import evaluate_run

    result = evaluate_run(
        _workdir(),
        split=FLAGS.split,
        best=FLAGS.checkpoint == "best",
        tile=FLAGS.tile,
        baseline=FLAGS.baseline,
        crf=FLAGS.crf,
        data_dir=_path("data_dir"),
        manual_dir=_path("manual_dir"),
    )
    for name, value in result.items():
        if isinstance(value, float):
            ending.say(f"{name:30} {value:.4f}")
    _print_result(result)


def _predict() -> None:
    from segjax.runs.predict import page_progress, predict_run

    output = _required("output", "the folder to write to")
    given = _required("input", "an image, a stack, or a folder of them")
    files = predict_run(
        _workdir(),
        given,
        output,
        best=FLAGS.checkpoint == "best",
        tile=FLAGS.tile,
        downscale=FLAGS.downscale,
        probabilities=FLAGS.probabilities,
        overlay=FLAGS.overlay,
        crf=FLAGS.crf,
        overwrite=FLAGS.overwrite,
        progress=page_progress(),
    )
    many = "" if len(files) == 1 else "s"
    kinds = [f"label file{many}"]
    kinds += [f"file{many} of probabilities"] * FLAGS.probabilities
    kinds += [f"overlay{many}"] * FLAGS.overlay
    ending.say(f"Wrote {', '.join(f'{len(files)} {x}' for x in kinds)} to {output}")


def _tune_crf() -> None:
    from segjax.runs.tune_crf import tune_run

    result = tune_run(
        _workdir(),
        split=FLAGS.split,
        best=FLAGS.checkpoint == "best",
        images=FLAGS.images,
        keep=FLAGS.keep,
        data_dir=_path("data_dir"),
        manual_dir=_path("manual_dir"),
    )
    ending.say(
        f"crf = dict({', '.join(f'{k}={v!r}' for k, v in result['crf'].items())})"
    )
    _print_result(result)


def _summary() -> None:
    from segjax.inspect.summary import table
    from segjax.runs.summary import summarize

    summary = summarize(_config())
    ending.say(json.dumps(summary) if FLAGS.json else table(summary))


def _prepare() -> None:
    from segjax.tasks.table import make_task
    from segjax.training.preflight import describe_dataset

    task = make_task(_config())
    source, folder = _path("manual_dir"), None
    if FLAGS.export is not None:
        folder = _required("export", "the folder to write to")
    dataset = task.open_dataset(_path("data_dir"), source)
    ending.say(describe_dataset(dataset))
    if folder:
        split, overwrite = FLAGS.split or "train", FLAGS.overwrite
        files = task.export(dataset, split, folder, source=source, overwrite=overwrite)
        ending.say(f"Exported   {len(files)} images of {split} to {folder}")


def _import() -> None:
    from segjax.runs.imported import import_weights

    source = _required("source", "such as torchvision/deeplabv3_resnet50")
    file = _required("input", "a file ending in .safetensors, .npz or .pth")
    overwrite = FLAGS.overwrite
    _print_result(import_weights(source, file, _workdir(), overwrite=overwrite))


def _print_result(result: dict[str, Any]) -> None:
    """Prints one JSON object, the last line of stdout."""
    from segjax.training.writer import json_line

    ending.say(json_line(result).rstrip())


def _config() -> ml_collections.ConfigDict:
    if FLAGS[CONFIG].value is None:
        raise UserError("Give an experiment, as --config=configs/unet_em.py (--help).")
    return FLAGS[CONFIG].value


def _workdir() -> Path:
    return Path(_required("workdir", "the folder of the run"))


def _path(flag: str) -> str | None:
    """The value of a flag; ~ is the person's own folder."""
    value = FLAGS[flag].value
    return None if value is None else os.path.expanduser(value)


def _required(flag: str, meaning: str) -> str:
    value = _path(flag)
    if not value:
        raise UserError(f"Give --{flag}=..., {meaning}.")
    return value
