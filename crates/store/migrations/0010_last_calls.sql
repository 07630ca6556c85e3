-- The last call with each secret of a key, so that whoever rotated sees the new one arrive.
ALTER TABLE secrets ADD COLUMN last_call_at BIGINT;
ALTER TABLE secrets ADD COLUMN last_call_operation TEXT;
ALTER TABLE secrets ADD COLUMN last_call_outcome TEXT;
