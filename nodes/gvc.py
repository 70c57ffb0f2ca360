"""Nodes of the generative codec: encode and decode a video with a flow model, keep streams, compare.

Socket of this family:
    CODECLENS_GVC_STREAM  :class:`LoadedStream`, a GVCB stream in memory
"""

import hashlib
import json
import os
import time
from typing import NamedTuple

import av
import numpy as np
from comfy_api.latest import io, ui

from ..models.errors import InputError
from ..models.files import writing
from ..models.gvc.budget import Target
from ..models.gvc.codec import drift_sentence
from ..models.gvc.gops import cut_clips
from ..models.gvc.planning import EncodingPlan, plan_encoding
from ..models.gvc.resume import PartialEncoding
from ..models.gvc.stores import LatentFiles
from ..models.gvc.stream import Stream, describe, read_stream, stream_in_words, write_header, write_sound
from ..models.gvc.video import CodedGop, Settings, decode_video, encode_video, model_warnings
from ..models.source.reading import FrameSampling
from ..models.source.sound import encode_sound
from ..models.video.cuts import find_cuts
from ..models.video.lossless import LosslessWriter
from ..models.video.quality import compare, decibels, side_by_side, zip_frames
from . import host
from .gvc_model import HostModel

StreamSocket = io.Custom("CODECLENS_GVC_STREAM")
PlanSocket = io.Custom("CODECLENS_GOP_PLAN")

CATEGORY = "CodecLens/generative codec"
UNFINISHED = "gvc_unfinished"


class LoadedStream(NamedTuple):
    """A stream, its bytes, and what its file is called."""

    stream: Stream
    data: bytes
    name: str


def model_inputs() -> list:
    """Sockets through which a model enters Encode and Decode."""
    return [
        io.Guider.Input(
            "guider",
            tooltip="The model with its prompt, from CFG Guider or any other guider. Wan, LTX and HunyuanVideo work,"
            " with LoRA, offloading or GGUF loaders as usual. cfg 1 is fastest and what the method was made for. Both"
            " sides need the same model, LoRAs, prompt and cfg.",
        ),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
    ]


def optional_model_inputs() -> list:
    """The same, for models that need more than one guider."""
    return [
        io.ClipVision.Input(
            "clip_vision",
            optional=True,
            tooltip="CLIP vision for models that read pictures through it (Wan 2.1 I2V and FLF2V). Others ignore it.",
        ),
        io.Guider.Input(
            "guider_low",
            optional=True,
            tooltip="The second expert of Wan 2.2 14B (low noise). It takes over where sigma falls below switch_sigma.",
        ),
    ]


def still_codec() -> io.Combo.Input:
    """How stills are coded."""
    return io.Combo.Input(
        "still_codec",
        options=["auto", "AVIF", "WEBP", "PNG"],
        default="auto",
        tooltip="File format of the stills in the stream. auto is AVIF where it can be written (Pillow 11.3), the"
        " smallest at equal quality, else WEBP. PNG is exact and large.",
    )


def still_fraction() -> io.Float.Input:
    """How a size is divided."""
    return io.Float.Input(
        "still_fraction",
        default=0.5,
        min=0.05,
        max=0.95,
        step=0.05,
        tooltip="Of the bytes that stills and codebook share, the part for stills at most. The model follows its stills"
        " closely; detail that moves comes from the codebook. T2V has no stills.",
    )


