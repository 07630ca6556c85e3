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
