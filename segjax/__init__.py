"""Image segmentation in JAX and Flax Linen."""

__version__ = "0.1.0"

_LAZY = ("pretrained",)
"""Parts that are there after `import segjax`, and imported when they are first named."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return __import__(f"{__name__}.{name}", fromlist=[name])