def target_input() -> io.DynamicCombo.Input:
    """The one knob for the size of the file."""
    return io.DynamicCombo.Input(
        "target",
        options=[
            io.DynamicCombo.Option(
                "quality",
                [
                    io.Float.Input(
                        "quality",
                        default=50.0,
                        min=1.0,
                        max=100.0,
                        step=1.0,
                        tooltip="1 to 100. 50 is the rate of the paper at 720p, and every 12.5 more doubles the"
                        " codebook's bytes; the quality of stills follows.",
                    )
                ],
            ),
            io.DynamicCombo.Option(
                "kilobytes",
                [
                    io.Float.Input(
                        "kilobytes",
                        default=200.0,
                        min=0.1,
                        max=1e7,
                        step=10.0,
                        round=False,
                        tooltip="Of 1000 bytes, for the whole file: stills, sound and everything else included.",
                    ),
                    still_fraction(),
                ],
            ),
            io.DynamicCombo.Option(
                "kilobits per second",
                [
                    io.Float.Input(
                        "kilobits",
                        default=200.0,
                        min=0.1,
                        max=1e6,
                        step=10.0,
                        round=False,
                        tooltip="Kilobits per second of video, for the whole file: stills, sound and everything else"
                        " included.",
                    ),
                    still_fraction(),
                ],
            ),
            io.DynamicCombo.Option(
                "bits per pixel",
                [
                    io.Float.Input(
                        "bits_per_pixel",
                        default=0.005,
                        min=0.00001,
                        max=2.0,
                        step=0.0005,
                        round=False,
                        tooltip="Codebook bits for each pixel of each frame; stills and sound come on top. 0.003 to"
                        " 0.01 is the range of the paper at 720p. Small videos need more.",
                    ),
                    io.Int.Input(
                        "still_quality",
                        default=80,
                        min=1,
                        max=100,
                        tooltip="Quality of the stills, 1 to 100. The model follows them closely, so a poor one spoils"
                        " its shot.",
                    ),
                ],
            ),
        ],
        tooltip="What to hold: a quality, or the size of the whole file. The node says what it expects before it"
        " starts.",
    )


