-- A moved file is looked for among the missing ones with its content, by path, so that thousands of files that are all
-- the same are matched a few at a time and in their order.
CREATE INDEX image_file_missing_content ON image_file (content_hash, path) WHERE missing_since IS NOT NULL;
