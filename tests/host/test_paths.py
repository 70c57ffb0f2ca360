"""A workflow from a stranger: no text and no choice of any node leads to a file outside of the host's folders."""

import json
import shutil
import subprocess
import sys

import pytest
from support.comfyui import PATIENCE, ROOT, find_comfyui, host_environment, why_not

TASK = {"question": "What?", "answer": "this"}


@pytest.mark.slow
def test_hostile_paths_open_nothing_outside(tmp_path, demo_clip):
    if reason := why_not():
        pytest.skip(reason)
    base, secrets = tmp_path / "host", tmp_path / "secrets"
    for folder in ("input", "output", "temp", "models", "user", "custom_nodes"):
        (base / folder).mkdir(parents=True)
    secrets.mkdir()
    shutil.copyfile(demo_clip, secrets / "clip.mp4")
    for name in ("stream.gvcb", "model.gguf", "rubric.json"):
        (secrets / name).write_bytes(b"secret")
    (secrets / "tasks.jsonl").write_text(json.dumps({"clip": "clip.mp4", **TASK}))
    stranger = json.dumps({"clip": str(secrets / "clip.mp4"), **TASK})
    (base / "input" / "tasks-of-a-stranger.jsonl").write_text(stranger)
    (base / "input" / "clips-above.jsonl").write_text(json.dumps({"clip": "../../secrets/clip.mp4", **TASK}))
    before = sorted(path.name for path in secrets.iterdir())
    script = ROOT / "tests" / "support" / "hostile_paths.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(find_comfyui()), str(ROOT), str(base), str(secrets), "--cpu"],
        env=host_environment(tmp_path / "site"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    print(f"{len(found['tries'])} tries over {len({(node, name) for node, name, _, _ in found['tries']})} inputs")
    assert len({node for node, *_ in found["tries"]}) > 10
    assert found["opened"] == [] and found["written"] == before
    refused = {(value, name): error for node, name, value, error in found["tries"] if node == "CodecLensEvaluateModes"}
    for value in (str(secrets / "tasks.jsonl"), "tasks-of-a-stranger.jsonl", "clips-above.jsonl"):
        assert "outside of the folders of this ComfyUI" in refused[value, "tasks"]
    saved = [error for node, name, value, error in found["tries"] if name == "filename_prefix" and "secrets" in value]
    assert saved and all("InputError: " in error for error in saved if "MagicMock" not in error)
