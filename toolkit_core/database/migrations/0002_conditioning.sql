-- Whole conditionings, kept so that a graph needs no text encoder. A library may keep those of several model families.
CREATE TABLE conditioning_encoder (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    probe real[] NOT NULL,                  -- row-major, rows of `width` floats
    width integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE conditioning (
    prompt_id bigint REFERENCES prompt_text,
    encoder_id bigint REFERENCES conditioning_encoder,
    data bytea NOT NULL,                    -- safetensors
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (prompt_id, encoder_id)
);
ALTER TABLE conditioning ALTER COLUMN data SET STORAGE EXTERNAL;  -- floats do not compress

-- Counts the transactions that changed what a search can find. The id tells one library from its successor.
CREATE TABLE library_revision (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    revision bigint NOT NULL DEFAULT 0
);
INSERT INTO library_revision DEFAULT VALUES;
