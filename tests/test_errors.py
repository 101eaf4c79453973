import pytest

from segjax.errors import suggestion


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
