"""What a user sees in a graph. One file a node."""

from comfy_api.latest import ComfyExtension, io


class DiffusionToolkit(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []
