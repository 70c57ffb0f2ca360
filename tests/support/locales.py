"""The English texts of the nodes as ComfyUI's locales hold them: what a translation starts from.

``python tests/support/locales.py`` writes ``locales/en/nodeDefs.json`` from the schemas of the ComfyUI that is found.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.comfyui import ROOT, find_comfyui, host_environment

FILE = ROOT / "locales" / "en" / "nodeDefs.json"
COMPILED = "@{}|"
"""Characters that the host's page reads as syntax in names and descriptions; it takes tooltips as they are."""


def read_schemas(folder: Path) -> dict:
    """Every node's schema by its id, as ComfyUI asks for it; ``folder`` is for what its Python needs."""
    script = ROOT / "tests" / "support" / "schemas.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(find_comfyui()), str(ROOT), "--cpu"],
        env=host_environment(folder),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def node_definitions(schemas: dict) -> dict:
    """The content of nodeDefs.json."""
    return {name: _definition(schema) for name, schema in sorted(schemas.items())}


def _definition(schema: dict) -> dict:
    inputs = {}
    for group in ("required", "optional"):
        _take(schema["input"].get(group, {}), "", inputs)
    tooltips = schema.get("output_tooltips") or [None] * len(schema["output_name"])
    outputs = {
        str(number): {"name": name, **({"tooltip": tooltip} if tooltip else {})}
        for number, (name, tooltip) in enumerate(zip(schema["output_name"], tooltips, strict=True))
    }
    return {
        "display_name": schema["display_name"],
        "description": schema["description"],
        "inputs": inputs,
        "outputs": outputs,
    }


def _take(group: dict, prefix: str, inputs: dict) -> None:
    """Inputs by the names of their widgets, with the host's '_' for '.', those inside dynamic combos included."""
    for name, definition in group.items():
        options = definition[1] if len(definition) > 1 else {}
        text = {"name": options.get("display_name") or name, "tooltip": options.get("tooltip", "")}
        inputs.setdefault(f"{prefix}{name}", text)
        for option in options.get("options", []):
            if isinstance(option, dict) and "inputs" in option:
                for nested in option["inputs"].values():
                    _take(nested, f"{prefix}{name}_", inputs)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        definitions = node_definitions(read_schemas(Path(temporary)))
    FILE.write_text(json.dumps(definitions, indent=2) + "\n", encoding="utf-8")
    print(f"{FILE}: {len(definitions)} nodes")
