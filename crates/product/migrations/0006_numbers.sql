-- Telephone numbers. A row is written before the carrier is asked, so that what a crash cuts short is finished after it.

CREATE TABLE numbers (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  e164 TEXT NOT NULL,
  provider TEXT NOT NULL,
  carrier_id TEXT,
  imported BIGINT NOT NULL,
  status TEXT NOT NULL,
  agent_id BYTES REFERENCES agents (id),
  setup_cost BIGINT NOT NULL,
  monthly_cost BIGINT NOT NULL,
  -- The Idempotency-Key of the purchase, for a client that repeats what a crash left without an answer.
  claim_actor TEXT,
  claim_digest BYTES,
  claim_request BYTES,
  claim_expires_at BIGINT,
  months BIGINT NOT NULL,
  rent_at BIGINT,
  try_at BIGINT,
  created_at BIGINT NOT NULL,
  ended_at BIGINT
);
-- A number is one organization's at a time.
CREATE UNIQUE INDEX numbers_once ON numbers (environment, e164) WHERE ended_at IS NULL;
CREATE INDEX numbers_of_organization ON numbers (organization_id, environment, id);
CREATE INDEX numbers_to_try ON numbers (try_at) WHERE try_at IS NOT NULL;
CREATE INDEX numbers_to_pay ON numbers (rent_at) WHERE rent_at IS NOT NULL;

CREATE TABLE number_holds (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  e164 TEXT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX number_holds_once ON number_holds (environment, e164);