class EncodeVideoGVC(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensEncodeVideoGVC",
            display_name="Encode Video (GVC)",
            category=CATEGORY,
            description="Packs a video into a few kilobytes with a video model: the model paints it again and the"
            " stream says which noise leads there. Decoding needs the same model, LoRAs, prompt and cfg. Sound and the"
            " times of the frames are kept. A cancelled run goes on at the next GOP when queued again.",
            search_aliases=["generative video codec", "gvcc", "compress", "codec lens"],
            inputs=[
                io.Video.Input("video", tooltip="The video to encode. A trim set before (Trim Video) is honoured."),
                *model_inputs(),
                io.DynamicCombo.Input(
                    "variant",
                    options=[
                        io.DynamicCombo.Option("T2V", []),
                        io.DynamicCombo.Option(
                            "I2V",
                            [
                                still_codec(),
                                io.Float.Input(
                                    "tail_fraction",
                                    default=0.25,
                                    min=0.0,
                                    max=20.0,
                                    step=0.05,
                                    tooltip="Bytes spent on mending the end of each GOP, which the next one starts"
                                    " from, as a fraction of its codebook bytes. 0 is off.",
                                ),
                                io.Float.Input(
                                    "tail_atoms",
                                    default=1.0,
                                    min=0.25,
                                    max=4.0,
                                    step=0.25,
                                    tooltip="Codebook bits of the last two latent frames of each GOP, times what they"
                                    " would get; the others get less. The paper has 2.",
                                ),
                                io.Int.Input(
                                    "still_every",
                                    default=4,
                                    min=0,
                                    max=1000,
                                    tooltip="GOPs after which a shot starts afresh from a still of its own. It bounds"
                                    " how far a decoder on other hardware can drift, and playing can start there. 0:"
                                    " one still for a whole shot.",
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option("FLF2V", [still_codec()]),
                    ],
                    tooltip="T2V: any video model, fewest bytes. I2V: each shot starts from a still and goes on from"
                    " what was decoded, for image-to-video models. FLF2V: a still at both ends of every GOP, shared by"
                    " neighbours, for first-last-frame models; best quality, most bytes.",
                ),
                target_input(),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=2,
                    max=255,
                    tooltip="Speed: model calls for each GOP, when encoding and again when decoding. More, cheaper"
                    " steps beat fewer, richer ones; below 15 quality falls fast.",
                ),
                io.Int.Input(
                    "gop_frames",
                    default=33,
                    min=5,
                    max=1025,
                    step=4,
                    tooltip="Most frames that the model paints at once: 4 k + 1, for LTX 8 k + 1. More costs memory.",
                ),
                io.Float.Input(
                    "sound_kilobits",
                    default=24.0,
                    min=0.0,
                    max=510.0,
                    step=8.0,
                    tooltip="Opus sound, kilobits per second, counted in the target. 0 leaves sound out; 16 is plain"
                    " speech, 24 good speech, 64 good music.",
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    advanced=True,
                    tooltip="Resize to this width in pixels first; 0 keeps the video's. Any size works: the grid is"
                    " padded.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    advanced=True,
                    tooltip="Resize to this height in pixels first; 0 keeps the video's.",
                ),
                io.Boolean.Input(
                    "split_at_cuts",
                    default=True,
                    advanced=True,
                    tooltip="Start a GOP at every cut. Without it a GOP may run across one, which costs quality. A"
                    " connected plan says where cuts are instead.",
                ),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    advanced=True,
                    tooltip="Of all noise. It is in the stream; the decoder needs no seed.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Shift of the sigma schedule. 0 chooses it by the rate: 5 up to 0.26 bits per latent value,"
                    " 1 from 3.2 on. Not used when sigmas are connected.",
                ),
                io.Float.Input(
                    "refresh",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Fraction of the noise that is chosen anew at each step. On a model in closed form"
                    " 0.6 leaves 0 to 6 % less error above 0.4 bits per latent value, and 0.5 is about as good below.",
                ),
                io.Int.Input(
                    "deterministic_steps",
                    default=1,
                    min=1,
                    max=254,
                    advanced=True,
                    tooltip="Steps at the end that carry no bits. 1 is best; the paper has 3.",
                ),
                io.Boolean.Input(
                    "adaptive_atoms",
                    default=True,
                    advanced=True,
                    tooltip="Measure which latent frames the model predicts badly and give those more of the bits.",
                ),
                io.Float.Input(
                    "switch_sigma",
                    default=0.875,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    advanced=True,
                    tooltip="Where guider_low takes over: 0.875 for Wan 2.2 T2V, 0.9 for its I2V. Not used without it.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    advanced=True,
                    tooltip="The prompt that the guider was given, to be kept in the stream. Load Stream gives it"
                    " back.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    multiline=True,
                    advanced=True,
                    tooltip="The negative prompt, to be kept in the stream.",
                ),
                io.String.Input("note", default="", advanced=True, tooltip="Anything to keep in the stream."),
                *optional_model_inputs(),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="A schedule from any scheduler node, from 1 down to 0, instead of steps and shift.",
                ),
                PlanSocket.Input(
                    "plan",
                    optional=True,
                    tooltip="From Plan GOP: its cuts start GOPs. Sample all frames, or cuts fall between samples.",
                ),
            ],
            outputs=[
                StreamSocket.Output("stream", tooltip="The encoded video, for Save Stream or Decode Video (GVC)."),
                io.Video.Output("decoded", tooltip="What a decoder will show: the encoder's own reconstruction."),
                io.String.Output(
                    "report", tooltip="JSON: bytes, bits per pixel, seconds, PSNR, and all of Stream Info."
                ),
                io.String.Output("text", tooltip="The same in a few lines."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, video, guider, vae, variant, target, gop_frames, sound_kilobits, width, height, split_at_cuts, plan=None,
        clip_vision=None, guider_low=None, **options,
    ) -> io.NodeOutput:  # fmt: skip
        model = HostModel(guider, vae, clip_vision, guider_low)
        settings = settings_from(variant, guider_low is not None, options)
        model.check_variant(settings.variant)
        source, _ = host.video_source(video)
        planned = plan_encoding(
            model, source, target_from(target), settings, gop_frames=gop_frames,
            size=(height or source.info.height, width or source.info.width),
            cuts=gop_starts(source, split_at_cuts, plan), still_every=variant.get("still_every", 0),
            sound=opus_of(video, source, sound_kilobits),
        )  # fmt: skip
        progress = GopProgress(cls.hidden.unique_id, len(planned.spans), planned.header.step_count)
        progress.show(planned.sentence())
        encoding = Encoding(planned, source, progress)
        encoding.run(model)
        report = {
            **encoding.report(),
            "bytes_expected": planned.budget.total,
            "warnings": [*source.warnings, *model_warnings(encoding.excess, model.cfg)],
        }
        words = stream_in_words(report) + f"\nPSNR {report['psnr']:.2f} dB, in {report['encode_seconds']:.0f} s"
        words = "\n".join([words, *report["warnings"]])
        return io.NodeOutput(encoding.stream(), encoding.video(), json.dumps(report, indent=1), words)


def gop_starts(source, split_at_cuts: bool, plan) -> list[int]:
    """Numbers of the source's frames at which a GOP has to start."""
    if plan is not None:
        return [int(index) for index, why in zip(plan.index, plan.why, strict=True) if why in ("cut", "user")]
    return list(find_cuts(source, host.node_progress()).cuts) if split_at_cuts else []


def opus_of(video, source, kilobits: float) -> bytes:
    """The sound of the video's trim window, and a warning in the source's list where it does not decode."""
    if not kilobits:
        return b""
    first, last = source.window()
    timeline = source.timeline()
    end = timeline.pts[last] + timeline.frame_duration
    try:
        sound = host.video_sound(video, float(timeline.pts[first]), float(end - timeline.pts[first]))
        return encode_sound(sound, kilobits)
    except av.error.FFmpegError as error:
        source.warnings.append(f"the sound of {source.info.name} does not decode ({error}); the stream has none")
        return b""


class Encoding:
    """An encoding that runs: it keeps the stream, and writes the decoded pictures to a lossless file as they come."""

    def __init__(self, planned: EncodingPlan, source, progress: "GopProgress"):
        self.planned, self.source, self.progress = planned, source, progress
        self.gops, self.records, self.seconds, self.excess = [], [], [], []
        self.squares, self.values = 0.0, 0
        self.path = host.temporary_file("codeclens_gvc_", ".mp4")
        self.sound = b""

    def run(self, model: HostModel) -> None:
        planned = self.planned
        clips = cut_clips((part.rgb for part in self.source.frames(FrameSampling.all(), planned.size)), planned.spans)
        folder = host.output_folder() / UNFINISHED
        self.sound = planned.sound
        store = PartialEncoding(folder, planned.header, planned.settings, planned.spans, planned.sound)
        coded = encode_video(
            model, planned.header, planned.settings, planned.spans, clips, store, self.progress, planned.ticks
        )
        originals = frames_of(self.source, planned.size)
        pts = iter(planned.pts)
        with LosslessWriter(self.path, planned.size, planned.header.rate, planned.sound) as file:
            for gop in coded:
                self.add(gop, originals)
                file.write(gop.pictures, np.fromiter(pts, np.float64, len(gop.pictures)))

    def add(self, coded: CodedGop, originals) -> None:
        self.gops.append(coded.gop)
        self.records.append(coded.record)
        self.seconds.append(round(coded.seconds, 2))
        self.excess.append(coded.excess)
        for picture in coded.pictures:
            self.squares += float(np.square(picture.astype(np.float32) - next(originals)).sum(dtype=np.float64))
        self.values += coded.pictures.size
        self.progress.bytes += len(coded.record)

    def stream(self) -> LoadedStream:
        header = write_header(self.planned.header)
        sound = write_sound(header, self.sound) if self.sound else b""
        stream = Stream(self.planned.header, tuple(self.gops), self.sound)
        return LoadedStream(stream, header + sound + b"".join(self.records), "the stream")

    def video(self):
        return host.LosslessVideo(str(self.path))

    def report(self) -> dict:
        stream = self.stream()
        return {
            **describe(stream.stream, len(stream.data)),
            "psnr": round(float(decibels(self.squares / self.values)), 3),
            "encode_seconds": round(sum(self.seconds), 2),
            "seconds_per_gop": self.seconds,
        }


def target_from(target: dict) -> Target:
    """The widgets of the one knob."""
    value = {"quality": "quality", "kilobytes": "kilobytes", "kilobits per second": "kilobits"}
    return Target(
        target["target"],
        target[value.get(target["target"], "bits_per_pixel")],
        target.get("still_fraction", 0.5),
        target.get("still_quality", 80),
    )


def settings_from(variant: dict, two_experts: bool, options: dict) -> Settings:
    """The node's widgets as the codec's settings."""
    sigmas = options.get("sigmas")
    texts = {name: options[name] for name in ("prompt", "negative", "note") if options[name]}
    return Settings(
        variant=variant["variant"],
        steps=options["steps"],
        shift=options["shift"],
        sigmas=None if sigmas is None else tuple(sigmas.tolist()),
        deterministic=options["deterministic_steps"],
        refresh=options["refresh"],
        seed=options["seed"],
        adapt=options["adaptive_atoms"],
        tail_fraction=variant.get("tail_fraction", 0.0),
        tail_weight=variant.get("tail_atoms", 1.0),
        image_codec=variant.get("still_codec", "auto"),
        switch_sigma=options["switch_sigma"] if two_experts else 0.0,
        texts=tuple(texts.items()),
    )


class GopProgress:
    """Moves the node's bar at every step, and says which GOP it is in and how long the rest will take."""

    def __init__(self, node_id: str, gops: int, steps: int):
        self.bar, self.node_id = host.node_progress(), node_id
        self.gops, self.steps, self.bytes = gops, steps, 0
        self.began, self.first = time.monotonic(), None

    def show(self, text: str) -> None:
        host.show_text(text, self.node_id)

    def __call__(self, done: int, total: int) -> None:
        self.bar(done, total)
        if done == 0:
            return
        if self.first is None:
            self.began, self.first = time.monotonic(), done
        gop, step = divmod(done - 1, self.steps)
        so_far = f", {self.bytes} bytes so far" if self.bytes else ""
        if done > self.first:
            left = (time.monotonic() - self.began) / (done - self.first) * (total - done)
            so_far += f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
        self.show(f"GOP {gop + 1} of {self.gops}, step {step + 1} of {self.steps}{so_far}")


class DecodeVideoGVC(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensDecodeVideoGVC",
            display_name="Decode Video (GVC)",
            category=CATEGORY,
            description="Paints the video of a stream again. Give it the model, LoRAs, prompt and cfg that encoded"
            " it; a sketch in the stream tells how far this decoder is from the encoder.",
            search_aliases=["generative video codec", "gvcc", "decompress", "codec lens"],
            inputs=[
                StreamSocket.Input("stream", tooltip="From Load Stream or Encode Video (GVC)."),
                *model_inputs(),
                *optional_model_inputs(),
            ],
            outputs=[
                io.Video.Output("video", tooltip="The decoded video at the stream's size and frame rate."),
                io.Float.Output(
                    "drift",
                    tooltip="How far the decoded pictures are from the encoder's, in grey levels of 255: 0 is the same,"
                    " up to 1 is rounding that nobody sees, above 8 the model or its prompt is another one, or a long"
                    " chain drifted. -1 where the stream cannot tell.",
                ),
                io.String.Output("report", tooltip="JSON: drift of every GOP, seconds, and what seems to be wrong."),
                io.String.Output("text", tooltip="The same in a few lines."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, stream: LoadedStream, guider, vae, clip_vision=None, guider_low=None) -> io.NodeOutput:
        header = stream.stream.header
        if (header.switch_sigma > 0) != (guider_low is not None):
            asked = "two experts: connect guider_low" if header.switch_sigma else "one model: disconnect guider_low"
            raise InputError(f"{stream.name} was encoded with {asked}")
        model = HostModel(guider, vae, clip_vision, guider_low)
        model.check_variant(header.variant)
        progress = GopProgress(cls.hidden.unique_id, len(stream.stream.gops), header.step_count)
        path = host.temporary_file("codeclens_gvc_", ".mp4")
        latents = LatentFiles(path.parent, path.stem)
        started, frames, drifts, pts = time.monotonic(), 0, [], stream.stream.pts
        with LosslessWriter(path, (header.height, header.width), header.rate, stream.stream.sound) as file:
            for shown, _, drift in decode_video(model, stream.stream, progress, latents):
                file.write(shown, pts[frames : frames + len(shown)])
                frames += len(shown)
                drifts.append(drift)
        restarts = [not gop.continues for gop in stream.stream.gops]
        warnings = [sentence for sentence in (drift_sentence(drifts, restarts),) if sentence]
        warnings += [
            f"the {name.replace('_', ' ')} is {found.hex()}; the stream's is {header.texts[name].hex()}"
            for name, found in model.fingerprints.items()
            if warnings and header.texts.get(name, found) != found
        ]
        if not stream.stream.whole:
            warnings.append(f"{stream.name} is not whole: {frames} of {header.frames} frames are there")
        report = {
            "frames": frames,
            "drift_per_gop": [None if np.isnan(value) else round(value, 3) for value in drifts],
            "decode_seconds": round(time.monotonic() - started, 2),
            "warnings": warnings,
        }
        drift = -1.0 if np.isnan(drifts).any() else float(np.max(drifts))
        exact = "unknown, the stream has no sketches" if drift < 0 else f"{drift:.2f} grey levels of 255 at most"
        words = f"{frames} frames in {report['decode_seconds']:.0f} s; drift from the encoder: {exact}"
        words = "\n".join([words, *warnings])
        return io.NodeOutput(host.LosslessVideo(str(path)), drift, json.dumps(report, indent=1), words)


class SaveStream(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensSaveStream",
            display_name="Save Stream",
            category=CATEGORY,
            description="Writes a stream to a .gvcb file in the output folder.",
            search_aliases=["gvcb", "generative video codec", "codec lens"],
            is_output_node=True,
            inputs=[
                StreamSocket.Input("stream", tooltip="From Encode Video (GVC)."),
                io.String.Input(
                    "filename_prefix",
                    default="gvc/stream",
                    tooltip="Folder and start of the name under output; a number and .gvcb are added.",
                ),
            ],
            outputs=[io.String.Output("path", tooltip="Where the file was written.")],
        )

    @classmethod
    def execute(cls, stream: LoadedStream, filename_prefix) -> io.NodeOutput:
        (path,) = host.next_output(filename_prefix, ".gvcb")
        with writing(path) as partial:
            partial.write_bytes(stream.data)
        shown = f"{os.path.relpath(path, host.output_folder())}: {len(stream.data)} bytes"
        return io.NodeOutput(str(path), ui=ui.PreviewText(shown))


class LoadStream(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensLoadStream",
            display_name="Load Stream",
            category=CATEGORY,
            description="Reads a .gvcb file from the input or output folder and checks every byte of it.",
            search_aliases=["gvcb", "generative video codec", "codec lens"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.files_ending(".gvcb"),
                    tooltip="Files under input, and under output (marked). Copy a stream into the input folder and"
                    " press R to see it here.",
                ),
                io.Boolean.Input(
                    "partial",
                    default=False,
                    tooltip="Accept a file that was cut, and give its whole GOPs. An encoding that was cancelled leaves"
                    f" one in output/{UNFINISHED}.",
                ),
            ],
            outputs=[
                StreamSocket.Output("stream", tooltip="For Decode Video (GVC) and Stream Info."),
                io.String.Output("prompt", tooltip="The prompt in the stream: connect it to the text encoder."),
                io.String.Output("negative", tooltip="The negative prompt in the stream."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file, partial):
        data = host.chosen_file(file).read_bytes()
        return hashlib.sha256(data + bytes([partial])).hexdigest()

    @classmethod
    def execute(cls, file, partial) -> io.NodeOutput:
        path = host.chosen_file(file)
        data = path.read_bytes()
        stream = read_stream(data, path.name, partial)
        texts = stream.header.texts
        loaded = LoadedStream(stream, data[: stream.size], path.name)
        return io.NodeOutput(loaded, texts.get("prompt", ""), texts.get("negative", ""))


class StreamInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensStreamInfo",
            display_name="Stream Info",
            category=CATEGORY,
            description="What a stream says about itself: model, prompt, size, GOPs, schedule, and where its bytes go.",
            search_aliases=["gvcb", "generative video codec", "codec lens"],
            is_output_node=True,
            inputs=[StreamSocket.Input("stream", tooltip="From Load Stream or Encode Video (GVC).")],
            outputs=[
                io.String.Output("info", tooltip="One JSON object; `codeclens gvc-info` prints the same."),
                io.String.Output("text", tooltip="The same in a few lines."),
            ],
        )

    @classmethod
    def execute(cls, stream: LoadedStream) -> io.NodeOutput:
        facts = describe(stream.stream, len(stream.data))
        words = stream_in_words(facts)
        return io.NodeOutput(json.dumps(facts, indent=1), words, ui=ui.PreviewText(words))


class CompareVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CodecLensCompareVideo",
            display_name="Compare Video",
            category=CATEGORY,
            description="PSNR and SSIM (FFmpeg's filters, on R, G and B) and FLIP of every frame against a reference,"
            " and the worst, the middle and the best frame side by side with the difference four times enlarged.",
            search_aliases=["psnr", "ssim", "quality", "codec lens"],
            inputs=[
                io.Video.Input("reference", tooltip="The original. It is resized to the other video's size."),
                io.Video.Input("video", tooltip="What is compared with it; of as many frames."),
                io.Boolean.Input(
                    "perceptual",
                    default=False,
                    tooltip="Measure FLIP too: how different the frames appear, 0 to 1. A generative codec paints"
                    " plausible detail, which PSNR punishes more than eyes do. Needs the package flip-evaluator, and"
                    " about a second for a frame of 720p.",
                ),
                StreamSocket.Input("stream", optional=True, tooltip="Adds bytes and bits per pixel to the report."),
            ],
            outputs=[
                io.Float.Output("psnr", tooltip="Decibels, of the mean squared error of all frames. 100 is identical."),
                io.Float.Output("ssim", tooltip="Mean structural similarity of the frames. 1 is identical."),
                io.Image.Output("pictures", tooltip="Reference, video, difference: worst, median and best frame."),
                io.String.Output("report", tooltip="JSON: means, the worst frame, and the values of every frame."),
                io.String.Output("text", tooltip="The means and the worst frame in words, with its time."),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, reference, video, perceptual=False, stream: LoadedStream | None = None) -> io.NodeOutput:
        other, _ = host.video_source(video)
        original, _ = host.video_source(reference)
        size = (other.info.height, other.info.width)
        first, last = other.window()
        frames = last - first + 1
        found = compare(frames_of(original, size), frames_of(other, size), host.node_progress(), frames, perceptual)
        order = np.argsort(-found.mse, kind="stable")
        chosen = [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
        pairs = enumerate(zip_frames(frames_of(original, size), frames_of(other, size)))
        drawn = {number: side_by_side(*pair) for number, pair in pairs if number in chosen}
        pictures = np.stack([drawn[number] for number in chosen])
        report = {**found.to_json(), "pictures": chosen}
        words = found.in_words(other.timeline().pts[first : last + 1])
        if stream is not None:
            info = describe(stream.stream, len(stream.data))
            report |= {name: info[name] for name in ("bytes", "bits_per_pixel", "kilobits_per_second")}
            words += f"\n{info['bytes']} bytes, {info['kilobits_per_second']:g} kilobits a second"
        shown = host.shown(words, cls.hidden.unique_id)
        values = found.mean_psnr, float(found.ssim.mean()), host.images(pictures)
        return io.NodeOutput(*values, json.dumps(report), words, ui=shown)


def frames_of(source, size):
    """Yield uint8 [H, W, 3] of every frame."""
    for part in source.frames(FrameSampling.all(), size):
        yield from part.rgb


NODES = [EncodeVideoGVC, DecodeVideoGVC, SaveStream, LoadStream, StreamInfo, CompareVideo]
