-- Each vector table becomes two: `…_sealed` has the index, `…_open` takes every new row, so that writing never waits for
-- an index (240 rows a second) and what was just written is found at once. `segments.py` moves rows from one to the other.
-- An owner has a row in one of them: a writer first writes the open one, then deletes from the sealed one.
-- Vectors are made of what other tables hold, so a row without its owner is harmless, and a foreign key would have the
-- exchange of a sealed table wait for every writer of images.
-- `…_sketch` has the signs of the open rows' components: what a scan of many open rows reads in place of the vectors.
DROP VIEW image;

DO $$
DECLARE
    name text;
    owner text;
    width integer;
BEGIN
    FOR name, owner, width IN
        SELECT * FROM (VALUES
            ('prompt_bge', 'prompt_id', 1024), ('prompt_clip_l', 'prompt_id', 768), ('prompt_clip_g', 'prompt_id', 1280),
            ('image_clip_h', 'image_id', 1024)) AS spaces
    LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', name, name || '_before');
        EXECUTE format('CREATE TABLE %I (%I bigint NOT NULL, embedding halfvec(%s) NOT NULL,'
            ' sealed boolean NOT NULL DEFAULT false) PARTITION BY LIST (sealed)', name, owner, width);
        EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding SET STORAGE PLAIN', name);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I (CHECK (sealed), PRIMARY KEY (%I)) FOR VALUES IN (true)',
            name || '_sealed', name, owner);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I (CHECK (NOT sealed), PRIMARY KEY (%I)) FOR VALUES IN (false)',
            name || '_open', name, owner);
        EXECUTE format('CREATE TABLE %I (%I bigint PRIMARY KEY, bits bit(%s) NOT NULL)', name || '_sketch', owner, width);
        EXECUTE format('INSERT INTO %I SELECT %I, embedding FROM %I', name, owner, name || '_before');
        EXECUTE format('INSERT INTO %I SELECT %I, binary_quantize(embedding)::bit(%s) FROM %I',
            name || '_sketch', owner, width, name || '_before');
        EXECUTE format('DROP TABLE %I', name || '_before');
    END LOOP;
END
$$;

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
