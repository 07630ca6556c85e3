-- Secret keys in the order in which they expire, without sorting all of them.
CREATE INDEX secret_keys_by_expiry ON secret_keys (organization_id, expires_at, id);
