"""PostgreSQL: the embedded server, a library's schema and pool, and every SQL statement of this program."""

from .database import Connection, Database

__all__ = ["Connection", "Database"]
