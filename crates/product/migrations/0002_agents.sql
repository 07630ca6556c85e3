-- Agents with their drafts and published versions, and what is said to them.

CREATE TABLE agents (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  name TEXT NOT NULL,
  version BIGINT NOT NULL,
  draft TEXT NOT NULL,
  published_version_id BYTES,
  created_by_id TEXT NOT NULL,
  created_by_name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  deleted_at BIGINT
);
CREATE INDEX agents_of_organization ON agents (organization_id, id);

CREATE TABLE agent_versions (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  version BIGINT NOT NULL,
  config TEXT NOT NULL,
  note TEXT,
  published_by_id TEXT NOT NULL,
  published_by_name TEXT NOT NULL,
  published_at BIGINT NOT NULL
);
CREATE INDEX agent_versions_of_agent ON agent_versions (organization_id, agent_id, id);

CREATE TABLE widgets (
  agent_id BYTES PRIMARY KEY REFERENCES agents (id),
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  theme TEXT NOT NULL,
  copy TEXT NOT NULL,
  behavior TEXT NOT NULL
);

CREATE TABLE conversations (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  environment TEXT NOT NULL,
  visitor_subject TEXT,
  started_at BIGINT NOT NULL
);
CREATE INDEX conversations_of_organization ON conversations (organization_id, id);

CREATE TABLE messages (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  conversation_id BYTES NOT NULL REFERENCES conversations (id),
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX messages_of_conversation ON messages (organization_id, conversation_id, id);
