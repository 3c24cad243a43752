"""Databases of DiffusionToolkit: its SQLite file as its first and its newest version make it, and the fork's tables."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

# As sqlite-net makes them of RupertAvery/DiffusionToolkit, Diffusion.Database/Models, January 2026.
NEWEST = """
CREATE TABLE "Image" (
    "Id" integer primary key autoincrement not null, "RootFolderId" integer, "FolderId" integer, "Path" varchar,
    "FileName" varchar, "Prompt" varchar, "NegativePrompt" varchar, "Steps" integer, "Sampler" varchar,
    "CFGScale" float, "Seed" integer, "Width" integer, "Height" integer, "ModelHash" varchar, "Model" varchar,
    "BatchSize" integer, "BatchPos" integer, "CreatedDate" bigint, "ModifiedDate" bigint, "CustomTags" varchar,
    "Rating" integer, "Favorite" integer, "ForDeletion" integer, "NSFW" integer, "Unavailable" integer,
    "AestheticScore" float, "HyperNetwork" varchar, "HyperNetworkStrength" float, "ClipSkip" integer, "ENSD" integer,
    "FileSize" integer, "NoMetadata" integer, "Workflow" varchar, "WorkflowId" varchar, "HasError" integer,
    "Hash" varchar, "ViewedDate" bigint, "TouchedDate" bigint, "Type" integer
);
CREATE UNIQUE INDEX "Image_Path" ON "Image" ("Path");
CREATE TABLE "Tag" ("Id" integer primary key autoincrement not null, "Name" varchar);
CREATE TABLE "ImageTag" ("ImageId" integer, "TagId" integer);
CREATE UNIQUE INDEX "ImageTag_ImageId_TagId" ON "ImageTag" ("ImageId", "TagId");
CREATE TABLE "Album" (
    "Id" integer primary key autoincrement not null, "Name" varchar, "Order" integer, "LastUpdated" bigint
);
CREATE UNIQUE INDEX "Album_Name" ON "Album" ("Name");
CREATE TABLE "AlbumImage" (
    "AlbumId" integer, "ImageId" integer,
    CONSTRAINT "FK_AlbumImage_AlbumId" FOREIGN KEY ("AlbumId") REFERENCES Album ("Id"),
    CONSTRAINT "FK_AlbumImage_ImageId" FOREIGN KEY ("ImageId") REFERENCES Image ("Id")
);
CREATE UNIQUE INDEX "IDX_AlbumImage" ON "AlbumImage" ("AlbumId", "ImageId");
"""

# Of its first commit, in November 2022: Diffusion.Database/Image.cs.
FIRST = """
CREATE TABLE "Image" (
    "Id" integer primary key autoincrement not null, "Path" varchar, "Prompt" varchar, "NegativePrompt" varchar,
    "Steps" integer, "Sampler" varchar, "CFGScale" float, "Seed" integer, "Width" integer, "Height" integer,
    "ModelHash" varchar, "BatchSize" integer, "BatchPos" integer, "CreatedDate" bigint, "CustomTags" varchar,
    "Rating" integer, "Favorite" integer, "ForDeletion" integer
);
CREATE INDEX "Image_Path" ON "Image" ("Path");
"""

# Of LSDJesus/DiffusionToolkit, Diffusion.Database.PostgreSQL/PostgreSQLMigrations_V1_Schema.sql, the tables that are
# read. Left out of `image` are columns of generation parameters, of Civitai and of the fork's queues.
FORK = """
CREATE TABLE image (
    id SERIAL PRIMARY KEY, root_folder_id INT NOT NULL, folder_id INT NOT NULL, path TEXT NOT NULL UNIQUE,
    file_name TEXT NOT NULL, prompt TEXT, negative_prompt TEXT, steps INT DEFAULT 0, created_date TIMESTAMP NOT NULL,
    modified_date TIMESTAMP NOT NULL, file_size BIGINT DEFAULT 0, hash TEXT, custom_tags TEXT, rating INT,
    favorite BOOLEAN DEFAULT FALSE, for_deletion BOOLEAN DEFAULT FALSE, nsfw BOOLEAN DEFAULT FALSE,
    unavailable BOOLEAN DEFAULT FALSE, viewed_date TIMESTAMP, touched_date TIMESTAMP,
    image_uuid UUID DEFAULT gen_random_uuid() UNIQUE NOT NULL,
    prompt_embedding vector(1024), image_embedding vector(1280), created_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE album (
    id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, "order" INT DEFAULT 0, last_updated TIMESTAMP NOT NULL,
    created_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE album_image (
    id SERIAL PRIMARY KEY, album_id INT NOT NULL REFERENCES album(id) ON DELETE CASCADE,
    image_id INT NOT NULL REFERENCES image(id) ON DELETE CASCADE, added_at TIMESTAMP DEFAULT NOW(),
    UNIQUE(album_id, image_id)
);
CREATE TABLE image_tags (
    id SERIAL PRIMARY KEY, image_id INTEGER NOT NULL REFERENCES image(id) ON DELETE CASCADE, tag TEXT NOT NULL,
    confidence REAL NOT NULL DEFAULT 1.0, source TEXT NOT NULL DEFAULT 'manual', created_at TIMESTAMP DEFAULT NOW(),
    CONSTRAINT unique_image_tag_source UNIQUE(image_id, tag, source)
);
"""


class Toolkit:
    """An SQLite database that is being filled, as DiffusionToolkit fills it."""

    def __init__(self, path: Path, tables: str) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(tables)

    def add(self, path: object, tags: tuple[str, ...] = (), albums: tuple[str, ...] = (), **columns: Any) -> int:
        """Add an image. columns: by their names there."""
        columns = {"Path": path if isinstance(path, bytes) else str(path), **columns}
        names = ", ".join(f'"{name}"' for name in columns)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            values = ", ".join("?" for _ in columns)
            id = connection.execute(
                f'INSERT INTO "Image" ({names}) VALUES ({values})', list(columns.values())
            ).lastrowid
            for table, link, label, labels in (
                ("Tag", "ImageTag", "TagId", tags),
                ("Album", "AlbumImage", "AlbumId", albums),
            ):
                for name in labels:
                    there = connection.execute(f'SELECT "Id" FROM "{table}" WHERE "Name" = ?', [name]).fetchone()
                    label_id = (
                        there[0]
                        if there
                        else connection.execute(f'INSERT INTO "{table}" ("Name") VALUES (?)', [name]).lastrowid
                    )
                    connection.execute(f'INSERT INTO "{link}" ("ImageId", "{label}") VALUES (?, ?)', [id, label_id])
        assert id is not None
        return id


class Fork:
    """A PostgreSQL database that is being filled, as the fork fills it. url: its postgresql:// URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.run("CREATE EXTENSION vector")

    def run(self, statements: str, schema: str = "public", values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("SET search_path TO {}, public").format(sql.Identifier(schema)))
            cursor = connection.execute(statements.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def add(self, path: object, schema: str = "public", **columns: Any) -> int:
        """Add an image. columns: by their names there."""
        columns = {"path": str(path), "file_name": "", "root_folder_id": 1, "folder_id": 1, **columns}
        names = ", ".join([*columns, "created_date", "modified_date"])
        values = ", ".join(["%s"] * len(columns) + ["now()"] * 2)
        statement = f"INSERT INTO image ({names}) VALUES ({values}) RETURNING id"
        return self.run(statement, schema, list(columns.values()))[0][0]

    def tag(self, id: int, tag: str, source: str = "manual", confidence: float = 1.0) -> None:
        statement = "INSERT INTO image_tags (image_id, tag, source, confidence) VALUES (%s, %s, %s, %s)"
        self.run(statement, values=[id, tag, source, confidence])

    def put(self, id: int, album: str) -> None:
        """Put an image into an album."""
        self.run("INSERT INTO album (name, last_updated) VALUES (%s, now()) ON CONFLICT DO NOTHING", values=[album])
        self.run(
            "INSERT INTO album_image (album_id, image_id) SELECT id, %s FROM album WHERE name = %s", values=[id, album]
        )
