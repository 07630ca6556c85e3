-- Who still uses the older secret of a rotated key. Rows go when its grace is over.
CREATE TABLE superseded_usage (
  organization_id BYTES NOT NULL,
  digest BYTES NOT NULL,
  address TEXT NOT NULL,
  calls BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, digest, address)
);
