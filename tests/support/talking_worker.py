"""Talks to pictures and videos through ComfyUI's own executor and prints what that leaves, as JSON.

Run by tests/host/test_after_talking.py in the host's Python and folder: ``talking_worker.py BASE MODEL``. BASE is the
host's base directory; MODEL and its mmproj lie in its models/text_encoders.
"""

import asyncio
import gc
import hashlib
import importlib
import json
import sys
import weakref
from pathlib import Path

base, model_name = sys.argv[1:3]
sys.argv[1:] = ["--cpu", "--base-directory", base]
TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path.cwd()), str(TESTS)]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ldm.modules.attention as host_attentions  # noqa: E402
import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import execution  # noqa: E402
import server  # noqa: E402
import support.tiny_video_models as tiny  # noqa: E402
import torch  # noqa: E402
from support.process_state import process_state  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import nodes  # noqa: E402

PACK = str(TESTS.parent).replace(".", "_x_")
"""The name under which the host imports the pack."""


class Page:
    """Stands for the server and the page in it; keeps the answers that nodes show while they write them."""

    client_id = last_node_id = last_prompt_id = None

    def __init__(self):
        self.live: list[list[dict]] = []

    def send_sync(self, event, data, sid=None) -> None:
        if event == "codeclens_answers":
            self.live.append(data["clip"]["turns"])


async def load_nodes() -> None:
    await nodes.load_custom_node(str(TESTS.parent))
    await nodes.load_custom_node("comfy_extras/nodes_preview_any.py", module_parent="comfy_extras")


def part(name: str):
    """A module of the pack, as the host imported it."""
    return importlib.import_module(f"{PACK}.{name}")


TALKS = {
    "DescribeImage": {"images": ["frames", 0], "question": "What is it?", "image_tokens": 64},
    "GenerateText": {"prompt": "Write a line."},
    "CaptionVideo": {"code": ["encode", 0], "preset": "plain", "instructions": ""},
    "AskVideo": {"code": ["encode", 0], "questions": "Who?\nWhere?", "follow_up": False},
    "AskImages": {"images": ["frames", 0], "questions": "Which?", "image_tokens": 64},
}


def node(name: str, **inputs) -> dict:
    return {"class_type": f"CodecLens{name}", "inputs": inputs}


def talking(name: str, max_tokens: int = 8, report: int = 0, **options) -> dict:
    """An API prompt: six frames without a picture on them, encoded where ``name`` wants a code, and talked about."""
    writing = {"max_tokens": max_tokens, "seed": 3, "sampling": "greedy", "thinking": True, **options}
    return {
        "load": node("LoadQwen3VL", model=model_name, mmproj="auto"),
        "frames": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 6, "color": 0x336699},
        },
        "sample": node("SampleVideo", images=["frames", 0], images_fps=2.0, side=64, sampling="all"),
        "extract": node("ExtractCodecPrimitives", frames=["sample", 0], vectors="search"),
        "plan": node(
            "PlanGOP",
            primitives=["extract", 0],
            policy="fixed",
            mode="thumbnail",
            start_at_cuts=False,
            **{"policy.cap": 2},
        ),
        "encode": node(
            "EncodeVideo",
            model=["load", 0],
            frames=["sample", 0],
            plan=["plan", 0],
            mode="thumbnail",
            reserve=64,
            stamps="every",
            pair_thumbnails=False,
            drop=0.0,
        ),
        "talk": node(name, model=["load", 0], **TALKS[name], **writing),
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["talk", report]}},
    }


class Executor:
    """The host's executor with the cache that it has by default."""

    def __init__(self, page: Page):
        amounts = {"lru": 0, "ram": 0.1, "ram_inactive": 0.1}
        self.inner = execution.PromptExecutor(page, cache_type=execution.CacheType.RAM_PRESSURE, cache_args=amounts)

    def run(self, prompt: dict) -> tuple[str | None, bool]:
        """The text that PreviewAny showed, None where there is none, and whether the run was cancelled."""
        self.inner.execute(prompt, "talk", {}, ["show"])
        events = {kind: data for kind, data in self.inner.status_messages}
        if "execution_error" in events:
            raise RuntimeError(events["execution_error"]["exception_message"])
        shown = self.inner.history_result["outputs"].get("show")
        return shown and shown["text"][0], "execution_interrupted" in events

    def free(self) -> None:
        """What the host does for its button: unload models, forget outputs, collect."""
        management.unload_all_models()
        self.inner.reset()
        gc.collect()


class Operations(TorchDispatchMode):
    """The path that a computation takes: every operation with the shapes and dtypes it is given."""

    def __init__(self):
        super().__init__()
        self.path, self.digest = [], hashlib.blake2b(digest_size=16)

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
        self.path.append(str(function))
        self.digest.update(repr((str(function), [(value.shape, value.dtype) for value in tensors])).encode())
        return function(*arguments, **(named or {}))


