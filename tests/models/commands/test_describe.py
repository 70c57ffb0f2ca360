"""``codeclens describe``: the answer on stdout, everything else on stderr, one line for wrong input."""

import pytest
from codeclens.__main__ import main
from PIL import Image


@pytest.fixture
def arguments(qwen3vl_fixtures, tmp_path):
    """The beginning of a command line, and a picture."""
    picture = tmp_path / "picture.png"
    Image.radial_gradient("L").resize((192, 128)).save(picture)
    model = str(qwen3vl_fixtures / "tiny-tied" / "tiny-tied-Q4_K_M.gguf")
    return [str(picture), "What is this?", "--model", model, "--device", "cpu", "--max-tokens", "4"]


def test_the_answer_is_all_there_is_on_stdout(arguments, capsys):
    assert main(["describe", *arguments, "--greedy"]) == 0
    first = capsys.readouterr()
    assert first.out.endswith("\n") and len(first.out) > 1
    assert first.err == "codeclens: cut off at 4 tokens; raise --max-tokens\n"
    assert main(["describe", *arguments, "--greedy", "--seed", "9"]) == 0
    assert capsys.readouterr().out == first.out


def test_several_pictures_are_seen_and_none_is_fine(arguments, capsys):
    assert main(["describe", arguments[0], *arguments, "--greedy"]) == 0
    two = capsys.readouterr().out
    assert main(["describe", *arguments[1:], "--greedy"]) == 0
    none = capsys.readouterr().out
    assert main(["describe", *arguments, "--greedy"]) == 0
    assert len({two, none, capsys.readouterr().out}) > 1


def test_a_transparent_picture_stands_on_black(arguments, tmp_path, capsys):
    clear, black = tmp_path / "clear.png", tmp_path / "black.png"
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(clear)
    Image.new("RGB", (64, 64), "black").save(black)
    answers = []
    for path in (clear, black):
        assert main(["describe", str(path), *arguments[1:]]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_a_picture_of_impossible_sides_is_named(arguments, tmp_path, capsys):
    Image.new("L", (2100, 10)).save(tmp_path / "strip.png")
    assert main(["describe", str(tmp_path / "strip.png"), *arguments[1:]]) == 2
    assert "strip.png is 2100 x 10; sides may differ by a factor of 200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: "absent.png"}, "absent.png cannot be read"),
        ({0: __file__}, "is not a picture"),
        ({3: "absent.gguf"}, "absent.gguf"),
        ({3: __file__}, "is not a GGUF file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, change, words, capsys):
    for index, value in change.items():
        arguments[index] = value
    assert main(["describe", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and said.err.count("\n") == 1
