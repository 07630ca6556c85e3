-- What a conversation is about so far, so that nothing is read again to say it.
ALTER TABLE conversations ADD COLUMN gist TEXT;

-- What each account holds: the sum of its entries, moved with each of them.
CREATE TABLE ledger_balances (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  account TEXT NOT NULL,
  credits BIGINT NOT NULL,
  PRIMARY KEY (organization_id, environment, account)
);
INSERT INTO ledger_balances (organization_id, environment, account, credits)
  SELECT organization_id, environment, account, SUM(credits) FROM ledger_entries GROUP BY organization_id, environment, account;

-- Messages of a period of a wallet that were answered; the period goes by its first instant.
CREATE TABLE message_counts (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  period_from BIGINT NOT NULL,
  messages BIGINT NOT NULL,
  PRIMARY KEY (organization_id, environment, period_from)
);

-- Keys that may work, at least as many as do: those that expired are taken out when the number comes to its limit.
ALTER TABLE organizations ADD COLUMN keys BIGINT NOT NULL DEFAULT 0;
UPDATE organizations SET keys = (SELECT COUNT(*) FROM secret_keys k WHERE k.organization_id = organizations.id AND k.revoked_at IS NULL);
CREATE INDEX secret_keys_working ON secret_keys (organization_id, expires_at) WHERE revoked_at IS NULL;

-- Sessions that nobody ended: what sign-in, removal and a new password look through.
DROP INDEX sessions_of_user;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_of_member ON sessions (organization_id, user_id, last_seen_at);
