"""Bringing a library along from DiffusionToolkit: which images it has, and what a person said of them."""

from .importer import Importer
from .paths import PathMap
from .source import opened_source

__all__ = ["Importer", "PathMap", "opened_source"]
