"""The one place that talks to ComfyUI's services: progress, interruption, folders, videos and images."""

import functools
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import InputImpl, Types, ui
from comfy_execution.graph import ExecutionBlocker
from server import PromptServer

from ..kernels import registry
from ..models.code.answers import Mention
from ..models.code.conversation import Answer
from ..models.dataset.text_encoders import carries_tokenizer, shipped_tokenizers
from ..models.errors import InputError, one_line
from ..models.qwen.checkpoint import family_of
from ..models.source.reading import VideoSource
from ..models.source.sound import read_sound, sound_of
from ..models.video.shots import Shot

# The host shows an error's class with its module before our sentence; the module is named for the folder's whole path.
InputError.__module__ = "codeclens"


def stop_when_interrupted() -> None:
    """Raise when the user cancels: what native code asks every 50 ms while it computes."""
    comfy.model_management.throw_exception_if_processing_interrupted()


registry.current().processor.watch = stop_when_interrupted


def node_progress():
    """Return a progress callback for ``models/`` that moves the node's bar and raises when the user cancels.

    The callback has the signature of :data:`codeclens.models.progress.Progress`. The host checks for interruption only
    when its bar redraws, so every call checks here as well.
    """
    bar = None

    def report(done, total):
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        if bar is None or bar.total != total:
            bar = comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)

    return report


def video_source(video) -> tuple[VideoSource, torch.Tensor | None]:
    """The source of a VIDEO, trim included, and its IMAGE tensor where it was made from one.

    A video made from images is read as those images: writing it to a file first would show the encoder's losses.
    """
    if isinstance(video, InputImpl.VideoFromComponents):
        components = video.get_components()
        return VideoSource.from_images(opaque(components.images), float(components.frame_rate)), components.images
    if has_edits(video):
        components = video.get_components()
        source = VideoSource.from_images(components.images[..., :3], float(components.frame_rate), name="edited video")
        source.warnings.append(
            "the video is cropped, resized or otherwise edited: its frames are read as edited, all into memory, and "
            "their times count from the first of them at a constant rate"
        )
        return source, components.images
    file = video.get_stream_source()
    if isinstance(file, str) and os.path.isdir(file):
        raise InputError("no video is chosen; pick or upload one on Load Video")
    start, duration = video.get_active_trim_window()
    return VideoSource.open(file, start=start, duration=duration), None


def has_edits(video) -> bool:
    """True where frames of ``video`` differ from those of its file (crop, resize; hosts after 0.29)."""
    return bool(getattr(video, "has_pending_frame_edits", lambda: False)())


def video_sound(video, start: float, duration: float) -> Iterator[np.ndarray]:
    """Yield float32 [samples, channels] at 48 kHz of a VIDEO's sound from ``start`` seconds on; nothing without one."""
    if isinstance(video, InputImpl.VideoFromComponents) or has_edits(video):
        audio = video.get_components().audio
        if audio is None:
            return iter(())
        rate = int(audio["sample_rate"])
        waveform = audio["waveform"][0].float().cpu().numpy()
        return sound_of(waveform[:, round(start * rate) : round((start + duration) * rate)], rate)
    file = video.get_stream_source()
    return read_sound(file if isinstance(file, str) else file.getvalue(), start, duration)


class LosslessVideo(InputImpl.VideoFromFile):
    """A file of :class:`LosslessWriter` as a VIDEO, read when it is asked for.

    Saved with the codec left to the host it becomes H.264: a copy of lossless FFV1 plays in few players.
    """

    def save_to(self, path, format=Types.VideoContainer.AUTO, codec=Types.VideoCodec.AUTO, *args, **kwargs):
        if codec == Types.VideoCodec.AUTO:
            codec = Types.VideoCodec.H264
        return super().save_to(path, format, codec, *args, **kwargs)


def temporary_folder() -> Path:
    """The host's temp folder, which the host empties when it starts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def temporary_file(start: str, end: str) -> Path:
    """A new name in the host's temp folder."""
    handle, name = tempfile.mkstemp(end, start, temporary_folder())
    os.close(handle)
    return Path(name)


