-- Files in parts, each of which a transaction of its own writes and forgets, so that nobody waits for a long one. `size` is the
-- length of the whole file; `content` is empty but in files from before.
ALTER TABLE uploads ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
UPDATE uploads SET size = LENGTH(content);
CREATE TABLE upload_parts (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  upload_id BYTES NOT NULL,
  position BIGINT NOT NULL,
  content BYTES NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, upload_id, position)
);
CREATE INDEX upload_parts_by_age ON upload_parts (created_at);
