"""The nodes of the pack, one module per family. Each family lists its node classes in ``NODES``."""

from comfy_api.latest import ComfyExtension

from . import direct, evaluation, folders, gvc, judge, measure, qwen, synthetic, video, visual_code


class CodecLensExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            *direct.NODES,
            *video.NODES,
            *measure.NODES,
            *qwen.NODES,
            *visual_code.NODES,
            *judge.NODES,
            *folders.NODES,
            *evaluation.NODES,
            *gvc.NODES,
            *synthetic.NODES,
        ]
