"""What a ComfyUI graph says: the walk from the saver back to the prompts, and what nodes do (`node_table`)."""

from .reader import GENERATOR, read_comfyui

__all__ = ["GENERATOR", "read_comfyui"]
