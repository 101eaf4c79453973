"""Image segmentation in JAX and Flax Linen.

    import segjax
    segjax.train(config, "runs/x")
    segjax.load("runs/x").labels(image)

Nothing is imported before it is named.
"""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax import backbones as backbones
    from segjax import classical as classical
    from segjax import config as config
    from segjax import data as data
    from segjax import geometry as geometry
    from segjax import layers as layers
    from segjax import losses as losses
    from segjax import metrics as metrics
    from segjax import models as models
    from segjax import ops as ops
    from segjax import predict as predict
    from segjax import pretrained as pretrained
    from segjax import runs as runs
    from segjax import viz as viz
    from segjax.errors import UserError as UserError
    from segjax.runs.evaluate import evaluate_run as evaluate
    from segjax.runs.load import load_trained as load
    from segjax.runs.summary import summarize as summarize
    from segjax.runs.train import train as train

__version__ = "0.1.0"

__getattr__, __dir__ = exports(__name__)
