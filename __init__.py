"""The door for ComfyUI. It imports nothing before ComfyUI asks, so that pytest may import it as the root's package."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import DiffusionToolkit

    return DiffusionToolkit()