class Sampler:
    """A diffusion model of no size that the host's own KSampler samples."""

    def __init__(self):
        self.model = comfy.sd.load_diffusion_model_state_dict(dict(tiny.wan()))
        generator = torch.Generator().manual_seed(0)
        self.text = [[torch.randn(1, 3, 4096, generator=generator), {}]]

    def run(self) -> dict:
        empty = {"samples": torch.zeros(1, 16, 2, 8, 8)}
        with torch.inference_mode(), Operations() as operations:
            (latent,) = nodes.KSampler().sample(self.model, 5, 3, 2.0, "euler", "simple", self.text, self.text, empty)
        values = latent["samples"]
        return {
            "operations": len(operations.path),
            "path": operations.digest.hexdigest(),
            "latents": hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest(),
            "finite": bool(values.isfinite().all()),
        }


class Caches:
    """Every key-value cache made from now on, seen without being held."""

    def __init__(self):
        self.made = []
        kind, made = part("models.qwen.cache").Cache, self.made
        begin = kind.__init__

        def note(cache, *arguments, **named):
            begin(cache, *arguments, **named)
            made.append(weakref.ref(cache._buffers))

        kind.__init__ = note

    def alive(self) -> int:
        return sum(reference() is not None for reference in self.made)


def tensor_bytes() -> int:
    """Bytes of all tensors that Python holds, each storage once."""
    tensors = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor) and not found.is_meta]
    return sum({found.untyped_storage().data_ptr(): found.untyped_storage().nbytes() for found in tensors}.values())


def loaded() -> list[str]:
    return [type(patcher.model).__name__ for patcher in management.loaded_models()]


def what_is_left(executor: Executor, page: Page) -> dict:
    """The state of the process, sampling, and memory: before talking, after it, after a cancelled talk.

    Sampling is watched twice each time: with what the host does to load its model, and without.
    """
    sampler, caches = Sampler(), Caches()
    sampler.run()
    executor.free()
    bytes_before = tensor_bytes()
    found = {"loading": [sampler.run()], "sampling": [sampler.run()], "states": [process_state()]}
    found |= {"caches alive": [], "talks": []}
    for _ in range(2):
        for name in TALKS:
            page.live.clear()
            text, cancelled = executor.run(talking(name))
            found["talks"].append({"node": name, "text": text, "cancelled": cancelled, "live": list(page.live)})
        found["caches alive"].append(caches.alive())
        found["states"].append(process_state())
        with Cancel("choosing", 3):
            executor.run(talking("AskVideo", 2000))
        found["states"].append(process_state())
        found["sampling"].append(sampler.run())
        executor.free()
        found["caches alive"].append(caches.alive())
        found["loading"].append(sampler.run())
    executor.free()
    found["caches made"] = len(caches.made)
    found["bytes"] = [bytes_before, tensor_bytes()]
    return found


class Cancel:
    """Presses the host's cancel button once, in the middle of work, and counts what begins after that.

    ``moment`` names what is going on at the ``number``-th time: 'choosing' a token, 'reading' it, reading the 'prompt',
    or 'seeing', in a layer of the vision tower.
    """

    def __init__(self, moment: str, number: int):
        text, vision = part("models.qwen.text"), part("models.qwen.vision")
        self.moment, self.number = moment, number
        self.seen, self.pressed, self.after = 0, False, 0
        self.methods = [
            (part("models.qwen.generate").Sampler, "choose", lambda *_: "choosing"),
            (text.TextModel, "forward", lambda _, states, *rest: "reading" if len(states) == 1 else "prompt"),
            (vision.VisionBlock, "forward", lambda *_: "seeing"),
        ]
        self.originals = [getattr(kind, method) for kind, method, _ in self.methods]

    def __enter__(self):
        for (kind, method, moment_of), original in zip(self.methods, self.originals, strict=True):
            setattr(kind, method, self.watched(original, moment_of, method))
        return self

    def __exit__(self, *_):
        for (kind, method, _), original in zip(self.methods, self.originals, strict=True):
            setattr(kind, method, original)

    def watched(self, original, moment_of, method):
        def call(*arguments, **named):
            moment = moment_of(*arguments)
            self.after += self.pressed and method == "forward"
            if moment == self.moment:
                self.seen += 1
                if self.seen == self.number:
                    nodes.interrupt_processing()
                    self.pressed = True
            return original(*arguments, **named)

        return call


def cancelling(executor: Executor) -> list[dict]:
    found = []
    moments = {"choosing": 3, "reading": 3, "prompt": 1, "seeing": 2}
    for name in TALKS:
        for moment, number in moments.items():
            if moment == "seeing" and name == "GenerateText":
                continue
            executor.free()
            cancel = Cancel(moment, number)
            with cancel:
                text, cancelled = executor.run(talking(name, 2000))
            found.append(
                {
                    "node": name,
                    "moment": moment,
                    "pressed": cancel.pressed,
                    "after": cancel.after,
                    "cancelled": cancelled and text is None,
                }
            )
    return found


