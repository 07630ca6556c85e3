-- The database looks for the passages of a source that goes by the source alone.
CREATE INDEX passages_by_source ON passages (source_id);
-- What is being read, so that the next reading is another organization's.
CREATE INDEX knowledge_sources_leased ON knowledge_sources (leased_until);
CREATE INDEX uploads_of_organization ON uploads (organization_id);

CREATE INDEX number_holds_of_organization ON number_holds (organization_id, environment);
CREATE INDEX number_holds_over ON number_holds (expires_at);

-- When a plan is tried next: at the end of its month, and later where the wallet did not cover it.
ALTER TABLE wallets ADD COLUMN plan_try_at BIGINT;
UPDATE wallets SET plan_try_at = plan_until;
DROP INDEX wallets_due;
CREATE INDEX wallets_due ON wallets (plan_try_at) WHERE plan_try_at IS NOT NULL;

-- Who pays an automatic payment, and with what, as it was when it began. The provider's name was never read.
ALTER TABLE top_ups ADD COLUMN customer TEXT;
ALTER TABLE top_ups ADD COLUMN payment_method TEXT;
ALTER TABLE top_ups DROP COLUMN provider;
