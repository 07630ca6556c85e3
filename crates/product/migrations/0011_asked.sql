-- What the request for a talk token was permitted by, so that its conversation is asked for again while it lasts. Tokens live a minute.
DELETE FROM talk_tokens;
ALTER TABLE talk_tokens ADD COLUMN asked TEXT NOT NULL DEFAULT '';