def memory_for_a_sampler(executor: Executor) -> dict:
    """What load_models_gpu finds for a sampler that needs all of a device, with and without a caption before.

    The device is a CPU with a number, which the host does not take for its main memory, and whose free memory is what
    the models counted by the host leave of ``capacity``.
    """
    executor.free()
    device = torch.device("cpu:0")
    management.text_encoder_device = management.get_torch_device = lambda: device
    needed = 1 << 30
    sampler = Sampler()
    size = sampler.model.model_size()
    capacity = int(1.1 * size + needed + management.extra_reserved_memory())
    asked = []

    def free_memory(_=None, torch_free_too=False):
        free = capacity - sum(entry.model_loaded_memory() for entry in management.current_loaded_models)
        asked.append(free)
        return (free, free) if torch_free_too else free

    management.get_free_memory = free_memory
    found = {"capacity": capacity, "size": size, "free": [], "loaded": []}
    hosts = part("nodes.model_placement").HostedQwen3VL
    seen, begin = [], hosts.__init__

    def note(hosted, *arguments):
        begin(hosted, *arguments)
        seen.append(hosted)

    hosts.__init__ = note
    for talk in (False, True):
        executor.free()
        if talk:
            executor.run(talking("CaptionVideo"))
            found["loaded by talking"] = loaded()
            found["free beside it"] = free_memory()
        management.load_models_gpu([sampler.model], memory_required=needed)
        found["loaded"].append(loaded())
        found["free"].append(free_memory())
    (hosted,) = seen
    found["left"] = [hosted.text.loaded_size(), hosted.vision.loaded_size()]
    return found


def attentions() -> dict:
    """How far each of the host's attention functions that a CPU can run is from SDPA, by shape, in float32."""
    memory, own = part("nodes.model_placement"), part("models.qwen.attention").attention
    found = {}
    generator = torch.Generator().manual_seed(1)
    for name in ("optimized", "pytorch", "sub_quad", "split"):
        memory.optimized_attention = host_attentions.get_attention_function(name)
        for heads, count, width in ((16, 256, 64), (16, 100, 72), (2, 4, 32)):
            states = [torch.randn(3, heads, count, width, generator=generator) for _ in range(3)]
            expected = own(*states)
            there = memory.host_attention(*states, causal=False)
            found[f"{name}, {heads} heads of {width}"] = [
                list(there.shape) == list(expected.shape),
                float((there - expected).abs().max() / expected.abs().max()),
            ]
    return found


def tower_through_the_host(path: str) -> float:
    """Relative distance of the tower's features through the host's attention from those through SDPA, in float32."""
    load, memory = part("models.qwen").load_qwen3vl, part("nodes.model_placement")
    frames = torch.randint(0, 256, (3, 1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        (plain, _), (through, _) = (
            load(path, attend_vision=attend).vision.encode(frames)
            for attend in (part("models.qwen.attention").attention, memory.host_attention)
        )
    return float((plain - through).norm() / plain.norm())


def choice_of_attention(path: str) -> list[bool]:
    """Whether the tower attends through the host on a CPU, and on another device."""
    memory = part("nodes.model_placement")
    chosen = []
    for device in ("cpu", "meta"):
        management.text_encoder_device = lambda device=device: torch.device(device)
        hosted = memory.HostedQwen3VL(path, "auto")
        chosen.append(all(block.attend is memory.host_attention for block in hosted.model.vision.blocks))
    return chosen


def rate_of_scripted_writing(page: Page) -> list[list]:
    """Text, tokens and seconds that are shown of three tokens, the second of which completes no character."""
    host = part("nodes.host")
    clock = iter([99.0, 100.0, 100.5, 100.5, 100.5, 102.0, 102.0, 102.0])
    real, host.time.monotonic = host.time.monotonic, lambda: next(clock)
    page.live.clear()
    live = host.LiveAnswers("1")
    live.begin("Say abc.")
    live.progress(0, 3)
    live("a")
    live.progress(1, 3)
    live.progress(2, 3)
    live("bc")
    host.time.monotonic = real
    return [[turn["text"], turn["tokens"], turn["seconds"]] for (turn,) in page.live[1:]]


if __name__ == "__main__":
    page = server.PromptServer.instance = Page()
    asyncio.run(load_nodes())
    executor = Executor(page)
    report = {"left": what_is_left(executor, page), "cancelling": cancelling(executor)}
    report["caption report"] = executor.run(talking("CaptionVideo", report=3))[0]
    report["shown with it"] = page.live[-1][-1]
    report["scripted"] = rate_of_scripted_writing(page)
    report["attentions"] = attentions()
    path = str(Path(base) / "models" / "text_encoders" / model_name)
    report["tower"] = tower_through_the_host(path)
    report["memory"] = memory_for_a_sampler(executor)
    report["through the host"] = choice_of_attention(path)
    print("RESULTS " + json.dumps(report))
