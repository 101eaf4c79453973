"""Flags of export, which belong to formats."""

import pytest
from absl import flags

from segjax.commands.export import define, run
from segjax.errors import UserError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tile=8"], "--tile is not about --format=segjax: leave it out, or give "),
        (
            ["--format=onnx", "--tile=8"],
            "=onnx: leave it out, or give --format=stablehlo",
        ),
        (["--format=onnx", "--example=x.png"], "or give --format=bioimageio"),
        (["--precision=int8"], "leave it out, or give --format=onnx"),
        (["--format=stablehlo", "--image_size=8"], "is not a height and a width"),
        (["--format=stablehlo", "--image_size=0,8"], "is not a height and a width"),
    ],
)
def test_flags_that_mean_nothing_are_refused(given, message):
    values = flags.FlagValues()
    define(values)
    values(["segjax", "--workdir=run", "--output=x.zip", *given])
    with pytest.raises(UserError, match=message):
        run(values)
