"""Diffusion Toolkit: five embeddings for every generated image, in PostgreSQL with pgvector.

Importing this package loads no model code and touches no database; that happens on first use.
"""
