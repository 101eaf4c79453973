"""The meaning of logits, by the config."""

import ml_collections
import pytest

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.semantic.head import head_of


def head(activation, num_classes):
    config = {"head": activation, "model": {"num_classes": num_classes}}
    return head_of(ml_collections.ConfigDict(config))


SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (255, 0, 0)))


def test_one_logit_tells_two_classes_apart():
    one = head("sigmoid", 1)
    assert (one.num_logits, one.num_classes, one.is_binary) == (1, 2, True)
    one.check_labels(SPEC, "folder")


def test_softmax_of_one_logit_is_refused():
    with pytest.raises(UserError, match="always 1"):
        head("softmax", 1)


def test_a_misspelt_head_gets_a_suggestion():
    with pytest.raises(UserError, match="sigmoid"):
        head("sigmiod", 1)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [("softmax", "sigmoid_dice"), ("sigmoid", "cross_entropy")],
)
def test_losses_of_the_other_head_are_refused(activation, loss):
    with pytest.raises(UserError, match="use one of"):
        head(activation, 2).check_loss(loss)


def test_losses_from_outside_may_read_anything():
    head("sigmoid", 1).check_loss("package.module:loss")


def test_a_number_of_logits_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"num_classes is 3, .*or 1, with"):
        head("softmax", 3).check_labels(SPEC, "folder")
