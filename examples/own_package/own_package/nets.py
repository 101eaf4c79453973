"""A network: a module of Flax that gives logits."""

from __future__ import annotations

import flax.linen as nn
import jax


class TwoScales(nn.Module):
    """Looks at an image closely and from afar; images have even sides.

    Attributes:
      num_classes: channels of the logits, K.
      features: channels of the layers between.
    """

    num_classes: int
    features: int = 8

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Maps `image` `[B, H, W, C]` to `logits` `[B, H, W, K]`."""
        del train  # there is neither dropout nor a norm
        near = nn.relu(nn.Conv(self.features, (3, 3), name="near")(image))
        far = nn.avg_pool(near, (2, 2), strides=(2, 2))
        far = nn.relu(nn.Conv(self.features, (5, 5), name="far")(far))
        far = jax.image.resize(far, near.shape, "nearest")
        return {"logits": nn.Conv(self.num_classes, (1, 1), name="logits")(near + far)}
