-- Who minted a publishable key: a person or a secret key. Keys from before have nobody here; their audit trail says it.
ALTER TABLE publishable_keys ADD COLUMN created_by_id TEXT;
ALTER TABLE publishable_keys ADD COLUMN created_by_name TEXT;
