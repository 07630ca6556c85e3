-- Keys that may work, at least as many as do: those that expired are taken out when the number comes to its limit.
ALTER TABLE organizations ADD COLUMN keys BIGINT NOT NULL DEFAULT 0;
UPDATE organizations SET keys = (SELECT COUNT(*) FROM secret_keys k WHERE k.organization_id = organizations.id AND k.revoked_at IS NULL);
CREATE INDEX secret_keys_working ON secret_keys (organization_id, expires_at) WHERE revoked_at IS NULL;

-- Sessions that nobody ended: what sign-in, removal and a new password look through.
DROP INDEX sessions_of_user;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_of_member ON sessions (organization_id, user_id, last_seen_at);
