-- Who is indexing, and what each has taken on, so that several processes share the work of one library. A worker that is
-- not heard of for a while, by the server's clock, was killed or hangs: what it claimed may be claimed by others.
CREATE TABLE indexing_worker (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE indexing_claim (
    kind text NOT NULL,                     -- "file", or the space that a vector is made for
    key bigint NOT NULL,                    -- of a file: of its path; of a vector: its owner
    worker_id bigint NOT NULL REFERENCES indexing_worker ON DELETE CASCADE,
    PRIMARY KEY (kind, key)
);
CREATE INDEX indexing_claim_worker_id ON indexing_claim (worker_id);
