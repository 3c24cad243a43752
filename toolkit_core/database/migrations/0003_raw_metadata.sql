-- The texts of a file's metadata as they were found, so that a better reader needs no files. All images of a batch
-- have the same, and the next batch's differ in a few words, so a row may be packed against a whole one (`base_id`).
CREATE TABLE raw_metadata (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,           -- of the texts before packing
    base_id bigint REFERENCES raw_metadata, -- NULL: packed by itself
    data bytea NOT NULL                     -- see database/raw_metadata.py
);
ALTER TABLE raw_metadata ALTER COLUMN data SET STORAGE EXTERNAL;  -- packed already
CREATE INDEX raw_metadata_whole ON raw_metadata (id) WHERE base_id IS NULL;

ALTER TABLE image_file
    ADD COLUMN vae text,
    ADD COLUMN sidecars text,               -- suffix, size and time of the files beside it that were read; NULL: none
    ADD COLUMN metadata_id bigint REFERENCES raw_metadata,  -- NULL: not kept
    ADD COLUMN reader_version integer;      -- NULL: read before readers were counted

CREATE OR REPLACE VIEW image AS
SELECT
    f.id,
    f.path,
    p.text AS prompt,
    n.text AS negative_prompt,
    f.width,
    f.height,
    f.generator,
    f.model,
    f.loras,
    f.sampler,
    f.scheduler,
    f.steps,
    f.cfg_scale,
    f.guidance,
    f.seed,
    f.denoise,
    f.favorite,
    f.rating,
    f.tags,
    f.content_hash,
    f.file_size,
    f.modified_at,
    f.indexed_at,
    f.error,
    pe.embedding AS prompt_embedding,
    ne.embedding AS negative_prompt_embedding,
    he.embedding AS image_embedding,
    le.embedding AS clip_l_embedding,
    ge.embedding AS clip_g_embedding,
    f.vae
FROM image_file f
LEFT JOIN prompt_text p ON p.id = f.prompt_id
LEFT JOIN prompt_text n ON n.id = f.negative_prompt_id
LEFT JOIN prompt_bge pe ON pe.prompt_id = f.prompt_id
LEFT JOIN prompt_bge ne ON ne.prompt_id = f.negative_prompt_id
LEFT JOIN image_clip_h he ON he.image_id = f.id
LEFT JOIN prompt_clip_l le ON le.prompt_id = f.prompt_id
LEFT JOIN prompt_clip_g ge ON ge.prompt_id = f.prompt_id;
