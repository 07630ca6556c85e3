-- What agents answer from. Each change of an agent's passages moves its generation, by which a node sees that its index is old.

ALTER TABLE agents ADD COLUMN knowledge_generation BIGINT NOT NULL DEFAULT 0;

-- Files on their way into a source. Gone when the source has been read, or a day later.
CREATE TABLE uploads (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  filename TEXT NOT NULL,
  content_type TEXT NOT NULL,
  content BYTES NOT NULL,
  attached BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL
);
CREATE INDEX uploads_by_age ON uploads (attached, created_at);

-- A source is its own job: it is worked on when due_at has come and no lease on it runs.
CREATE TABLE knowledge_sources (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  kind TEXT NOT NULL,
  label TEXT NOT NULL,
  url TEXT,
  text TEXT,
  upload_id BYTES,
  status TEXT NOT NULL,
  error_message TEXT,
  progress_current BIGINT NOT NULL DEFAULT 0,
  progress_total BIGINT NOT NULL DEFAULT 0,
  -- Passages of this version are served; a later one is being written.
  version BIGINT NOT NULL DEFAULT 0,
  passages BIGINT NOT NULL DEFAULT 0,
  content_digest BYTES,
  refresh_enabled BIGINT NOT NULL DEFAULT 0,
  refresh_interval_s BIGINT NOT NULL,
  due_at BIGINT,
  leased_until BIGINT,
  -- Counts leases: whoever works under an earlier one has lost the source.
  lease BIGINT NOT NULL DEFAULT 0,
  attempts BIGINT NOT NULL DEFAULT 0,
  indexed_at BIGINT,
  checked_at BIGINT,
  changed_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX knowledge_sources_of_agent ON knowledge_sources (organization_id, agent_id, id);
CREATE INDEX knowledge_sources_by_due ON knowledge_sources (due_at);

CREATE TABLE passages (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  source_id BYTES NOT NULL REFERENCES knowledge_sources (id),
  version BIGINT NOT NULL,
  position BIGINT NOT NULL,
  heading TEXT NOT NULL,
  question TEXT,
  text TEXT NOT NULL,
  language TEXT NOT NULL
);
CREATE INDEX passages_of_source ON passages (organization_id, source_id, version, position);
CREATE INDEX passages_of_agent ON passages (organization_id, agent_id);
