-- What a conversation came to, what happened in it, and what can be found of it.

ALTER TABLE conversations ADD COLUMN channel TEXT NOT NULL DEFAULT 'chat';
-- How it was opened, and so who may go on with it: widget, session, talk.
ALTER TABLE conversations ADD COLUMN via TEXT NOT NULL DEFAULT 'widget';
ALTER TABLE conversations ADD COLUMN language TEXT;
ALTER TABLE conversations ADD COLUMN last_at BIGINT NOT NULL DEFAULT 0;
-- How the last turn stands, which says what the outcome is once nobody goes on.
ALTER TABLE conversations ADD COLUMN standing TEXT NOT NULL DEFAULT 'silent';
ALTER TABLE conversations ADD COLUMN ended_at BIGINT;
ALTER TABLE conversations ADD COLUMN outcome TEXT;
-- Ended by its caller, so that it can't go on.
ALTER TABLE conversations ADD COLUMN closed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN events BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN user_turns BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN agent_turns BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN valence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN frustration BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN sentiment TEXT;
ALTER TABLE conversations ADD COLUMN summary TEXT;
ALTER TABLE conversations ADD COLUMN topic TEXT;

ALTER TABLE messages ADD COLUMN language TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN sources TEXT NOT NULL DEFAULT '[]';
-- Of an answer: whether the agent did not know, and how long it took.
ALTER TABLE messages ADD COLUMN unknown BIGINT NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN latency_ms BIGINT;

UPDATE conversations SET
  user_turns = (SELECT COUNT(*) FROM messages m WHERE m.conversation_id = conversations.id AND m.role = 'user'),
  agent_turns = (SELECT COUNT(*) FROM messages m WHERE m.conversation_id = conversations.id AND m.role = 'assistant'),
  last_at = COALESCE((SELECT MAX(at) FROM messages m WHERE m.conversation_id = conversations.id), started_at);
UPDATE conversations SET standing = 'answered' WHERE agent_turns > 0;

CREATE INDEX conversations_of_agent ON conversations (organization_id, agent_id, started_at);
CREATE INDEX conversations_by_start ON conversations (organization_id, started_at);
CREATE INDEX conversations_idle ON conversations (last_at) WHERE ended_at IS NULL;

CREATE TABLE conversation_events (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  conversation_id BYTES NOT NULL REFERENCES conversations (id),
  sequence BIGINT NOT NULL,
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, conversation_id, sequence)
);

-- Every word of a conversation, once: what a search looks up.
CREATE TABLE conversation_words (
  organization_id BYTES NOT NULL,
  word TEXT NOT NULL,
  conversation_id BYTES NOT NULL,
  PRIMARY KEY (organization_id, word, conversation_id)
);

-- Questions that an agent could not answer, one row for each way of asking that comes down to the same words.
CREATE TABLE knowledge_gaps (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  question TEXT NOT NULL,
  query_text TEXT NOT NULL,
  status TEXT NOT NULL,
  top_score BIGINT,
  first_at BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  UNIQUE (organization_id, agent_id, question)
);
CREATE TABLE knowledge_gap_hits (
  gap_id BYTES NOT NULL REFERENCES knowledge_gaps (id),
  organization_id BYTES NOT NULL,
  conversation_id BYTES NOT NULL REFERENCES conversations (id),
  hits BIGINT NOT NULL,
  PRIMARY KEY (gap_id, conversation_id)
);

-- One-time tokens that open a conversation over a WebSocket. The row goes with the connection that it opens.
CREATE TABLE talk_tokens (
  digest BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  conversation_id BYTES NOT NULL,
  draft BIGINT NOT NULL,
  environment TEXT NOT NULL,
  minted_by BYTES NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX talk_tokens_by_expiry ON talk_tokens (expires_at);
