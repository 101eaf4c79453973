"""Integers about images: accepted sizes, receptive fields, alignment, tiles. No array is touched."""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax.geometry.alignment import align as align
    from segjax.geometry.fields import Layer as Layer
    from segjax.geometry.fields import ReceptiveField as ReceptiveField
    from segjax.geometry.fields import input_window as input_window
    from segjax.geometry.fields import output_size as output_size
    from segjax.geometry.fields import receptive_field as receptive_field
    from segjax.geometry.input_sizes import Geometry as Geometry
    from segjax.geometry.tiles import Plan as Plan
    from segjax.geometry.tiles import Window as Window
    from segjax.geometry.tiles import plan as plan

__getattr__, __dir__ = exports(__name__)
