"""The objects of a data set: their numbers in COCO's files, and their joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segjax.errors import UserError

COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107,
    0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
"""How far people's clicks on the 17 points of COCO's persons spread, as fractions of the
square root of the person's area (cocodataset.org, "Keypoint Evaluation")."""

DEFAULT_SIGMA = 0.07
"""The same for points of other data sets; about the mean of COCO's."""


@dataclass(frozen=True)
class KeypointSpec:
    """The points that each object has.

    Attributes:
      names: of the P points.
      skeleton: pairs of points that a bone joins, by position from 0.
      sigmas: spread of each point for OKS; empty gives COCO's for 17 points, else
        `DEFAULT_SIGMA`.

    Raises:
      UserError: if the parts contradict each other.

    Example:
      >>> KeypointSpec(("head", "left_hand", "right_hand")).swap
      (0, 2, 1)
    """

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        bones = tuple((int(a), int(b)) for a, b in self.skeleton)
        object.__setattr__(self, "skeleton", bones)
        count = len(self.names)
        if not count or len(set(self.names)) != count:
            raise UserError(
                f"The keypoints are named {', '.join(self.names) or 'nothing'}; each "
                "needs a name of its own."
            )
        if any(not 0 <= end < count for bone in bones for end in bone):
            raise UserError(
                f"The skeleton is {bones}, but there are {count} keypoints: its pairs "
                f"must hold 0 to {count - 1} (1 to {count} in COCO's files)."
            )
        sigmas = tuple(float(s) for s in self.sigmas)
        if not sigmas:
            ordinary = (DEFAULT_SIGMA,) * count
            sigmas = COCO_SIGMAS if count == len(COCO_SIGMAS) else ordinary
        if len(sigmas) != count or min(sigmas) <= 0:
            raise UserError(
                f"There are {len(sigmas)} keypoint sigmas for {count} keypoints; give "
                "one above 0 for each."
            )
        object.__setattr__(self, "sigmas", sigmas)

    @property
    def swap(self) -> tuple[int, ...]:
        """Which point each one becomes in a mirror: "left" and "right" change places."""
        place = {name: i for i, name in enumerate(self.names)}
        return tuple(place.get(_mirrored(name), i) for i, name in enumerate(self.names))


@dataclass(frozen=True)
class InstanceSpec:
    """The description of a data set of objects, beyond the names of its classes.

    Attributes:
      category_ids: number of each class in COCO's files, from class 1 on.
      keypoints: the points of each object, None where there are none.

    Example:
      >>> spec = InstanceSpec((1, 3), KeypointSpec(("head", "hip"), ((0, 1),)))
      >>> import dataclasses
      >>> InstanceSpec(**dataclasses.asdict(spec)) == spec
      True
    """

    category_ids: tuple[int, ...]
    keypoints: KeypointSpec | None = None

    def __post_init__(self) -> None:
        # One that came back from JSON has lists, and a dict for the keypoints.
        object.__setattr__(self, "category_ids", tuple(map(int, self.category_ids)))
        if isinstance(self.keypoints, Mapping):
            object.__setattr__(self, "keypoints", KeypointSpec(**self.keypoints))

    @property
    def class_of(self) -> Mapping[int, int]:
        """Class id of each category id."""
        return {number: k for k, number in enumerate(self.category_ids, 1)}


def _mirrored(name: str) -> str:
    if "left" in name:
        return name.replace("left", "right")
    return name.replace("right", "left")
