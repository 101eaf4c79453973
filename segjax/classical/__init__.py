"""Methods without a network: thresholds and watersheds, to measure trained networks against."""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax.classical.otsu import otsu_baseline as otsu_baseline
    from segjax.classical.otsu import otsu_threshold as otsu_threshold
    from segjax.classical.watershed import watershed_baseline as watershed_baseline

__getattr__, __dir__ = exports(__name__)
