-- The vectors of a space that is made again with other weights, and those weights' record: both take the old ones' place
-- in one transaction, when no vector is missing.
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
        EXECUTE format('CREATE TABLE %I (%I bigint PRIMARY KEY, embedding halfvec(%s) NOT NULL)',
            name || '_next', owner, width);
        EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding SET STORAGE PLAIN', name || '_next');
    END LOOP;
END
$$;
CREATE TABLE next_encoder (LIKE encoder INCLUDING ALL);
