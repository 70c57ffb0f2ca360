"""Each command is added by its family, and brings that family alone."""

import argparse
import subprocess
import sys
from importlib import import_module

from codeclens.__main__ import FAMILIES
from support.comfyui import ROOT

PLANNED = """if True:
    import sys
    from codeclens.__main__ import main
    main(["plan", "missing.mp4"])
    print(*sys.modules)
"""


def test_the_table_names_what_the_families_add():
    modules = {
        file.stem for file in (ROOT / "models" / "commands").glob("*.py") if "def add_commands" in file.read_text()
    }
    assert modules == set(FAMILIES)
    for family, names in FAMILIES.items():
        commands = argparse.ArgumentParser().add_subparsers()
        import_module(f"codeclens.models.commands.{family}").add_commands(commands)
        assert tuple(commands.choices) == names


def test_a_plan_brings_neither_training_nor_the_writer_of_models():
    run = subprocess.run([sys.executable, "-c", PLANNED], capture_output=True, text=True)
    assert "missing.mp4" in run.stderr
    brought = run.stdout.split()
    assert "codeclens.models.commands.video" in brought
    assert not {"codeclens.models.commands.training", "codeclens.models.gvc.codec", "gguf", "yaml"} & set(brought)
