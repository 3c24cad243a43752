-- An image whose file is missing keeps its path, and another file may have that by now: a path has one image that is
-- there, and as many as were there before. The one that is there comes first, then the one that was there last.
ALTER TABLE image_file DROP CONSTRAINT image_file_path_key;
CREATE UNIQUE INDEX image_file_path_key ON image_file (path, missing_since DESC) NULLS NOT DISTINCT;