def keep_for_page(data: bytes, end: str) -> str:
    """Write ``data`` to the temp folder and return the name by which the host's page finds it there."""
    path = temporary_file("codeclens_", end)
    path.write_bytes(data)
    return path.name


def part_of(video, shot: Shot):
    """The VIDEO of one shot of ``video``: a trim of its file, or a slice of its images and audio."""
    if isinstance(video, InputImpl.VideoFromComponents) or has_edits(video):
        return InputImpl.VideoFromComponents(sliced(video.get_components(), shot), video.get_bit_depth())
    start, duration = video.get_active_trim_window()
    # The host turns seconds into ticks by cutting off: a tenth of a microsecond keeps it on this side of the frame.
    begin = shot.start - start + 1e-7
    return video.as_trimmed(begin, shot.end - shot.start, strict_duration=False)


def sliced(components: Types.VideoComponents, shot: Shot) -> Types.VideoComponents:
    audio = components.audio
    if audio is not None:
        first, last = (round(seconds * audio["sample_rate"]) for seconds in (shot.start, shot.end))
        audio = {**audio, "waveform": audio["waveform"][..., first:last]}
    return Types.VideoComponents(components.images[shot.first : shot.last + 1], components.frame_rate, audio)


def image(picture) -> torch.Tensor:
    """A Pillow picture as an IMAGE: float32 [1, H, W, 3] in 0..1."""
    return images(np.array(picture)[None])


def images(rgb: np.ndarray) -> torch.Tensor:
    """uint8 [T, H, W, 3] as an IMAGE: float32 in 0..1."""
    return torch.from_numpy(rgb).float().div_(255)


def input_folder() -> Path:
    """Where the user puts files for workflows to read."""
    return Path(folder_paths.get_input_directory())


def inside(path: str | os.PathLike, what: str) -> Path:
    """``path``, where it lies in a folder that the host reads and writes; raises InputError elsewhere.

    These are input, output, temp, models, and the configured folders of models. A workflow may come
    from anyone: what it names outside of them is not even searched for. Links that the user made there are followed.
    """
    path = Path(os.path.abspath(path))
    roots = [folder_paths.get_input_directory(), folder_paths.get_output_directory(), folder_paths.models_dir]
    roots += [folder_paths.get_temp_directory()]
    known = folder_paths.folder_names_and_paths
    roots += [root for name, (paths, _) in known.items() if name != "custom_nodes" for root in paths]
    if "\0" in str(path) or not any(path.is_relative_to(os.path.abspath(root)) for root in roots):
        raise InputError(
            f"{what} is {one_line(str(path))[:120]}, outside of the folders of this ComfyUI; give one in its input, "
            "output or models folder"
        )
    return path


def output_folder() -> Path:
    """Where nodes that save put their files."""
    return Path(folder_paths.get_output_directory())


def dataset_folder(name: str) -> Path:
    """The folder that a workflow names as 'input/...', 'output/...' or 'datasets/...'; links out of these do not count.

    Raises InputError for any other folder: workflows come from strangers.
    """
    roots = {"input": [input_folder()], "output": [output_folder()]}
    configured, _ = folder_paths.folder_names_and_paths.get("datasets", ([], set()))
    roots["datasets"] = [Path(folder) for folder in configured]
    first, _, rest = name.strip().replace("\\", "/").strip("/").partition("/")
    for root in roots.get(first, ()):
        try:
            folder = (root / rest).resolve()
        except (OSError, ValueError):
            break
        if folder.is_relative_to(root.resolve()) and folder.is_dir():
            return folder
    known = ", ".join(f"{root}/..." for root, folders in roots.items() if folders)
    hint = "" if configured else "; extra_model_paths.yaml may name others as datasets"
    raise InputError(f"the folder {name!r} is not there or not allowed; it must be one of {known}{hint}")


def next_output(prefix: str, *extensions: str) -> list[Path]:
    """The next free name under the output folder for ``prefix`` (folder and start of the name), by extension."""
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
        inside(Path(folder) / name, "filename_prefix")
    except InputError:
        raise
    except Exception as error:
        # The host raises plain exceptions for a prefix that leads out of its output folder.
        reason = one_line(getattr(error, "strerror", None) or "it leads out of the output folder")
        raise InputError(f"filename_prefix is {prefix[:60]!r}: {reason}; give a name under the output folder") from None
    return [Path(folder) / f"{name}_{counter:05}_{extension}" for extension in extensions]


