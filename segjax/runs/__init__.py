"""Whole runs, for Python and the command line: train, load, evaluate, predict, report ..."""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax.runs.compare import compare_runs as compare_runs
    from segjax.runs.evaluate import evaluate_run as evaluate_run
    from segjax.runs.imported import import_weights as import_weights
    from segjax.runs.load import TrainedModel as TrainedModel
    from segjax.runs.load import load_trained as load_trained
    from segjax.runs.predict import predict_run as predict_run
    from segjax.runs.report import report_run as report_run
    from segjax.runs.summary import summarize as summarize
    from segjax.runs.tune_crf import tune_run as tune_run
    from segjax.runs.tune_instances import tune_instances_run as tune_instances_run

__getattr__, __dir__ = exports(__name__)
