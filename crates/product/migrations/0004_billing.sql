-- Money, in credits: one is one US cent. A transaction is two or more entries that add up to nothing; what an account holds is
-- the sum of its entries and stands nowhere else. What test credentials do stays among test rows.

CREATE TABLE ledger_transactions (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  reference TEXT NOT NULL,
  kind TEXT NOT NULL,
  quantity BIGINT NOT NULL,
  description TEXT NOT NULL,
  agent_id BYTES,
  at BIGINT NOT NULL
);
-- The same act is booked once, however often it is reported.
CREATE UNIQUE INDEX ledger_transactions_once ON ledger_transactions (organization_id, reference);
CREATE INDEX ledger_transactions_newest ON ledger_transactions (organization_id, environment, id);
CREATE INDEX ledger_transactions_by_kind ON ledger_transactions (organization_id, environment, kind, at);

CREATE TABLE ledger_entries (
  transaction_id BYTES NOT NULL REFERENCES ledger_transactions (id),
  account TEXT NOT NULL,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  credits BIGINT NOT NULL,
  PRIMARY KEY (transaction_id, account)
);
CREATE INDEX ledger_entries_of_account ON ledger_entries (organization_id, environment, account, credits);

-- What an organization chose; its balance is in the ledger. `movements` is written by whoever debits, which makes debits of one
-- wallet wait for one another.
CREATE TABLE wallets (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  movements BIGINT NOT NULL,
  plan TEXT NOT NULL,
  next_plan TEXT,
  plan_since BIGINT,
  plan_periods BIGINT NOT NULL,
  plan_until BIGINT,
  auto_reload BIGINT NOT NULL,
  auto_reload_threshold BIGINT,
  auto_reload_amount BIGINT,
  customer TEXT,
  payment_method TEXT,
  PRIMARY KEY (organization_id, environment)
);
CREATE INDEX wallets_due ON wallets (plan_until) WHERE plan_until IS NOT NULL;

CREATE TABLE top_ups (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  credits BIGINT NOT NULL,
  automatic BIGINT NOT NULL,
  status TEXT NOT NULL,
  provider TEXT NOT NULL,
  intent TEXT,
  try_at BIGINT,
  created_at BIGINT NOT NULL
);
CREATE INDEX top_ups_to_try ON top_ups (try_at) WHERE try_at IS NOT NULL;
CREATE INDEX top_ups_of_organization ON top_ups (organization_id, environment, status);
-- One automatic payment of a wallet at a time.
CREATE UNIQUE INDEX top_ups_automatic_once ON top_ups (organization_id, environment) WHERE automatic = 1 AND status IN ('open', 'pending');
