-- Prompts are searched as words between punctuation. PostgreSQL's own reading takes "fox,red.blue" for a host name,
-- "<lora:fur:1>" for a tag of HTML and, on some servers, "fox，red" for one word.
CREATE FUNCTION without_punctuation(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN translate(
        value,
        U&'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~'
        '\00A0\00AB\00B7\00BB\2013\2014\2018\2019\201C\201D\2026\3000\3001\3002\3008\3009\300A\300B\300C\300D\300E'
        '\300F\3010\3011\30FB\FF01\FF08\FF09\FF0C\FF0E\FF0F\FF1A\FF1B\FF1F\FF3B\FF3D\FF5B\FF5C\FF5D\FF5E',
        repeat(' ', 100)
    );

-- 200,000 characters, because a tsvector holds 1 MB: words of one letter of four bytes would fill 0.8 MB.
CREATE FUNCTION prompt_words(prompt text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_tsvector('simple'::regconfig, without_punctuation(left(prompt, 200000)));

CREATE FUNCTION lower_tags(tags text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT array_agg(lower(tag)) FROM unnest(tags) AS tag);

-- What people filter by most, and what leaves few of a million images. Favourites, ratings, tags and errors are set on
-- few, so partial indexes cost the other rows nothing to write. A model's name is cut to 400 characters, since a B-tree
-- refuses a row above 2.7 kB, and is in "C" order, which no update of the system's locales changes; its few distinct
-- names are read off the index one by one. The other columns leave too many images to be worth a write each: a scan of
-- a million rows takes less than a second.
CREATE INDEX prompt_text_words ON prompt_text USING gin (prompt_words(text));
CREATE INDEX image_file_tags ON image_file USING gin (lower_tags(tags)) WHERE tags <> '{}';
CREATE INDEX image_file_favorite ON image_file (id) WHERE favorite;
CREATE INDEX image_file_rating ON image_file (rating) WHERE rating IS NOT NULL;
CREATE INDEX image_file_error ON image_file (id) WHERE error IS NOT NULL;
CREATE INDEX image_file_model ON image_file ((left(model, 400) COLLATE "C"));
CREATE INDEX image_file_modified_at ON image_file (modified_at);
CREATE INDEX image_file_seed ON image_file (seed);
