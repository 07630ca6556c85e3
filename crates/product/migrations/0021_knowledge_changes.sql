-- Which source each generation of an agent's passages changed, for the latest ones: whoever has an index reads only what is new. An index
-- from before the oldest one here is built anew.
CREATE TABLE knowledge_changes (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  generation BIGINT NOT NULL,
  source_id BYTES NOT NULL,
  PRIMARY KEY (organization_id, agent_id, generation)
);
