"""What a user sees in a graph. One file a node."""

from comfy_api.latest import ComfyExtension, io

from .indexer import DiffusionToolkitIndexer
from .loader import DiffusionToolkitLoader
from .search import DiffusionToolkitSearch


class DiffusionToolkit(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [DiffusionToolkitIndexer, DiffusionToolkitSearch, DiffusionToolkitLoader]
