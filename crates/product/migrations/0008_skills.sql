-- What agents can do besides talking.

CREATE TABLE skills (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  name TEXT NOT NULL,
  -- What the model and visitors call it by: the name in letters, digits and underscores.
  tool TEXT NOT NULL,
  description TEXT NOT NULL,
  skill_type TEXT NOT NULL,
  parameters_schema TEXT NOT NULL,
  required_params TEXT NOT NULL,
  execution_config TEXT NOT NULL,
  -- Header fields of a webhook, sealed under the pepper beside them.
  sealed_headers BYTES,
  headers_pepper_id BYTES,
  requires_confirmation BIGINT NOT NULL,
  is_enabled BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (organization_id, agent_id, tool)
);
