"""CodecLens: read a video the way a codec does. ComfyUI finds the nodes here, the shell in ``__main__.py``."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import CodecLensExtension

    return CodecLensExtension()
