"""Predictions for images of any size: tiles, stacks, folders, files."""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax.predict.test_time import AveragedPredictor as AveragedPredictor
    from segjax.predict.test_time import TestTimeAugmentation as TestTimeAugmentation
    from segjax.predict.tiled import Predictor as Predictor

__getattr__, __dir__ = exports(__name__)
