"""The rules of the house, read from the source text: import direction, encoding, registry standards."""

import ast
import functools
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server"}
HOST_SERVICES = {"folder_paths", "server", "comfy.model_management", "comfy.utils"}
LAYERS = (
    {"errors", "progress", "files", "allocator"},
    {"source"},
    {"qwen", "video", "gvc", "synthetic", "weights"},
    {"code"},
    {"drawing"},
    {"judge", "evaluation", "training"},
    {"dataset"},
    {"commands"},
)
"""What is in models/, from the bottom up: a layer imports only what is below it."""
PACKAGES = {"kernels", "models", "nodes"}
TOP_LEVEL = {
    "__init__.py", "__main__.py", "nodes", "kernels", "models", "workflows", "web", "locales", "tests",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE",
}  # fmt: skip


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sources_under(folder: str) -> list[Path]:
    return [path for path in SOURCES if path.relative_to(ROOT).parts[0] == folder]


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path):
    package = ("codeclens", *path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parts[len(ROOT.parts)] in ("models", "kernels")], ids=relative
)
def test_models_and_kernels_import_neither_host_nor_nodes(path):
    forbidden = {
        name
        for name in imported_modules(path)
        if name.split(".")[0] in HOST_MODULES or name.startswith("codeclens.nodes")
    }
    assert not forbidden


@pytest.mark.parametrize("path", sources_under("kernels"), ids=relative)
def test_kernels_do_not_import_models(path):
    assert not [name for name in imported_modules(path) if name.startswith("codeclens.models")]


@pytest.mark.parametrize("path", sources_under("models"), ids=relative)
def test_imports_in_models_point_downwards(path):
    layer_of = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts == ("models", "__init__"):
        return
    own = parts[1]
    assert own in layer_of, f"say in LAYERS what models/{own} may import"
    imported = {name.split(".")[2] for name in imported_modules(path) if name.startswith("codeclens.models.")}
    upwards = {name for name in imported - {own} if layer_of.get(name, 0) >= max(1, layer_of[own])}
    assert not upwards


@pytest.mark.parametrize("path", sources_under("nodes"), ids=relative)
def test_only_one_module_talks_to_the_hosts_services(path):
    if path.name == "host.py":
        return
    used = {name for name in imported_modules(path) if any((name + ".").startswith(f"{one}.") for one in HOST_SERVICES)}
    assert not used


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_source_is_cp1252_safe(path):
    path.read_text(encoding="utf-8").encode("cp1252")


@pytest.mark.parametrize("path", [p for p in SOURCES if "tests" not in p.relative_to(ROOT).parts], ids=relative)
def test_source_keeps_registry_rules(path):
    text = path.read_text(encoding="utf-8")
    calls = {
        node.func.id
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"eval", "exec"}
    assert not re.search(
        r"\.cuda\(|\.to\([\"']cuda|torch\.autocast|pip[\"', ]+install|import pickle|torch\.load\(", text
    )
    assert not re.search(r"nn\.(Linear|Conv\dd|LayerNorm|GroupNorm|Embedding)\(", text)


def test_top_level_is_what_the_user_fixed():
    ignored = {"build", "dist", "codeclens.egg-info", "output"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__pycache__"))}
    assert found - TOP_LEVEL - ignored == set()


@pytest.mark.parametrize("path", [p for p in SOURCES if p.relative_to(ROOT).parts[0] in PACKAGES], ids=relative)
def test_the_pack_imports_itself_relatively(path):
    """ComfyUI imports the folder under a name made from its path; 'codeclens' does not exist there."""
    tree = parsed(path)
    absolute = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    absolute += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    assert not [name for name in absolute if name.split(".")[0] == "codeclens"]


WORDS = {
    "told", "untold", "sitting", "sittings", "lesson", "lessons", "course", "courses", "pace", "look", "looks",
    "looked", "looking", "sight", "behind", "share", "place", "places", "how",
}  # fmt: skip
"""No words of the field in names; target, run, example, mixture, learning rate, sample, vision, after, fraction are."""

IDIOMS = re.compile(
    r"\b(told|sitting|sight|lessons?|courses?|pace|behind|look(s|ed|ing)?|as a share|shares? of)\b", re.IGNORECASE
)
"""The same in sentences, where a reader from another country stumbles over them."""


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_names_are_the_words_of_the_field(path):
    tree = parsed(path)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    names = {name for name in names if not name.startswith("test_")}  # a sentence
    assert not {name for name in names if WORDS & set(name.lower().strip("_").split("_"))}


def sentences(path: Path):
    """(line, text) of what is written for people: comments, docstrings, tooltips; of other files every line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    if not IDIOMS.search(text):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        shown = path.relative_to(ROOT).parts[0] == "nodes" or token.string.startswith(('"""', 'r"""'))
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING and shown:
            yield token.start[0], token.string


TEXTS = [
    *SOURCES,
    *(path for pattern in ("*.md", "web/**/*.md", "web/**/*.js", "locales/**/*.json") for path in ROOT.glob(pattern)),
]


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_sentences_are_without_idioms(path):
    found = [(line, text) for line, text in sentences(path) if IDIOMS.search(text)]
    assert not found


def error_messages(path: Path):
    """(line, text with {} for each value) of every InputError."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args:
            words = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            if isinstance(words[0], (ast.Constant, ast.FormattedValue)):
                yield node.lineno, "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in words)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.relative_to(ROOT).parts[0] in PACKAGES], ids=relative)
def test_errors_are_one_sentence_without_a_period(path):
    """File or input first, the value, a semicolon and what would be right."""
    for line, text in error_messages(path):
        assert not text.endswith("."), f"line {line}: {text}"
        assert not re.match(r"(The|There|A|An|This|No|Please)\b", text), f"line {line}: {text}"
        assert not re.search(r": (give|load|connect|pick|use|choose|install) ", text), f"line {line}: {text}"


def test_every_package_is_installed():
    listed = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")} | {ROOT}
    found = {".".join(("codeclens", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert found == set(re.findall(r'"([^"]+)"', listed[1]))
