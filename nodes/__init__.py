"""What a user sees in a graph. One file a node."""

from comfy_api.latest import ComfyExtension, io

from .auto_index import auto_indexer
from .indexer import DiffusionToolkitIndexer
from .loader import DiffusionToolkitLoader
from .search import DiffusionToolkitSearch


class DiffusionToolkit(ComfyExtension):
    async def on_load(self) -> None:
        auto_indexer.start()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [DiffusionToolkitIndexer, DiffusionToolkitSearch, DiffusionToolkitLoader]
