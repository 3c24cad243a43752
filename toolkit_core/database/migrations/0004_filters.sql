-- Prompts are searched as words between punctuation. PostgreSQL's own reading takes "fox,red.blue" for a host name,
-- "<lora:fur:1>" for a tag of HTML and, on some servers, "fox，red" for one word.
CREATE FUNCTION without_punctuation(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN regexp_replace(
        value,
        '[\u0021-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u007E\u00A0\u00AB\u00B7\u00BB\u2010-\u2027\u2030-\u205E'
        '\u3000-\u3003\u3008-\u301F\u30FB\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65]+',
        ' ',
        'g'
    );

-- 200,000 characters, because a tsvector holds 1 MB: words of one letter of four bytes would fill 0.8 MB.
CREATE FUNCTION prompt_words(prompt text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_tsvector('simple'::regconfig, without_punctuation(left(prompt, 200000)));

-- Kept, as long as the text itself, because the index alone does not know a phrase, nor serves a word of most prompts:
-- made anew by the query, the words of 300,000 prompts took half a minute.
ALTER TABLE prompt_text ADD COLUMN words tsvector GENERATED ALWAYS AS (prompt_words(text)) STORED;

CREATE FUNCTION lower_tags(tags text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT coalesce(array_agg(lower(tag)), '{}') FROM unnest(tags) AS tag);

-- Kept for a search that asks of one image after the other whether it has a tag: made anew, that is most of its time.
ALTER TABLE image_file ADD COLUMN lower_tags text[] GENERATED ALWAYS AS (lower_tags(tags)) STORED;

-- What people filter by most, and what leaves few of a million images. Favourites, ratings, tags and errors are set on
-- few, so partial indexes cost the other rows nothing to write. A model's name is cut to 400 characters, since a B-tree
-- refuses a row above 2.7 kB, and is in "C" order, which no update of the system's locales changes; its few distinct
-- names are read off the index one by one. The other columns leave too many images to be worth a write each: a scan of
-- a million rows takes less than a second.
CREATE INDEX prompt_text_words ON prompt_text USING gin (words);
CREATE INDEX image_file_tags ON image_file USING gin (lower_tags) WHERE tags <> '{}';
CREATE INDEX image_file_favorite ON image_file (id) WHERE favorite;
CREATE INDEX image_file_rating ON image_file (rating) WHERE rating IS NOT NULL;
CREATE INDEX image_file_error ON image_file (id) WHERE error IS NOT NULL;
CREATE INDEX image_file_model ON image_file ((left(model, 400) COLLATE "C"));
CREATE INDEX image_file_modified_at ON image_file (modified_at);
CREATE INDEX image_file_seed ON image_file (seed);
