"""What objects are: numbers of categories, joints, and what a mirror does to them."""

import dataclasses
import json

import pytest

from segjax.data.instance_spec import (
    COCO_SIGMAS,
    DEFAULT_SIGMA,
    InstanceSpec,
    KeypointSpec,
)
from segjax.errors import UserError

NAMES = ("nose", "left_eye", "right_eye")


def test_left_and_right_change_places_and_the_rest_stays():
    assert KeypointSpec(NAMES).swap == (0, 2, 1)
    assert KeypointSpec(("tip", "left")).swap == (0, 1)


def test_sigmas_are_those_of_coco_for_its_seventeen_points():
    seventeen = KeypointSpec(tuple(f"p{i}" for i in range(17)))
    assert seventeen.sigmas == COCO_SIGMAS
    assert KeypointSpec(NAMES).sigmas == (DEFAULT_SIGMA,) * 3
    assert KeypointSpec(NAMES, sigmas=(0.1, 0.2, 0.3)).sigmas == (0.1, 0.2, 0.3)


def test_a_spec_comes_back_from_json_as_it_was():
    spec = InstanceSpec((1, 44), KeypointSpec(NAMES, ((0, 1), (0, 2))))
    stored = json.loads(json.dumps(dataclasses.asdict(spec)))
    again = InstanceSpec(**stored)
    assert again == spec
    assert hash(again) == hash(spec)
    assert spec.class_of == {1: 1, 44: 2}
    assert InstanceSpec(**json.loads('{"category_ids": [7]}')).keypoints is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"names": ()}, "named nothing; each needs a name"),
        ({"names": ("a", "a")}, "named a, a; each needs a name"),
        ({"names": NAMES, "skeleton": ((0, 3),)}, "must hold 0 to 2 .1 to 3 in COCO"),
        ({"names": NAMES, "sigmas": (0.1,)}, "1 keypoint sigmas for 3 keypoints"),
        ({"names": NAMES, "sigmas": (0.1, 0.1, 0.0)}, "one above 0 for each"),
    ],
)
def test_parts_that_contradict_each_other_are_reported(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        KeypointSpec(**arguments)
