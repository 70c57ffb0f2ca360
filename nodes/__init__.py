"""The nodes of the pack, one module per family. Each family lists its node classes in ``NODES``."""

from comfy_api.latest import ComfyExtension

from . import evaluation, gvc, judge, measure, qwen, video, visual_code


class CodecLensExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            *video.NODES,
            *measure.NODES,
            *qwen.NODES,
            *visual_code.NODES,
            *judge.NODES,
            *evaluation.NODES,
            *gvc.NODES,
        ]
