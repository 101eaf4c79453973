import os

import pytest

from segjax.errors import UserError, escape_control
from segjax.text_files import decode_text, parse_json, read_lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_and_without_a_mark_is_the_same(encoding):
    assert decode_text("Zelle ä\n".encode(encoding), "a") == "Zelle ä\n"


@pytest.mark.parametrize("raw", [b"\xff\x00", b"\xe4", b"\xff\xfea"])
def test_other_bytes_end_in_a_sentence(raw):
    with pytest.raises(UserError, match=r"list\.txt is not text"):
        decode_text(raw, "list.txt")


@pytest.mark.parametrize("raw", [b"", b"{", b"[" * 100_000, b"\xff", b"9" * 10_000])
def test_whatever_is_not_json_ends_in_a_sentence(raw):
    with pytest.raises(UserError, match=r"a\.json is not"):
        parse_json(raw, "a.json")


def test_json_with_a_mark_and_in_utf_16_is_read():
    assert parse_json('{"a": [1]}'.encode("utf-16"), "a") == {"a": [1]}
    assert parse_json(b"\xef\xbb\xbf[]", "a") == []


def test_a_pointer_of_git_is_reported_as_one(tmp_path):
    raw = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for read in (decode_text, parse_json):
        with pytest.raises(
            UserError, match=r"a\.json is a git-LFS pointer.*git lfs pull"
        ):
            read(raw, "a.json")


def test_the_marks_of_utf_32_are_not_taken_for_those_of_utf_16():
    for encoding, mark in (("utf-32-le", "fffe0000"), ("utf-32-be", "0000feff")):
        raw = bytes.fromhex(mark) + "a ä".encode(encoding)
        assert decode_text(raw, "a") == "a ä"
    with pytest.raises(UserError, match=r"a is not text in UTF-32-LE"):
        decode_text(b"\xff\xfe\0\0abc", "a")


def test_lines_are_read_or_reported_as_unreadable(tmp_path):
    (tmp_path / "a.txt").write_bytes("a ä\r\nb\r\n".encode("utf-16"))
    assert read_lines(tmp_path / "a.txt") == ["a ä", "b"]
    with pytest.raises(UserError, match=r"b\.txt cannot be read \(No such file"):
        read_lines(tmp_path / "b.txt")


@pytest.mark.parametrize(
    "character",
    [
        "\x1b",
        "\x9b",
        "\x00",
        "\u202e",
        "\u2066",
        "\u200f",
        "\u061c",
        "\udcff",
        "\u0a31",
    ],
)
def test_a_sentence_holds_no_character_that_a_terminal_obeys(character):
    sentence = str(UserError(f"a{character}b.png is empty. ä"))
    assert character not in sentence
    assert sentence.endswith("b.png is empty. ä")
    sentence.encode()


def test_ordinary_text_is_left_alone():
    joined = "می\u200cخواهم 👩\u200d🔬"  # a Persian word and a woman who is a scientist
    assert escape_control(joined) == joined
    assert escape_control("试验\u3000 1 – ä\tb") == "试验\u3000 1 – ä\tb"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"list\.txt cannot be read \(it is a pipe"):
        read_lines(tmp_path / "list.txt")
