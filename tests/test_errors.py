import pytest

from segjax.errors import LONGEST, UserError, suggestion


@pytest.mark.parametrize(
    ("word", "known", "sentence"),
    [
        ("trian", ["train", "predict"], ' Did you mean "train"?'),
        ("elastic", ["flip", "elastic_deformation"], ' Did you mean "elastic_'),
        ("xyz", ["b", "a"], " Known: a, b."),
        ("", ["b", "a"], " Known: a, b."),
        ("axis", [], " There are none."),
    ],
)
def test_suggestion_is_the_close_word_or_all_of_them(word, known, sentence):
    assert suggestion(word, iter(known)).startswith(sentence)


def test_a_sentence_stays_on_its_line():
    assert str(UserError("a\nb\tc.png is empty.")) == r"a\nb\tc.png is empty."


def test_a_sentence_that_nobody_would_read_loses_its_middle():
    message = str(UserError(f"a.json lists {'x' * 5000}. Remove it."))
    assert len(message) <= LONGEST
    assert message.startswith("a.json lists xxx")
    assert message.endswith("xxx. Remove it.")
    assert str(UserError("a" * LONGEST)) == "a" * LONGEST
