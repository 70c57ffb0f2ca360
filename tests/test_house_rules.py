"""The rules of the house, read from the source text: import direction, encoding, registry standards."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

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


def sources_under(*folders: str) -> list[Path]:
    return [path for path in SOURCES if path.relative_to(ROOT).parts[0] in folders]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the rules ask of a file, from one walk of its tree, which is not kept.

    Attributes:
        imports: every module and name that is imported, absolute.
        absolute: the modules among them that are imported by their absolute name.
        calls: names of the functions that are called by their bare name.
        names: names of variables, arguments, functions and classes.
        messages: (line, text with {} for each value) of every InputError.
    """

    imports: set[str]
    absolute: list[str]
    calls: set[str]
    names: set[str]
    messages: list[tuple[int, str]]


NAMED = {ast.Name: "id", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name"}


@functools.cache
def parsed(path: Path) -> Parsed:
    found = Parsed(set(), [], set(), set(), [])
    package = ("codeclens", *path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        kind = type(node)
        if kind in NAMED:
            found.names.add(getattr(node, NAMED[kind]))
        elif kind is ast.Import:
            found.imports.update(alias.name for alias in node.names)
            found.absolute.extend(alias.name for alias in node.names)
        elif kind is ast.ImportFrom:
            base = package[: len(package) - node.level] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            found.imports.update((module, *(f"{module}.{alias.name}" for alias in node.names)))
            found.absolute.extend([] if node.level else [node.module])
        elif kind is ast.Call and isinstance(node.func, ast.Name):
            found.calls.add(node.func.id)
            if node.func.id == "InputError" and node.args:
                found.messages.extend(messages_of(node))
    return found


def messages_of(call: ast.Call):
    words = call.args[0].values if isinstance(call.args[0], ast.JoinedStr) else [call.args[0]]
    if isinstance(words[0], (ast.Constant, ast.FormattedValue)):
        yield call.lineno, "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in words)


def broken(sources: list[Path], rule: Callable[[Path], Iterable]) -> dict[str, list]:
    """Relative path -> what in that file breaks a rule."""
    return {relative(path): sorted(found) for path in sources if (found := rule(path))}


def test_models_and_kernels_import_neither_host_nor_nodes():
    def outward(path):
        names = parsed(path).imports
        return {name for name in names if name.split(".")[0] in HOST_MODULES or name.startswith("codeclens.nodes")}

    assert not broken(sources_under("models", "kernels"), outward)


def test_kernels_do_not_import_models():
    def upwards(path):
        return {name for name in parsed(path).imports if name.startswith("codeclens.models")}

    assert not broken(sources_under("kernels"), upwards)


def test_imports_in_models_point_downwards():
    layer_of = {name: number for number, layer in enumerate(LAYERS) for name in layer}

    def upwards(path):
        own = path.relative_to(ROOT).with_suffix("").parts[1]
        assert own in layer_of, f"say in LAYERS what models/{own} may import"
        imported = {name.split(".")[2] for name in parsed(path).imports if name.startswith("codeclens.models.")}
        return {name for name in imported - {own} if layer_of.get(name, 0) >= max(1, layer_of[own])}

    assert not broken([path for path in sources_under("models") if path != ROOT / "models" / "__init__.py"], upwards)


def test_only_one_module_talks_to_the_hosts_services():
    def services(path):
        return {name for name in parsed(path).imports if any(f"{name}.".startswith(f"{one}.") for one in HOST_SERVICES)}

    assert not broken([path for path in sources_under("nodes") if path.name != "host.py"], services)


def test_source_is_cp1252_safe():
    for path in SOURCES:
        path.read_text(encoding="utf-8").encode("cp1252")


def test_source_keeps_registry_rules():
    def refused(path):
        text = path.read_text(encoding="utf-8")
        host = r"\.cuda\(|\.to\([\"']cuda|torch\.autocast|pip[\"', ]+install|import pickle|torch\.load\("
        layers = r"nn\.(Linear|Conv\dd|LayerNorm|GroupNorm|Embedding)\("
        return {*(parsed(path).calls & {"eval", "exec"}), *re.findall(host, text), *re.findall(layers, text)}

    assert not broken([path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts], refused)


def test_top_level_is_what_the_user_fixed():
    ignored = {"build", "dist", "codeclens.egg-info", "output"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__pycache__"))}
    assert found - TOP_LEVEL - ignored == set()


def test_the_pack_imports_itself_relatively():
    """ComfyUI imports the folder under a name made from its path; 'codeclens' does not exist there."""

    def absolute(path):
        return [name for name in parsed(path).absolute if name.split(".")[0] == "codeclens"]

    assert not broken(sources_under(*PACKAGES), absolute)


WORDS = {
    "told", "untold", "sitting", "sittings", "lesson", "lessons", "course", "courses", "pace", "look", "looks",
    "looked", "looking", "sight", "behind", "share", "place", "places", "how",
}  # fmt: skip
"""No words of the field in names; target, run, example, mixture, learning rate, sample, vision, after, fraction are."""

IDIOMS = re.compile(
    r"\b(told|sitting|sight|lessons?|courses?|pace|behind|look(s|ed|ing)?|as a share|shares? of)\b", re.IGNORECASE
)
"""The same in sentences, where a reader from another country stumbles over them."""


def test_names_are_the_words_of_the_field():
    def unwanted(path):
        # The name of a test is a sentence.
        names = (name for name in parsed(path).names if not name.startswith("test_"))
        return {name for name in names if WORDS & set(name.lower().split("_"))}

    assert not broken(SOURCES, unwanted)


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


def test_sentences_are_without_idioms():
    assert not broken(TEXTS, lambda path: [(line, text) for line, text in sentences(path) if IDIOMS.search(text)])


def test_errors_are_one_sentence_without_a_period():
    """File or input first, the value, a semicolon and what would be right."""
    first = r"(The|There|A|An|This|No|Please)\b"
    advice = r": (give|load|connect|pick|use|choose|install) "

    def misshapen(path):
        messages = parsed(path).messages
        return [one for one in messages if one[1].endswith(".") or re.match(first, one[1]) or re.search(advice, one[1])]

    assert not broken(sources_under(*PACKAGES), misshapen)


def test_every_package_is_installed():
    listed = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")} | {ROOT}
    found = {".".join(("codeclens", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert found == set(re.findall(r'"([^"]+)"', listed[1]))
