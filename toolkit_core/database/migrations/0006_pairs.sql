-- The optional index over prompt and picture at once: the unit vectors of both, one behind the other, so that the inner
-- product with a query that is scaled by its weights is the weighted sum of the cosines, whatever the weights are.
CREATE TABLE image_pair (
    image_id bigint PRIMARY KEY,
    prompt_id bigint NOT NULL,              -- whose vector it was made of
    embedding halfvec(2048) NOT NULL
);
ALTER TABLE image_pair ALTER COLUMN embedding SET STORAGE PLAIN;

-- Images with a sealed vector that `image_pair` may not have as it is now. Those whose vectors are open are not here: a
-- search looks at every open vector anyhow.
CREATE TABLE image_unpaired (image_id bigint PRIMARY KEY);

CREATE FUNCTION unpair() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.image_unpaired VALUES ($1) ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA) USING NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER unpair AFTER UPDATE OF prompt_id ON image_file
    FOR EACH ROW WHEN (OLD.prompt_id IS DISTINCT FROM NEW.prompt_id) EXECUTE FUNCTION unpair();
