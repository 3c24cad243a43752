-- A tag is looked up over all rows: a condition that names a partial index's predicate beside the tag has PostgreSQL
-- expect too few images, and a search look for too many. Which images have any tag is an index of its own.
CREATE INDEX image_file_lower_tags ON image_file USING gin (lower_tags);
DROP INDEX image_file_tags;
CREATE INDEX image_file_tags ON image_file (id) WHERE tags <> '{}';
