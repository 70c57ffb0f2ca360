"""The nodes of the pack, one module per family. Each family lists its node classes in ``NODES``."""

from comfy_api.latest import ComfyExtension

from . import direct, evaluation, folders, gvc, judge, learned, measure, qwen, synthetic, video, visual_code
from .numbers import checked


class CodecLensExtension(ComfyExtension):
    async def get_node_list(self):
        families = (
            direct,
            video,
            measure,
            qwen,
            visual_code,
            learned,
            judge,
            folders,
            evaluation,
            gvc,
            synthetic,
        )
        return [checked(node) for family in families for node in family.NODES]
