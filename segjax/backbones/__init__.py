"""Image -> named feature maps; `BACKBONES` names them for the configs."""

from collections.abc import Callable

import flax.linen as nn

BACKBONES: dict[str, Callable[..., nn.Module]] = {}
