-- One text for both databases: BYTES becomes BLOB or BYTEA. Integers are BIGINT; instants are microseconds since the Unix
-- epoch; lists are JSON text; ids are the sixteen bytes of a UUIDv7.

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- The one-row counter that makes revisions gapless: whoever writes holds this row until commit.
CREATE TABLE head (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL);
INSERT INTO head (id, revision) VALUES (1, 0);

CREATE TABLE changes (
  revision BIGINT PRIMARY KEY,
  organization_id BYTES NOT NULL,
  entity TEXT NOT NULL,
  entity_id BYTES NOT NULL,
  at BIGINT NOT NULL
);

CREATE TABLE organizations (
  id BYTES PRIMARY KEY,
  name TEXT NOT NULL,
  max_ttl_days BIGINT,
  require_expiry BIGINT NOT NULL DEFAULT 0,
  suspended BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL
);

CREATE TABLE users (
  id BYTES PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL
);

CREATE TABLE members (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  user_id BYTES NOT NULL REFERENCES users (id),
  role TEXT NOT NULL,
  joined_at BIGINT NOT NULL,
  UNIQUE (organization_id, user_id)
);
CREATE INDEX members_of_user ON members (user_id);

CREATE TABLE invites (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  email TEXT NOT NULL,
  role TEXT NOT NULL,
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  closed_at BIGINT
);
CREATE INDEX invites_of_organization ON invites (organization_id);

CREATE TABLE sessions (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  user_id BYTES NOT NULL REFERENCES users (id),
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  created_at BIGINT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  ended_at BIGINT,
  address TEXT NOT NULL,
  user_agent TEXT NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (user_id);

CREATE TABLE secret_keys (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  name TEXT NOT NULL,
  environment TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by BYTES NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  last_used_at BIGINT,
  last_used_address TEXT,
  last_used_operation TEXT,
  rate_limit_rpm BIGINT,
  allowed_addresses TEXT NOT NULL
);
CREATE INDEX secret_keys_of_organization ON secret_keys (organization_id, id);

-- The secrets of keys. The newest of a key is its current one; an older one lives while its grace runs.
CREATE TABLE secrets (
  digest BYTES PRIMARY KEY,
  pepper_id BYTES NOT NULL,
  organization_id BYTES NOT NULL,
  key_id BYTES NOT NULL,
  sequence BIGINT NOT NULL,
  last4 TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  UNIQUE (key_id, sequence)
);

CREATE TABLE audit_events (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  sequence BIGINT NOT NULL,
  id BYTES NOT NULL,
  at BIGINT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id TEXT NOT NULL,
  actor_name TEXT NOT NULL,
  action TEXT NOT NULL,
  target_kind TEXT NOT NULL,
  target_id TEXT NOT NULL,
  target_name TEXT NOT NULL,
  details TEXT NOT NULL,
  address TEXT NOT NULL,
  hash BYTES NOT NULL,
  PRIMARY KEY (organization_id, sequence)
);

CREATE TABLE usage (
  organization_id BYTES NOT NULL,
  key_id BYTES NOT NULL,
  day TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  calls BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, key_id, day, operation_id, outcome)
);

CREATE TABLE idempotency (
  organization_id BYTES NOT NULL,
  actor TEXT NOT NULL,
  digest BYTES NOT NULL,
  operation TEXT NOT NULL,
  request BYTES NOT NULL,
  answer BYTES NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, actor, digest)
);
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
