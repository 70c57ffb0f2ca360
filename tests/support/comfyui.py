"""A real ComfyUI for tests: find it, start it with this pack as its only custom node, talk to it over its API."""

import importlib.util
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 600
"""Seconds to wait for what must come: a slow machine only takes longer."""

TEXT_MESSAGE = 3
"""The host's BinaryEventTypes.TEXT."""

# Two things the started host must know before anything else is imported. torchvision built for another torch dies on
# its missing C++ ops, so their schemas are declared where that is the case. An installed `codeclens` is hidden, so an
# absolute import inside the pack fails here as it would for a user who only cloned it.
SITECUSTOMIZE = """
import os
import sys


class HideInstalledPack:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "codeclens":
            raise ModuleNotFoundError(f"{name}: the pack must import itself relatively", name=name)


sys.meta_path.insert(0, HideInstalledPack())
if os.environ.get("CODECLENS_TORCHVISION_SCHEMAS"):
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def find_comfyui() -> Path | None:
    """ComfyUI's folder: $COMFYUI_PATH, else a parent folder of the checkout (custom_nodes), else ~/comfy/ComfyUI."""
    named = os.environ.get("COMFYUI_PATH")
    candidates = [Path(named)] if named else [*ROOT.parents, Path.home() / "comfy" / "ComfyUI"]
    for folder in candidates:
        if (folder / "comfyui_version.py").is_file() and (folder / "main.py").is_file():
            return folder
    return None


def why_not() -> str | None:
    """One line saying why the host tests cannot run here, or None where they can."""
    if find_comfyui() is None:
        return "ComfyUI not found: set COMFYUI_PATH to its folder, or clone the pack into its custom_nodes"
    missing = [
        name
        for name in ("aiohttp", "alembic", "comfy_kitchen", "comfyui_frontend_package", "torchvision", "websocket")
        if importlib.util.find_spec(name) is None
    ]
    return f"ComfyUI's requirements are not installed here: {', '.join(missing)}" if missing else None


def host_environment(folder: Path) -> dict[str, str]:
    """The environment for a Python that imports ComfyUI; ``folder`` receives the sitecustomize module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    if importlib.util.find_spec("torchaudio") is None:
        # ComfyUI 0.29 imports torchaudio at start and uses it only in audio nodes.
        for name in ("torchaudio", "torchaudio/functional", "torchaudio/transforms"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
    probe = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    if "torchvision::nms" in probe.stderr:
        environment["CODECLENS_TORCHVISION_SCHEMAS"] = "1"
    return environment


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ComfyServer:
    """``main.py --cpu`` in a base directory of its own, whose custom_nodes holds a link to this checkout."""

    def __init__(self, base: Path):
        self.base = base
        self.input = base / "input"
        self.output = base / "output"
        self.log_file = base / "server.log"
        for folder in (self.input, self.output, base / "custom_nodes"):
            folder.mkdir(parents=True)
        (base / "custom_nodes" / "codeclens").symlink_to(ROOT, target_is_directory=True)
        self.address = f"127.0.0.1:{free_port()}"

    def start(self, timeout: float = PATIENCE) -> None:
        command = [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", self.address.split(":")[1]]
        command += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"]
        command += ["--disable-auto-launch", "--disable-api-nodes"]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=find_comfyui(),
                env=host_environment(self.base / "site"),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with code {self.process.returncode}:\n{self.log()[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        self.stop()
        raise RuntimeError(f"ComfyUI was not up after {timeout:.0f} s:\n{self.log()[-4000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def get(self, path: str):
        """The JSON that a GET of ``path`` answers with."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=PATIENCE) as answer:
            return json.load(answer)

    def post(self, path: str, value: dict) -> dict:
        """The JSON that a POST of ``value`` answers with, also where the answer is a refusal."""
        request = urllib.request.Request(f"http://{self.address}{path}", json.dumps(value).encode())
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as refusal:
            return json.load(refusal)

    def view(self, image: dict) -> bytes:
        """The file that an entry of a node's ``images`` names."""
        query = urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"http://{self.address}/view?{query}", timeout=PATIENCE) as answer:
            return answer.read()

    def put_input(self, clip: Path) -> str:
        """Copy ``clip`` into the input folder and return the name that Load Video knows it by."""
        shutil.copyfile(clip, self.input / clip.name)
        return clip.name

    def queue(self, prompt: dict) -> "QueuedPrompt":
        return QueuedPrompt(self, prompt)

    def run(self, prompt: dict, timeout: float = PATIENCE) -> "Result":
        """Queue ``prompt``, wait for its end and return what happened."""
        return self.queue(prompt).finish(timeout)


@dataclass
class Result:
    """What one run of a prompt did.

    Attributes:
        outputs: what each node showed (its ``ui`` dictionary), by node id.
        executed: ids of the nodes that were computed in this run.
        cached: ids of the nodes taken from the host's cache.
        progress: (value, maximum) as they arrived, by node id.
        texts: what each node showed while it ran, as it arrived, by node id.
        turns: the question and answer that each node was writing, as they arrived, by node id.
        error: message of the node that failed, or of the host's refusal; None where all went well.
        interrupted: whether the run was cancelled.
    """

    outputs: dict[str, dict] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    progress: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    turns: dict[str, list[dict]] = field(default_factory=dict)
    error: str | None = None
    interrupted: bool = False


class QueuedPrompt:
    """A prompt in the host's queue and the websocket that hears about it."""

    def __init__(self, server: ComfyServer, prompt: dict):
        import websocket

        self.server = server
        self.result = Result()
        client = uuid.uuid4().hex
        self.socket = websocket.WebSocket()
        self.socket.connect(f"ws://{server.address}/ws?clientId={client}")
        answer = server.post("/prompt", {"prompt": prompt, "client_id": client})
        self.id = answer.get("prompt_id")
        if self.id is None or answer.get("node_errors"):
            self.result.error = json.dumps([answer.get("error"), answer.get("node_errors")])

    def wait(self, until, timeout: float = PATIENCE) -> bool:
        """Listen until ``until(result)`` holds (True) or the run ends (False)."""
        deadline = time.monotonic() + timeout
        while not until(self.result):
            self.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            message = self.socket.recv()
            if isinstance(message, bytes):
                self.read_text(message)
            elif self.hear(json.loads(message)):
                return until(self.result)
        return True

    def read_text(self, message: bytes) -> None:
        """Take in a binary message that carries text: its type, the length of the node's id, the id, the text."""
        kind, length = struct.unpack_from(">II", message)
        if kind == TEXT_MESSAGE:
            node = message[8 : 8 + length].decode()
            self.result.texts.setdefault(node, []).append(message[8 + length :].decode())

    def hear(self, message: dict) -> bool:
        """Take one message in; True where it says that the run has ended."""
        kind, data, result = message["type"], message.get("data", {}), self.result
        if kind == "codeclens_answers":
            result.turns.setdefault(data["node"], []).append(data["clip"]["turns"][-1])
        if data.get("prompt_id") != self.id:
            return False
        if kind == "execution_cached":
            result.cached += data["nodes"]
        elif kind == "executing" and data["node"] is not None:
            result.executed.append(data["node"])
        elif kind == "executed":
            result.outputs[data["node"]] = data["output"]
        elif kind == "progress":
            result.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
        elif kind == "execution_error":
            result.error = data["exception_message"]
        elif kind == "execution_interrupted":
            result.interrupted = True
        return kind in ("execution_success", "execution_error", "execution_interrupted")

    def finish(self, timeout: float = PATIENCE) -> Result:
        if self.id is not None:
            self.wait(lambda result: False, timeout)
        self.socket.close()
        return self.result
