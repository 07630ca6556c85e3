-- What a publishable key is pinned to and what a visitor talks in belong to guests: the plane keeps their ids, and refers to no table of
-- theirs. Neither database drops a reference in the same words, so the two tables are made anew.
CREATE TABLE pinned_keys (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  resource_id BYTES NOT NULL,
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
INSERT INTO pinned_keys (id, organization_id, resource_id, name, environment, key_public, allowed_origins, rate_limit_rpm,
    require_identity, identity_secret, identity_pepper_id, created_at, revoked_at, last_used_at)
  SELECT id, organization_id, agent_id, name, environment, key_public, allowed_origins, rate_limit_rpm, require_identity,
    identity_secret, identity_pepper_id, created_at, revoked_at, last_used_at FROM publishable_keys;

CREATE TABLE visitor_sessions (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  key_id BYTES NOT NULL REFERENCES pinned_keys (id),
  context_id BYTES NOT NULL,
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  origin TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  verified BIGINT NOT NULL DEFAULT 0
);
INSERT INTO visitor_sessions (id, organization_id, key_id, context_id, digest, pepper_id, origin, created_at, last_seen_at, expires_at,
    verified)
  SELECT id, organization_id, key_id, conversation_id, digest, pepper_id, origin, created_at, last_seen_at, expires_at, verified
  FROM visitors;

DROP TABLE visitors;
DROP TABLE publishable_keys;
ALTER TABLE pinned_keys RENAME TO publishable_keys;
ALTER TABLE visitor_sessions RENAME TO visitors;
CREATE INDEX publishable_keys_of_resource ON publishable_keys (organization_id, resource_id, id);
CREATE INDEX visitors_of_key ON visitors (organization_id, key_id);
CREATE INDEX visitors_by_use ON visitors (last_seen_at);
