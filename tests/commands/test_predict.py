"""Flags of predict that are read as text."""

import pytest
from absl import flags

from segjax.commands.predict import define, run
from segjax.commands.shared_flags import pages_of
from segjax.errors import UserError


def pages(text):
    values = flags.FlagValues()
    define(values)
    values(["segjax", f"--pages={text}"])
    return pages_of(values)


def test_pages_are_numbers_and_ranges():
    assert pages("7, 2-4,3") == [7, 2, 3, 4]


@pytest.mark.parametrize("text", ["0", "a", "4-2", "1,,2", "1-99999999", "1-", "-1"])
def test_what_names_no_pages_is_reported(text):
    with pytest.raises(UserError, match="is no list of pages"):
        pages(text)


def test_files_of_outlines_are_told_with_the_others(monkeypatch, capsys):
    monkeypatch.setattr("segjax.runs.predict.predict_run", lambda *_, **__: ["a.png"])
    values = flags.FlagValues()
    define(values)
    given = ["--workdir=run", "--input=a.png", "--output=out", "--instances"]
    values(["segjax", *given, "--outlines=imagej,geojson"])
    run(values)
    assert capsys.readouterr().out.startswith(
        "Wrote 1 label file, 1 file of instances, 1 file of outlines (imagej), 1 file of "
        "outlines (geojson) to out\n"
    )
    with pytest.raises(flags.IllegalFlagValueError, match="imagej"):
        values(["segjax", *given, "--outlines=imagej,qupath"])


@pytest.mark.parametrize("flag", ["checkpoint", "outlines", "input"])
def test_a_flag_without_its_value_is_answered_by_the_values_that_it_has(main, flag):
    sentence = main("predict", "--workdir=run", f"--{flag}").sentence
    values = {
        "checkpoint": ", latest or best or a step",
        "outlines": ", imagej or geojson",
    }
    which = values.get(flag, "")
    assert sentence == f"segjax: --{flag} needs a value{which}. See --help."
