-- Changes up to this one are forgotten: whoever has not applied them begins anew.
ALTER TABLE head ADD COLUMN forgotten BIGINT NOT NULL DEFAULT 0;

-- What is over is found without looking through what is not.
CREATE INDEX secrets_superseded ON secrets (expires_at) WHERE expires_at < 9223372036854775807;
CREATE INDEX usage_by_day ON usage (day);