def chosen_file(name: str) -> Path:
    """The path of a file that :func:`files_ending` lists."""
    return inside(folder_paths.get_annotated_filepath(name), "the file")


def files_ending(extension: str) -> list[str]:
    """Files of that extension under input, and under output marked as the host marks them."""
    found = []
    for folder, mark in ((input_folder(), ""), (output_folder(), " [output]")):
        names, _ = folder_paths.recursive_search(str(folder), excluded_dir_names=[".git"])
        found += [name + mark for name in sorted(names) if name.lower().endswith(extension)]
    return found


def load_models(patchers: list, memory: int) -> None:
    """Load models on their device, with ``memory`` bytes beside them for what they compute."""
    comfy.model_management.load_models_gpu(patchers, memory_required=memory)


def text_encoder_devices() -> tuple[torch.device, torch.device]:
    """Where text encoders run, and where they wait."""
    manager = comfy.model_management
    return manager.text_encoder_device(), manager.text_encoder_offload_device()


def latent_device() -> torch.device:
    """Where latents go between nodes."""
    return comfy.model_management.intermediate_device()


MODEL_FOLDERS = "codeclens_models"


def model_files() -> list[str]:
    """Model files in the text_encoders, clip and LLM model folders, by their names for the node's lists.

    All GGUF files, and those .safetensors files that hold a Qwen3-VL or Qwen3.5 with its vision tower; of a model in
    several files the first. They are listed under a folder key of the pack's own: other packs keep theirs, whatever
    extensions they allow.
    """
    folders = folder_paths.get_folder_paths("text_encoders")
    folders += folder_paths.folder_names_and_paths.get("LLM", ([], set()))[0]
    folders += [os.path.join(folder_paths.models_dir, name) for name in ("LLM", "llm")]
    paths = [folder for number, folder in enumerate(folders) if folder not in folders[:number]]
    folder_paths.folder_names_and_paths[MODEL_FOLDERS] = (paths, {".gguf", ".safetensors"})
    part = re.compile(r"-\d{5}-of-\d{5}\.(gguf|safetensors)$", re.IGNORECASE)
    whole = [
        name for name in folder_paths.get_filename_list(MODEL_FOLDERS) if not part.search(name) or "-00001-of-" in name
    ]
    return [name for name in whole if name.lower().endswith(".gguf") or _family(model_path(name))]


def model_path(name: str) -> str:
    """The path of a file that :func:`model_files` lists; raises where it is gone."""
    return folder_paths.get_full_path_or_raise(MODEL_FOLDERS, name)


def _family(path: str) -> str | None:
    """The family of a .safetensors file, read again only when the file has changed."""
    return _family_at(path, os.path.getmtime(path))


@functools.lru_cache(maxsize=1024)
def _family_at(path: str, changed: float) -> str | None:
    return family_of(path)


def text_tokenizers() -> dict[str, Path]:
    """Tokenizers of text encoders by name: those that come with ComfyUI, and files that carry their own."""
    shipped = shipped_tokenizers(Path(folder_paths.__file__).parent / "comfy")
    names = [name for name in folder_paths.get_filename_list("text_encoders") if name.endswith(".safetensors")]
    files = {name: folder_paths.get_full_path_or_raise("text_encoders", name) for name in names}
    return shipped | {name: Path(path) for name, path in files.items() if _carries(path, os.path.getmtime(path))}


@functools.lru_cache(maxsize=1024)
def _carries(path: str, changed: float) -> bool:
    return carries_tokenizer(Path(path))


def user_folder(name: str) -> Path:
    """The user's own folder for files of one kind, such as presets; it need not exist."""
    return Path(folder_paths.get_user_directory()) / "codeclens" / name


def blocked() -> ExecutionBlocker:
    """An output that nothing after it runs on, and that nothing reports."""
    return ExecutionBlocker(None)


