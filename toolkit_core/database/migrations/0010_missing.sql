-- When a file was first not there any more. What is known of it stays, and counts again when the file is back.
ALTER TABLE image_file ADD COLUMN missing_since timestamptz;
CREATE INDEX image_file_missing ON image_file (path) WHERE missing_since IS NOT NULL;

-- For pruning: a kept text goes when no row refers to it.
CREATE INDEX image_file_metadata_id ON image_file (metadata_id);
CREATE INDEX raw_metadata_base_id ON raw_metadata (base_id) WHERE base_id IS NOT NULL;

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
    f.vae,
    f.missing_since
FROM image_file f
LEFT JOIN prompt_text p ON p.id = f.prompt_id
LEFT JOIN prompt_text n ON n.id = f.negative_prompt_id
LEFT JOIN prompt_bge pe ON pe.prompt_id = f.prompt_id
LEFT JOIN prompt_bge ne ON ne.prompt_id = f.negative_prompt_id
LEFT JOIN image_clip_h he ON he.image_id = f.id
LEFT JOIN prompt_clip_l le ON le.prompt_id = f.prompt_id
LEFT JOIN prompt_clip_g ge ON ge.prompt_id = f.prompt_id;
