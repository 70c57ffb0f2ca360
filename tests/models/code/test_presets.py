"""Caption presets are files; a wrong one says what is wrong with it."""

import json

import pytest
from codeclens.models.code.presets import list_presets, read_preset
from codeclens.models.errors import InputError


@pytest.mark.parametrize("name", ["alt_text", "dense", "hunyuan", "json", "ltx", "plain", "tags", "wan"])
def test_every_preset_of_the_pack_reads(name):
    preset = read_preset(list_presets()[name])
    assert preset.name == name and preset.prompt and 64 <= preset.max_tokens <= 1024
    assert (preset.schema is not None) == (name == "json")


def test_a_users_folder_adds_presets_and_wins(tmp_path):
    (tmp_path / "mine.json").write_text('{"title": "Mine", "prompt": "What is it?"}')
    (tmp_path / "plain.json").write_text('{"title": "Mine too", "prompt": "Say it in verse."}')
    presets = list_presets(tmp_path)
    assert read_preset(presets["mine"]).max_tokens == 512
    assert read_preset(presets["plain"]).title == "Mine too"
    assert "dense" in presets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a preset"),
        ("[1]", "not a preset"),
        ('{"title": "x"}', "'prompt' is None; a preset needs a string there"),
        ('{"prompt": "x", "max_tokens": "many"}', "'max_tokens' is 'many'; a preset needs a whole number there"),
        ('{"prompt": "x", "max_tokens": true}', "'max_tokens' is True; a preset needs a whole number there"),
        ('{"prompt": "x", "schema": []}', "'schema' is \\[\\]; a preset needs an object there"),
    ],
)
def test_a_wrong_preset_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_preset(path)


def test_presets_are_ascii_so_that_every_editor_shows_them_alike():
    for path in list_presets().values():
        json.dumps(json.loads(path.read_text(encoding="ascii")))