def show_text(text: str, node_id: str) -> None:
    """Show ``text`` in a node that is running."""
    PromptServer.instance.send_progress_text(text, node_id)


def shown(text: str, node_id: str) -> dict:
    """The ``ui`` of a node that ends with ``text``, which is shown in the node as well."""
    show_text(text, node_id)
    return {"text": (text,)}


def shown_pictures(images: torch.Tensor, node) -> dict:
    """The ``ui`` of a node class that shows an IMAGE on itself."""
    return ui.PreviewImage(images, cls=node).as_dict()


class LiveAnswers:
    """Questions and answers that a node shows while they are written, at most five times a second.

    Call :meth:`begin` with a question, hand this object on as ``on_text`` and :meth:`progress` along with it, and call
    :meth:`end` with the answer. :attr:`ui` is what the node shows in the end.
    """

    def __init__(self, node_id: str):
        self.node_id = node_id
        self.move_bar = node_progress()
        self.clips: list[dict] = []
        self.sent, self.began, self.tokens = 0.0, 0.0, 0

    def clip(self, name: str = "", seen: str = "") -> None:
        """The answers from here on are about a clip of that name, of which the model saw what ``seen`` says."""
        self.clips.append({"clip": name, "seen": seen, "turns": []})

    def begin(self, question: str) -> None:
        """A question is asked; what follows is its answer."""
        self.turns.append({"question": question, "text": "", "writing": True})
        self._send()

    def progress(self, done: int, total: int) -> None:
        """Move the node's bar as :func:`node_progress` does. Reading and writing both count from 0."""
        if done == 0:
            self.began = time.monotonic()
        self.tokens = done
        self.move_bar(done, total)

    def __call__(self, piece: str) -> None:
        turn = self.turns[-1]
        turn["text"] += piece
        if time.monotonic() - self.sent > 0.2:
            # Progress counts a token before it is written, so the one that this piece ends with is not counted yet.
            turn["tokens"], turn["seconds"] = self.tokens + 1, round(time.monotonic() - self.began, 3)
            self._send()

    def end(self, answer: Answer, mentions: Iterable[Mention] = ()) -> None:
        """The answer is complete; ``mentions`` are the times that it names."""
        self.turns[-1] = {
            "question": self.turns[-1]["question"],
            "text": answer.text,
            "reasoning": answer.reasoning,
            "truncated": answer.truncated,
            "tokens": len(answer.generation.ids),
            "seconds": round(answer.seconds["decode"], 3),
            "prefill": round(answer.seconds["prefill"], 3),
            "mentions": [{"text": one.text, "seconds": list(one.seconds)} for one in mentions],
        }
        self._send()

    @property
    def turns(self) -> list[dict]:
        if not self.clips:
            self.clip()
        return self.clips[-1]["turns"]

    @property
    def transcript(self) -> str:
        """Questions and answers as one text."""
        turns = [turn for clip in self.clips for turn in clip["turns"]]
        return "\n\n".join(f"{turn['question']}\n{turn['text']}" for turn in turns)

    def ui(self, text: str) -> dict:
        """What the node shows in the end: ``text`` for who reads it elsewhere, and all answers."""
        return {"text": (text,), "codeclens_answers": self.clips}

    def _send(self) -> None:
        server = PromptServer.instance
        event = {"node": self.node_id, "number": len(self.clips) - 1, "clip": self.clips[-1]}
        server.send_sync("codeclens_answers", json.loads(json.dumps(event)), server.client_id)
        self.sent = time.monotonic()


def pixels(images: torch.Tensor) -> np.ndarray:
    """An IMAGE as uint8 [T, H, W, 3]."""
    return (opaque(images).clamp(0, 1) * 255).round_().byte().cpu().numpy()


def opaque(images: torch.Tensor) -> torch.Tensor:
    """An IMAGE of 1, 3 or 4 channels as [..., 3]: grey repeated, alpha over black as in every file that is read."""
    if images.shape[-1] == 4:
        return images[..., :3] * images[..., 3:].clamp(0, 1)
    return images.expand(*images.shape[:-1], 3) if images.shape[-1] == 1 else images
