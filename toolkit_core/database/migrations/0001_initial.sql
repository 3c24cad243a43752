-- Texts repeat (batches, seeds, one negative for thousands of images), so each is stored and embedded once.
CREATE TABLE prompt_text (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,
    text text NOT NULL
);

CREATE TABLE image_file (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path text COLLATE "C" NOT NULL UNIQUE,  -- "C", so that the files below a folder are one range of the index
    content_hash bytea,                     -- SHA-256 of the file
    file_size bigint,
    modified_at timestamptz,                -- NULL: could not be opened, tried again by every run
    width integer,
    height integer,
    prompt_id bigint REFERENCES prompt_text,
    negative_prompt_id bigint REFERENCES prompt_text,
    generator text,
    model text,
    loras jsonb NOT NULL DEFAULT '[]',
    sampler text,
    scheduler text,
    steps integer,
    cfg_scale double precision,
    guidance double precision,
    seed numeric(20, 0),                    -- ComfyUI's seeds go up to 2^64 - 1, past bigint
    denoise double precision,
    favorite boolean NOT NULL DEFAULT false,
    rating smallint CHECK (rating BETWEEN 0 AND 10),
    tags text[] NOT NULL DEFAULT '{}',
    error text,
    indexed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX image_file_content_hash ON image_file (content_hash);
CREATE INDEX image_file_prompt_id ON image_file (prompt_id);
CREATE INDEX image_file_negative_prompt_id ON image_file (negative_prompt_id);

-- One narrow table a space.
CREATE TABLE prompt_bge (
    prompt_id bigint PRIMARY KEY REFERENCES prompt_text,
    embedding halfvec(1024) NOT NULL
);
CREATE TABLE prompt_clip_l (
    prompt_id bigint PRIMARY KEY REFERENCES prompt_text,
    embedding halfvec(768) NOT NULL
);
CREATE TABLE prompt_clip_g (
    prompt_id bigint PRIMARY KEY REFERENCES prompt_text,
    embedding halfvec(1280) NOT NULL
);
CREATE TABLE image_clip_h (
    image_id bigint PRIMARY KEY REFERENCES image_file,
    embedding halfvec(1024) NOT NULL
);

-- PLAIN keeps the vector in the row: an exact scan reads no TOAST. (PostgreSQL 15 knows STORAGE in ALTER TABLE alone.)
ALTER TABLE prompt_bge ALTER COLUMN embedding SET STORAGE PLAIN;
ALTER TABLE prompt_clip_l ALTER COLUMN embedding SET STORAGE PLAIN;
ALTER TABLE prompt_clip_g ALTER COLUMN embedding SET STORAGE PLAIN;
ALTER TABLE image_clip_h ALTER COLUMN embedding SET STORAGE PLAIN;

-- The one encoder of each space, known by the vectors it gives for a few fixed inputs.
CREATE TABLE encoder (
    space text PRIMARY KEY,
    name text NOT NULL,
    probe real[] NOT NULL,                  -- row-major, rows of the space's width
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What a user's own SQL reads: one row an image.
CREATE VIEW image AS
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
    ge.embedding AS clip_g_embedding
FROM image_file f
LEFT JOIN prompt_text p ON p.id = f.prompt_id
LEFT JOIN prompt_text n ON n.id = f.negative_prompt_id
LEFT JOIN prompt_bge pe ON pe.prompt_id = f.prompt_id
LEFT JOIN prompt_bge ne ON ne.prompt_id = f.negative_prompt_id
LEFT JOIN image_clip_h he ON he.image_id = f.id
LEFT JOIN prompt_clip_l le ON le.prompt_id = f.prompt_id
LEFT JOIN prompt_clip_g ge ON ge.prompt_id = f.prompt_id;
