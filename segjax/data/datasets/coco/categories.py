"""The 80 kinds of things of COCO by their numbers, and the 17 points of its persons.

Facts of the annotation files of COCO 2017 (cocodataset.org). Weights that were trained on
COCO name no classes; with these tables predictions can.
"""

from __future__ import annotations

from collections.abc import Mapping

from segjax.data.files.palette import voc_colors
from segjax.data.instance_spec import InstanceSpec, KeypointSpec
from segjax.data.label_spec import InstanceClasses
from segjax.errors import UserError

# fmt: off
_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "", "stop sign", "parking meter", "bench", "bird",
    "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "",
    "backpack", "umbrella", "", "", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife",
    "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "",
    "dining table", "", "", "toilet", "", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
"""By category id, from 1; empty where there is no category of that id."""
# fmt: on

CATEGORIES = {i: name for i, name in enumerate(_NAMES, 1) if name}
"""Names of the categories by their ids, 1 to 90 with gaps."""

RAW_CLASSES = 1 + len(_NAMES)
"""Classes of weights whose class ids are the category ids, the background among them."""

_LEFT_AND_RIGHT = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_POINTS = (
    "nose",
    *(f"{side}_{part}" for part in _LEFT_AND_RIGHT for side in ("left", "right")),
)
_BONES = (
    *(("left_ankle", "left_knee"), ("left_knee", "left_hip")),
    *(("right_ankle", "right_knee"), ("right_knee", "right_hip")),
    *(("left_hip", "right_hip"), ("left_shoulder", "left_hip")),
    *(("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder")),
    *(("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow")),
    *(("left_elbow", "left_wrist"), ("right_elbow", "right_wrist")),
    *(("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye")),
    *(("left_eye", "left_ear"), ("right_eye", "right_ear")),
    *(("left_ear", "left_shoulder"), ("right_ear", "right_shoulder")),
)

PERSON = KeypointSpec(
    _POINTS, tuple((_POINTS.index(a), _POINTS.index(b)) for a, b in _BONES)
)
"""The points of a person, and the bones between them."""


def coco_specs(
    num_classes: int, keypoints: int | None = None
) -> tuple[InstanceClasses, InstanceSpec]:
    """Names of the classes of weights, as far as their number determines them.

    Args:
      num_classes: with the background. 91 are COCO's category ids, gaps included; 81
        are COCO's categories one after the other.
      keypoints: points of each object; 17 are those of COCO's persons.

    Returns:
      Names and colours of the classes, and their category ids. Classes that are not
      known, and points, have numbers for names.

    Example:
      >>> spec, objects = coco_specs(91)
      >>> spec.names[18], objects.category_ids[-1]
      ('dog', 90)
      >>> coco_specs(2, keypoints=17)[0].names
      ('background', 'person')
    """
    points = None
    if keypoints is not None:
        names = tuple(f"point{i}" for i in range(keypoints))
        points = PERSON if keypoints == len(_POINTS) else KeypointSpec(names)
    if num_classes in (1 + len(CATEGORIES), RAW_CLASSES):
        kinds = CATEGORIES
    elif num_classes == 2 and points is PERSON:
        kinds = {1: CATEGORIES[1]}
    else:
        kinds = {i: f"class{i}" for i in range(1, num_classes)}
    return category_specs(kinds, points, raw_ids=num_classes == RAW_CLASSES)


def category_specs(
    categories: Mapping[int, str], keypoints: KeypointSpec | None, *, raw_ids: bool
) -> tuple[InstanceClasses, InstanceSpec]:
    """Names and numbers of classes that are categories.

    Args:
      categories: names by id, rising.
      keypoints: the points of each object, where there are any.
      raw_ids: whether class ids are the category ids, gaps included.

    Returns:
      Names and colours of the classes, the background first, and their category ids.
      Colours repeat after 255 classes. Where a category is named "background", the class
      of no object is named so.

    Raises:
      UserError: if there are more than a network has room for, or `raw_ids` gives a
        category the class of the background.
    """
    lowest, highest = min(categories, default=1), max(categories, default=0)
    if raw_ids and lowest < 1:
        raise UserError(
            f"The category {categories[lowest]!r} has the id {lowest}, which as a class id "
            "is the background's; set config.data.raw_ids=False."
        )
    count = highest if raw_ids else len(categories)
    if count >= InstanceClasses.most_classes:
        advice = "set config.data.raw_ids=False." if raw_ids else "merge some of them."
        raise UserError(
            f"The categories need {count} class ids, more than the "
            f"{InstanceClasses.most_classes - 1} that are possible; {advice}"
        )
    ids = tuple(range(1, highest + 1) if raw_ids else categories)
    taken = "background" in categories.values()
    first = "no object" if taken else "background"
    names = (first, *(categories.get(i, f"unused {i}") for i in ids))
    table = voc_colors(256)
    colors = (table[0], *(table[1 + place % 255] for place in range(len(ids))))
    return InstanceClasses(names, colors), InstanceSpec(ids, keypoints)
