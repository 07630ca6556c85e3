-- Publishable keys, and the sessions of visitors that they open.

-- A publishable key is public, so its text is kept; it is found by its digest like every other credential.
CREATE TABLE publishable_keys (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL,
  name TEXT NOT NULL,
  environment TEXT NOT NULL,
  key_public TEXT NOT NULL,
  allowed_origins TEXT NOT NULL,
  rate_limit_rpm BIGINT,
  require_identity BIGINT NOT NULL,
  identity_secret BYTES,
  identity_pepper_id BYTES,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT,
  last_used_at BIGINT
);
CREATE INDEX publishable_keys_of_agent ON publishable_keys (organization_id, agent_id, id);

CREATE TABLE visitors (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  key_id BYTES NOT NULL REFERENCES publishable_keys (id),
  conversation_id BYTES NOT NULL,
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  origin TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX visitors_of_key ON visitors (organization_id, key_id);
