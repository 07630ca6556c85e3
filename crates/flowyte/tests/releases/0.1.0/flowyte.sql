-- What a server of release 0.1.0 keeps, written by that release and read from its SQLite file: its tables, and one organization that used
-- most of it. BYTES stands for the type of bytes, X'…' for bytes. It never changes; a test brings it up to date.

CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY);
-- One text for both databases: BYTES becomes BLOB or BYTEA. Integers are BIGINT; instants are microseconds since the Unix
-- epoch; lists are JSON text; ids are the sixteen bytes of a UUIDv7.

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- The one-row counter that makes revisions gapless: whoever writes holds this row until commit.
CREATE TABLE head (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL);
INSERT INTO head (id, revision) VALUES (1, 0);

CREATE TABLE changes (
  revision BIGINT PRIMARY KEY,
  organization_id BYTES NOT NULL,
  entity TEXT NOT NULL,
  entity_id BYTES NOT NULL,
  at BIGINT NOT NULL
);

CREATE TABLE organizations (
  id BYTES PRIMARY KEY,
  name TEXT NOT NULL,
  max_ttl_days BIGINT,
  require_expiry BIGINT NOT NULL DEFAULT 0,
  suspended BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL
);

CREATE TABLE users (
  id BYTES PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL
);

CREATE TABLE members (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  user_id BYTES NOT NULL REFERENCES users (id),
  role TEXT NOT NULL,
  joined_at BIGINT NOT NULL,
  UNIQUE (organization_id, user_id)
);
CREATE INDEX members_of_user ON members (user_id);

CREATE TABLE invites (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  email TEXT NOT NULL,
  role TEXT NOT NULL,
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  closed_at BIGINT
);
CREATE INDEX invites_of_organization ON invites (organization_id);

CREATE TABLE sessions (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  user_id BYTES NOT NULL REFERENCES users (id),
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  created_at BIGINT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  ended_at BIGINT,
  address TEXT NOT NULL,
  user_agent TEXT NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (user_id);

CREATE TABLE secret_keys (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  name TEXT NOT NULL,
  environment TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by BYTES NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  last_used_at BIGINT,
  last_used_address TEXT,
  last_used_operation TEXT,
  rate_limit_rpm BIGINT,
  allowed_addresses TEXT NOT NULL
);
CREATE INDEX secret_keys_of_organization ON secret_keys (organization_id, id);

-- The secrets of keys. The newest of a key is its current one; an older one lives while its grace runs.
CREATE TABLE secrets (
  digest BYTES PRIMARY KEY,
  pepper_id BYTES NOT NULL,
  organization_id BYTES NOT NULL,
  key_id BYTES NOT NULL,
  sequence BIGINT NOT NULL,
  last4 TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  UNIQUE (key_id, sequence)
);

CREATE TABLE audit_events (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  sequence BIGINT NOT NULL,
  id BYTES NOT NULL,
  at BIGINT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id TEXT NOT NULL,
  actor_name TEXT NOT NULL,
  action TEXT NOT NULL,
  target_kind TEXT NOT NULL,
  target_id TEXT NOT NULL,
  target_name TEXT NOT NULL,
  details TEXT NOT NULL,
  address TEXT NOT NULL,
  hash BYTES NOT NULL,
  PRIMARY KEY (organization_id, sequence)
);

CREATE TABLE usage (
  organization_id BYTES NOT NULL,
  key_id BYTES NOT NULL,
  day TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  calls BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, key_id, day, operation_id, outcome)
);

CREATE TABLE idempotency (
  organization_id BYTES NOT NULL,
  actor TEXT NOT NULL,
  digest BYTES NOT NULL,
  operation TEXT NOT NULL,
  request BYTES NOT NULL,
  answer BYTES NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, actor, digest)
);
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

-- Agents with their drafts and published versions, the publishable keys pinned to them, and who talks to them.

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

-- A publishable key is public, so its text is kept; it is found by its digest like every other credential.
CREATE TABLE publishable_keys (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  agent_id BYTES NOT NULL REFERENCES agents (id),
  name TEXT NOT NULL,
  environment TEXT NOT NULL,
  key_public TEXT NOT NULL,
  allowed_origins TEXT NOT NULL,
  rate_limit_rpm BIGINT,
  require_identity BIGINT NOT NULL,
  identity_secret BYTES,
  identity_pepper_id BYTES,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT,
  last_used_at BIGINT
);
CREATE INDEX publishable_keys_of_agent ON publishable_keys (organization_id, agent_id, id);

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

CREATE TABLE visitors (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  key_id BYTES NOT NULL REFERENCES publishable_keys (id),
  conversation_id BYTES NOT NULL REFERENCES conversations (id),
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  origin TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX visitors_of_key ON visitors (organization_id, key_id);

-- Who still uses the older secret of a rotated key. Rows go when its grace is over.
CREATE TABLE superseded_usage (
  organization_id BYTES NOT NULL,
  digest BYTES NOT NULL,
  address TEXT NOT NULL,
  calls BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (organization_id, digest, address)
);

-- Money, in credits: one is one US cent. A transaction is two or more entries that add up to nothing; what an account holds is
-- the sum of its entries and stands nowhere else. What test credentials do stays among test rows.

CREATE TABLE ledger_transactions (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  reference TEXT NOT NULL,
  kind TEXT NOT NULL,
  quantity BIGINT NOT NULL,
  description TEXT NOT NULL,
  agent_id BYTES,
  at BIGINT NOT NULL
);
-- The same act is booked once, however often it is reported.
CREATE UNIQUE INDEX ledger_transactions_once ON ledger_transactions (organization_id, reference);
CREATE INDEX ledger_transactions_newest ON ledger_transactions (organization_id, environment, id);
CREATE INDEX ledger_transactions_by_kind ON ledger_transactions (organization_id, environment, kind, at);

CREATE TABLE ledger_entries (
  transaction_id BYTES NOT NULL REFERENCES ledger_transactions (id),
  account TEXT NOT NULL,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  credits BIGINT NOT NULL,
  PRIMARY KEY (transaction_id, account)
);
CREATE INDEX ledger_entries_of_account ON ledger_entries (organization_id, environment, account, credits);

-- What an organization chose; its balance is in the ledger. `movements` is written by whoever debits, which makes debits of one
-- wallet wait for one another.
CREATE TABLE wallets (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  movements BIGINT NOT NULL,
  plan TEXT NOT NULL,
  next_plan TEXT,
  plan_since BIGINT,
  plan_periods BIGINT NOT NULL,
  plan_until BIGINT,
  auto_reload BIGINT NOT NULL,
  auto_reload_threshold BIGINT,
  auto_reload_amount BIGINT,
  customer TEXT,
  payment_method TEXT,
  PRIMARY KEY (organization_id, environment)
);
CREATE INDEX wallets_due ON wallets (plan_until) WHERE plan_until IS NOT NULL;

CREATE TABLE top_ups (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  credits BIGINT NOT NULL,
  automatic BIGINT NOT NULL,
  status TEXT NOT NULL,
  provider TEXT NOT NULL,
  intent TEXT,
  try_at BIGINT,
  created_at BIGINT NOT NULL
);
CREATE INDEX top_ups_to_try ON top_ups (try_at) WHERE try_at IS NOT NULL;
CREATE INDEX top_ups_of_organization ON top_ups (organization_id, environment, status);
-- One automatic payment of a wallet at a time.
CREATE UNIQUE INDEX top_ups_automatic_once ON top_ups (organization_id, environment) WHERE automatic = 1 AND status IN ('open', 'pending');

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

-- Telephone numbers. A row is written before the carrier is asked, so that what a crash cuts short is finished after it.

CREATE TABLE numbers (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  e164 TEXT NOT NULL,
  provider TEXT NOT NULL,
  carrier_id TEXT,
  imported BIGINT NOT NULL,
  status TEXT NOT NULL,
  agent_id BYTES REFERENCES agents (id),
  setup_cost BIGINT NOT NULL,
  monthly_cost BIGINT NOT NULL,
  -- The Idempotency-Key of the purchase, for a client that repeats what a crash left without an answer.
  claim_actor TEXT,
  claim_digest BYTES,
  claim_request BYTES,
  claim_expires_at BIGINT,
  months BIGINT NOT NULL,
  rent_at BIGINT,
  try_at BIGINT,
  created_at BIGINT NOT NULL,
  ended_at BIGINT
);
-- A number is one organization's at a time.
CREATE UNIQUE INDEX numbers_once ON numbers (environment, e164) WHERE ended_at IS NULL;
CREATE INDEX numbers_of_organization ON numbers (organization_id, environment, id);
CREATE INDEX numbers_to_try ON numbers (try_at) WHERE try_at IS NOT NULL;
CREATE INDEX numbers_to_pay ON numbers (rent_at) WHERE rent_at IS NOT NULL;

CREATE TABLE number_holds (
  id BYTES PRIMARY KEY,
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  e164 TEXT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX number_holds_once ON number_holds (environment, e164);

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

-- The database looks for the passages of a source that goes by the source alone.
CREATE INDEX passages_by_source ON passages (source_id);
-- What is being read, so that the next reading is another organization's.
CREATE INDEX knowledge_sources_leased ON knowledge_sources (leased_until);
CREATE INDEX uploads_of_organization ON uploads (organization_id);

CREATE INDEX number_holds_of_organization ON number_holds (organization_id, environment);
CREATE INDEX number_holds_over ON number_holds (expires_at);

-- When a plan is tried next: at the end of its month, and later where the wallet did not cover it.
ALTER TABLE wallets ADD COLUMN plan_try_at BIGINT;
UPDATE wallets SET plan_try_at = plan_until;
DROP INDEX wallets_due;
CREATE INDEX wallets_due ON wallets (plan_try_at) WHERE plan_try_at IS NOT NULL;

-- Who pays an automatic payment, and with what, as it was when it began. The provider's name was never read.
ALTER TABLE top_ups ADD COLUMN customer TEXT;
ALTER TABLE top_ups ADD COLUMN payment_method TEXT;
ALTER TABLE top_ups DROP COLUMN provider;

-- The last call with each secret of a key, so that whoever rotated sees the new one arrive.
ALTER TABLE secrets ADD COLUMN last_call_at BIGINT;
ALTER TABLE secrets ADD COLUMN last_call_operation TEXT;
ALTER TABLE secrets ADD COLUMN last_call_outcome TEXT;

-- What the request for a talk token was permitted by, so that its conversation is asked for again while it lasts. Tokens live a minute.
DELETE FROM talk_tokens;
ALTER TABLE talk_tokens ADD COLUMN asked TEXT NOT NULL DEFAULT '';

-- How many of a conversation's questions the agent could not answer: what every count of them is made from.
ALTER TABLE conversations ADD COLUMN unanswered BIGINT NOT NULL DEFAULT 0;
UPDATE conversations SET unanswered = (SELECT COUNT(*) FROM messages
  WHERE messages.organization_id = conversations.organization_id AND messages.conversation_id = conversations.id AND messages.unknown = 1);
-- Gaps of both environments, each seen in its own. Before, what tests asked was not noted.
ALTER TABLE knowledge_gap_hits ADD COLUMN environment TEXT NOT NULL DEFAULT 'live';

-- Visitors' sessions are forgotten when nobody has used them for a while.
CREATE INDEX visitors_by_use ON visitors (last_seen_at);

-- What a conversation is about so far, so that nothing is read again to say it.
ALTER TABLE conversations ADD COLUMN gist TEXT;

-- What each account holds: the sum of its entries, moved with each of them.
CREATE TABLE ledger_balances (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  account TEXT NOT NULL,
  credits BIGINT NOT NULL,
  PRIMARY KEY (organization_id, environment, account)
);
INSERT INTO ledger_balances (organization_id, environment, account, credits)
  SELECT organization_id, environment, account, SUM(credits) FROM ledger_entries GROUP BY organization_id, environment, account;

-- Messages of a period of a wallet that were answered; the period goes by its first instant.
CREATE TABLE message_counts (
  organization_id BYTES NOT NULL REFERENCES organizations (id),
  environment TEXT NOT NULL,
  period_from BIGINT NOT NULL,
  messages BIGINT NOT NULL,
  PRIMARY KEY (organization_id, environment, period_from)
);

-- Keys that may work, at least as many as do: those that expired are taken out when the number comes to its limit.
ALTER TABLE organizations ADD COLUMN keys BIGINT NOT NULL DEFAULT 0;
UPDATE organizations SET keys = (SELECT COUNT(*) FROM secret_keys k WHERE k.organization_id = organizations.id AND k.revoked_at IS NULL);
CREATE INDEX secret_keys_working ON secret_keys (organization_id, expires_at) WHERE revoked_at IS NULL;

-- Sessions that nobody ended: what sign-in, removal and a new password look through.
DROP INDEX sessions_of_user;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_of_member ON sessions (organization_id, user_id, last_seen_at);

-- The latest instant that the server has seen: time does not go back behind it, whatever the clock says.
ALTER TABLE head ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;

-- Secret keys in the order in which they expire, without sorting all of them.
CREATE INDEX secret_keys_by_expiry ON secret_keys (organization_id, expires_at, id);

-- An invite stands only while whoever made it could make it. Of those that are open nobody wrote down who that was, so they
-- end, and are made again where they are still wanted.
ALTER TABLE invites ADD COLUMN invited_by BYTES REFERENCES users (id);
UPDATE invites SET closed_at = created_at WHERE closed_at IS NULL;
CREATE INDEX invites_of_maker ON invites (organization_id, invited_by);

-- Whether a visitor had proved who they are when the session was opened: a key that asks for that ends the others.
ALTER TABLE visitors ADD COLUMN verified BIGINT NOT NULL DEFAULT 0;
UPDATE visitors SET verified = 1
WHERE conversation_id IN (SELECT id FROM conversations WHERE visitor_subject IS NOT NULL);

-- An address may have several accounts, each with its own password: nobody holds an address by having come first. SQLite can't
-- drop a unique column, so the old one stays under another name: the address of earlier accounts, the id of later ones.
ALTER TABLE users RENAME COLUMN email TO handle;
ALTER TABLE users ADD COLUMN email TEXT NOT NULL DEFAULT '';
UPDATE users SET email = handle;
CREATE INDEX users_by_password ON users (email, password_hash);

-- One-time links that set a new password. A new one replaces the one before; used or over, the row goes.
CREATE TABLE recoveries (
  user_id BYTES PRIMARY KEY REFERENCES users (id),
  digest BYTES NOT NULL UNIQUE,
  pepper_id BYTES NOT NULL,
  -- The owner who made it, and where; the operator where there is none.
  organization_id BYTES REFERENCES organizations (id),
  made_by BYTES REFERENCES users (id),
  expires_at BIGINT NOT NULL
);
CREATE INDEX recoveries_by_expiry ON recoveries (expires_at);

-- Who founded an organization. Of earlier ones that is the owner who came first.
ALTER TABLE organizations ADD COLUMN founded_by BYTES REFERENCES users (id);
UPDATE organizations SET founded_by = (
  SELECT m.user_id FROM members m WHERE m.organization_id = organizations.id AND m.role = 'owner' ORDER BY m.joined_at, m.id LIMIT 1
);
CREATE INDEX organizations_of_founder ON organizations (founded_by);

INSERT INTO migrations (version) VALUES (1);
INSERT INTO migrations (version) VALUES (2);
INSERT INTO migrations (version) VALUES (3);
INSERT INTO migrations (version) VALUES (4);
INSERT INTO migrations (version) VALUES (5);
INSERT INTO migrations (version) VALUES (6);
INSERT INTO migrations (version) VALUES (7);
INSERT INTO migrations (version) VALUES (8);
INSERT INTO migrations (version) VALUES (9);
INSERT INTO migrations (version) VALUES (10);
INSERT INTO migrations (version) VALUES (11);
INSERT INTO migrations (version) VALUES (12);
INSERT INTO migrations (version) VALUES (13);
INSERT INTO migrations (version) VALUES (14);
INSERT INTO migrations (version) VALUES (15);
INSERT INTO migrations (version) VALUES (16);
INSERT INTO migrations (version) VALUES (17);
INSERT INTO migrations (version) VALUES (18);
INSERT INTO migrations (version) VALUES (19);
DELETE FROM head;
INSERT INTO head (id, revision, seen_at) VALUES (1, 15, 1795912241522541);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (1, X'01a2248899157a5fafe2a958807fe10c', 'organization', X'01a2248899157a5fafe2a958807fe10c', 1795909261589130);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (2, X'01a2248899157a5fafe2a958807fe10c', 'member', X'01a2248899157a4c8fa1c7caddcdee6a', 1795909261589130);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (3, X'01a2248899157a5fafe2a958807fe10c', 'session', X'01a2248899157148b2b6acb5134c936a', 1795909261589130);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (4, X'01a2248899157a5fafe2a958807fe10c', 'secret_key', X'01a2248899807863aac763c3320a6e0e', 1795909261696390);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (5, X'01a2248899157a5fafe2a958807fe10c', 'secret_key', X'01a224889b9a7d33b93048723a43aa3b', 1795909262234045);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (6, X'01a2248899157a5fafe2a958807fe10c', 'secret_key', X'01a224889b9a7d33b93048723a43aa3b', 1795909262726189);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (7, X'01a2248899157a5fafe2a958807fe10c', 'publishable_key', X'01a22488aa6075588be192d061c33524', 1795909266016739);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (8, X'01a2248899157a5fafe2a958807fe10c', 'visitor', X'01a22488abbd74c58d17db7745c527d3', 1795909266365000);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (9, X'01a2248899157a5fafe2a958807fe10c', 'session', X'01a224a91a99796f86482b8ce34893b5', 1795911391897624);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (10, X'01a2248899157a5fafe2a958807fe10c', 'secret_key', X'01a224a91bf67fa8a272f4e3724a78b8', 1795911392246045);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (11, X'01a2248899157a5fafe2a958807fe10c', 'publishable_key', X'01a224a91d377523bb1538941d890dd9', 1795911392567700);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (12, X'01a2248899157a5fafe2a958807fe10c', 'publishable_key', X'01a224a91d377523bb1538941d890dd9', 1795911393112411);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (13, X'01a2248899157a5fafe2a958807fe10c', 'member', X'01a224a9205c784f87a16a2769cf2336', 1795911393372621);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (14, X'01a2248899157a5fafe2a958807fe10c', 'session', X'01a224a9205c76d281537dae38bba3bb', 1795911393372621);
INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES (15, X'01a2248899157a5fafe2a958807fe10c', 'visitor', X'01a224b5f58d7c98b92690542c5264c7', 1795912234381568);
INSERT INTO organizations (id, name, max_ttl_days, require_expiry, suspended, created_at, keys, founded_by) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'Example', NULL, 0, 0, 1795909261589130, 2, X'01a2248899157a4c8fa1c7caddcdee6a');
INSERT INTO users (id, handle, name, password_hash, disabled, created_at, email) VALUES (X'01a2248899157a4c8fa1c7caddcdee6a', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', '$argon2id$v=19$m=19456,t=2,p=1$EDBdaNAkcfoSW14skFCCCA$KKNpkXrZVXs5R1ae8L0graPrGv1rvuiYbRmQ6GvydgA', 0, 1795909261589130, 'ada@example.com');
INSERT INTO users (id, handle, name, password_hash, disabled, created_at, email) VALUES (X'01a224a9205c784f87a16a2769cf2336', 'user_01a224a9205c784f87a16a2769cf2336', 'Grace', '$argon2id$v=19$m=19456,t=2,p=1$XkJLEUkcJ66qAy97hRx+gg$s9N18piFkbtXwgLsMFiMI4ULgRcJNGZTUusWUJlz73g', 0, 1795911393372621, 'grace@example.com');
INSERT INTO members (id, organization_id, user_id, role, joined_at) VALUES (X'01a2248899157a86ac03ce87894e89f1', X'01a2248899157a5fafe2a958807fe10c', X'01a2248899157a4c8fa1c7caddcdee6a', 'owner', 1795909261589130);
INSERT INTO members (id, organization_id, user_id, role, joined_at) VALUES (X'01a224a9205c7c06ad172f1cb97f1ac1', X'01a2248899157a5fafe2a958807fe10c', X'01a224a9205c784f87a16a2769cf2336', 'developer', 1795911393372621);
INSERT INTO invites (id, organization_id, email, role, digest, pepper_id, created_at, expires_at, closed_at, invited_by) VALUES (X'01a224a91f8b744cbec000daf97cc4b6', X'01a2248899157a5fafe2a958807fe10c', 'grace@example.com', 'developer', X'8dc9665edfbf512a01e127c19f95fbfe5e329779634f3d4aad8e7bad91c8c334', X'1cb97f675fe56457', 1795911393163777, 1796516193163777, 1795911393372621, X'01a2248899157a4c8fa1c7caddcdee6a');
INSERT INTO invites (id, organization_id, email, role, digest, pepper_id, created_at, expires_at, closed_at, invited_by) VALUES (X'01a224a9223b76efb552c03afcc201ae', X'01a2248899157a5fafe2a958807fe10c', 'waiting@example.com', 'viewer', X'b0ee5956a72d7cd09aea5aa3d41cda3b2da041d0cf291d2da2c2037d4ad04943', X'1cb97f675fe56457', 1795911393851908, 1796516193851908, NULL, X'01a2248899157a4c8fa1c7caddcdee6a');
INSERT INTO sessions (id, organization_id, user_id, digest, pepper_id, created_at, signed_in_at, last_seen_at, expires_at, ended_at, address, user_agent) VALUES (X'01a2248899157148b2b6acb5134c936a', X'01a2248899157a5fafe2a958807fe10c', X'01a2248899157a4c8fa1c7caddcdee6a', X'e8f9beca0ecc72f8d08b9ca6bf460e7bf24ad5f01d038f40c2200a43766c68da', X'1cb97f675fe56457', 1795909261589130, 1795909261589130, 1795909266020803, 1798501261589130, NULL, '127.0.0.1', 'curl/7.88.1');
INSERT INTO sessions (id, organization_id, user_id, digest, pepper_id, created_at, signed_in_at, last_seen_at, expires_at, ended_at, address, user_agent) VALUES (X'01a224a91a99796f86482b8ce34893b5', X'01a2248899157a5fafe2a958807fe10c', X'01a2248899157a4c8fa1c7caddcdee6a', X'23c043e691d2847be860c334c21d0bf45d601b4d7d62fe57a02207f98c9b1547', X'1cb97f675fe56457', 1795911391897624, 1795911391897624, 1795911394213318, 1798503391897624, NULL, '127.0.0.1', 'curl/7.88.1');
INSERT INTO sessions (id, organization_id, user_id, digest, pepper_id, created_at, signed_in_at, last_seen_at, expires_at, ended_at, address, user_agent) VALUES (X'01a224a9205c76d281537dae38bba3bb', X'01a2248899157a5fafe2a958807fe10c', X'01a224a9205c784f87a16a2769cf2336', X'784782fcd4667f7ffdd215e8af5fd161846ca69bff652ecaa254bba950e2e439', X'1cb97f675fe56457', 1795911393372621, 1795911393372621, 1795911393372621, 1798503393372621, NULL, '127.0.0.1', 'curl/7.88.1');
INSERT INTO secret_keys (id, organization_id, name, environment, scopes, created_at, created_by, expires_at, revoked_at, last_used_at, last_used_address, last_used_operation, rate_limit_rpm, allowed_addresses) VALUES (X'01a2248899807863aac763c3320a6e0e', X'01a2248899157a5fafe2a958807fe10c', 'first', 'live', '["agents:read"]', 1795909261696390, X'01a2248899157a4c8fa1c7caddcdee6a', 1803685261696390, NULL, 1795909266655381, '127.0.0.1', 'listAgents', NULL, '[]');
INSERT INTO secret_keys (id, organization_id, name, environment, scopes, created_at, created_by, expires_at, revoked_at, last_used_at, last_used_address, last_used_operation, rate_limit_rpm, allowed_addresses) VALUES (X'01a224889b9a7d33b93048723a43aa3b', X'01a2248899157a5fafe2a958807fe10c', 'gone', 'live', '["agents:read"]', 1795909262234045, X'01a2248899157a4c8fa1c7caddcdee6a', 1803685262234045, 1795909262726189, NULL, NULL, NULL, NULL, '[]');
INSERT INTO secret_keys (id, organization_id, name, environment, scopes, created_at, created_by, expires_at, revoked_at, last_used_at, last_used_address, last_used_operation, rate_limit_rpm, allowed_addresses) VALUES (X'01a224a91bf67fa8a272f4e3724a78b8', X'01a2248899157a5fafe2a958807fe10c', 'restricted', 'live', '["agents:read","agents:write"]', 1795911392246045, X'01a2248899157a4c8fa1c7caddcdee6a', 1803687392246045, NULL, NULL, NULL, NULL, 60, '["192.0.2.0/24"]');
INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at, last_call_at, last_call_operation, last_call_outcome) VALUES (X'8023902da85c4c1e28883d4f8fe52443bfa1a22ad269268528d74f4d47c74a45', X'1cb97f675fe56457', X'01a2248899157a5fafe2a958807fe10c', X'01a2248899807863aac763c3320a6e0e', 1, 'ZzHr', 1795909261696390, 9223372036854775807, 1795909266655381, 'listAgents', 'allowed');
INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at, last_call_at, last_call_operation, last_call_outcome) VALUES (X'71712ffa644cd1b209bea72211cc1d52fa021183fb7d5ab431f14960c0dc0482', X'1cb97f675fe56457', X'01a2248899157a5fafe2a958807fe10c', X'01a224889b9a7d33b93048723a43aa3b', 1, 'bNW4', 1795909262234045, 9223372036854775807, NULL, NULL, NULL);
INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at, last_call_at, last_call_operation, last_call_outcome) VALUES (X'4955eae94ac9d6c9fe218ac677b6f4dbe90b32639b2960ca8867aae53582167f', X'1cb97f675fe56457', X'01a2248899157a5fafe2a958807fe10c', X'01a22488aa6075588be192d061c33524', 1, 'QPgW', 1795909266016739, 9223372036854775807, NULL, NULL, NULL);
INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at, last_call_at, last_call_operation, last_call_outcome) VALUES (X'1ba3738e56e163c08ecd8e73b82917c64927cdac1c5ba9ea4c3a09e8fdb202b1', X'1cb97f675fe56457', X'01a2248899157a5fafe2a958807fe10c', X'01a224a91bf67fa8a272f4e3724a78b8', 1, 'qoat', 1795911392246045, 9223372036854775807, NULL, NULL, NULL);
INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at, last_call_at, last_call_operation, last_call_outcome) VALUES (X'd4bb8ada5a807795debf10619e790c1280a1a7b99cb97a7db169ff9052dfb688', X'1cb97f675fe56457', X'01a2248899157a5fafe2a958807fe10c', X'01a224a91d377523bb1538941d890dd9', 1, 'NcHW', 1795911392567700, 9223372036854775807, NULL, NULL, NULL);
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 1, X'01a2248899157638bf4a0b44beda99de', 1795909261589130, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'setup.completed', 'organization', 'org_01a2248899157a5fafe2a958807fe10c', 'Example', '{}', '127.0.0.1', X'56383f4a0b44beda99de8dcf888f6e99846532bde29ab705cd48c5038e95c9f8');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 2, X'01a2248899157945978a675b36aff18f', 1795909261589130, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'session.started', 'session', 'sess_01a2248899157148b2b6acb5134c936a', '', '{"userAgent":"curl/7.88.1"}', '127.0.0.1', X'9945d78a675b36aff18ff9d5434e0caaa094f657e25f502cba5ae220ac30bad8');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 3, X'01a2248899807a4b9da11842e517bdef', 1795909261696390, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'api_key.minted', 'api_key', 'key_01a2248899807863aac763c3320a6e0e', 'first', '{"scopes":["agents:read"],"env":"live"}', '127.0.0.1', X'9a4b1da11842e517bdef789c9c9308a323bee6742f5e382df9ebc629590b21e3');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 4, X'01a224889b9a73d3832d928ed3234cc5', 1795909262234045, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'api_key.minted', 'api_key', 'key_01a224889b9a7d33b93048723a43aa3b', 'gone', '{"scopes":["agents:read"],"env":"live"}', '127.0.0.1', X'23d3832d928ed3234cc57df4d88d3443d306ca919083d4647347461eccab7ca4');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 5, X'01a224889d867672bfa635c445561b2e', 1795909262726189, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'api_key.revoked', 'api_key', 'key_01a224889b9a7d33b93048723a43aa3b', 'gone', '{}', '127.0.0.1', X'4672bfa635c445561b2e818b0223a2d8e54415673986edf611dc6318b43515b7');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 6, X'01a224889d9e7ae7ab2966e149be0053', 1795909262750358, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'agent.created', 'agent', 'agent_01a224889d9e79c595acaacdd2817ed1', 'Front desk', '{}', '127.0.0.1', X'eae76b2966e149be00537e7d1345b2d4218beddaa40115fac761006960b74522');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 7, X'01a224889e8873a285c8026e87ce500c', 1795909262984848, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'knowledge_source.added', 'knowledge_source', 'source_01a224889e887cbca1f8ab476b245df2', 'Opening hours', '{"agentId":"agent_01a224889d9e79c595acaacdd2817ed1","kind":"text"}', '127.0.0.1', X'b3a205c8026e87ce500c8ace9c65984db3ac8e3ac378574220e9adbafc9d0d6f');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 8, X'01a22488aa517758b791c0187da8cea9', 1795909266001584, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'agent.published', 'agent', 'agent_01a224889d9e79c595acaacdd2817ed1', 'Front desk', '{"version":1,"versionId":"ver_01a22488aa517a2687278d37a78843df"}', '127.0.0.1', X'a758b791c0187da8cea9d91b70a4b5914f72a9b47c66e742e3798b1e0e17ba4f');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 9, X'01a22488aa607c9490662165e3c9dfad', 1795909266016739, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'publishable_key.minted', 'publishable_key', 'pubkey_01a22488aa6075588be192d061c33524', 'site', '{"agent":"agent_01a224889d9e79c595acaacdd2817ed1","allowedOrigins":["https://shop.example"]}', '127.0.0.1', X'6c9450662165e3c9dfad70af4e20fc47a07ced4d9ee66b342a40d336f9bd7905');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 10, X'01a224a91a99754dadf45b9ec5dbc863', 1795911391897624, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'session.started', 'session', 'sess_01a224a91a99796f86482b8ce34893b5', '', '{"userAgent":"curl/7.88.1"}', '127.0.0.1', X'254dadf45b9ec5dbc8638c2115eeb462534b60a9fb4ebab20a2c0f2f3a7172bf');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 11, X'01a224a91bf6710f82ec7bfb0e8db551', 1795911392246045, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'api_key.minted', 'api_key', 'key_01a224a91bf67fa8a272f4e3724a78b8', 'restricted', '{"scopes":["agents:read","agents:write"],"env":"live"}', '127.0.0.1', X'710f82ec7bfb0e8db551b9ca4328300a50ef9f47271d8228afdc5589dd29b2c5');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 12, X'01a224a91d37740eb5cfe7baa8bc79c5', 1795911392567700, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'publishable_key.minted', 'publishable_key', 'pubkey_01a224a91d377523bb1538941d890dd9', 'gone', '{"agent":"agent_01a224889d9e79c595acaacdd2817ed1","allowedOrigins":["https://shop.example"]}', '127.0.0.1', X'140ef5cfe7baa8bc79c5b70ade35481414b34485ad5aeb4f37bcd2351b7cd941');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 13, X'01a224a91f5871bc928656915d9247e0', 1795911393112411, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'publishable_key.revoked', 'publishable_key', 'pubkey_01a224a91d377523bb1538941d890dd9', 'gone', '{}', '127.0.0.1', X'c1bc928656915d9247e00a8136e33b2c33b0a350479a456e9ed3d6de5c11e4b6');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 14, X'01a224a91f8b754b9e1b28b810b1cebd', 1795911393163777, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'member.invited', 'invite', 'inv_01a224a91f8b744cbec000daf97cc4b6', 'grace@example.com', '{"role":"developer"}', '127.0.0.1', X'c54b1e1b28b810b1cebdc1164c050ed8edbd4cb7c7dc1a2d7cf8b75ebaa1e7da');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 15, X'01a224a9205c78c6978cd26826fb9d56', 1795911393372621, 'user', 'user_01a224a9205c784f87a16a2769cf2336', 'Grace', 'member.joined', 'member', 'mem_01a224a9205c7c06ad172f1cb97f1ac1', 'Grace', '{"role":"developer","invite":"inv_01a224a91f8b744cbec000daf97cc4b6"}', '127.0.0.1', X'f8c6978cd26826fb9d566f89f4f364be481124a0625b2f6c4abd432c24d59277');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 16, X'01a224a9205c74eb8912f3185119e66a', 1795911393372621, 'user', 'user_01a224a9205c784f87a16a2769cf2336', 'Grace', 'session.started', 'session', 'sess_01a224a9205c76d281537dae38bba3bb', '', '{"userAgent":"curl/7.88.1"}', '127.0.0.1', X'44eb4912f3185119e66a85669abb7c15a3ec63637414a4b8ad358939e3f9c445');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 17, X'01a224a9223b739ea2baf015b7038009', 1795911393851908, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'member.invited', 'invite', 'inv_01a224a9223b76efb552c03afcc201ae', 'waiting@example.com', '{"role":"viewer"}', '127.0.0.1', X'839ea2baf015b703800933ae3f6f9cfd2c7e891c8d112703721c65ccbaebda5c');
INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, target_kind, target_id, target_name, details, address, hash) VALUES (X'01a2248899157a5fafe2a958807fe10c', 18, X'01a224a9237c72178d8b04dee30cd46c', 1795911394172372, 'user', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 'skill.created', 'skill', 'skill_01a224a9237c7144baab5f9035c8fb6e', 'order_status', '{"agentId":"agent_01a224889d9e79c595acaacdd2817ed1","skillType":"http_webhook","isEnabled":true,"requiresConfirmation":false}', '127.0.0.1', X'c217cd8b04dee30cd46cd629986ea7c08c718015e310ca2f161e271fe4073f03');
INSERT INTO usage (organization_id, key_id, day, operation_id, outcome, calls, last_at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a2248899807863aac763c3320a6e0e', '2026-11-28', 'listAgents', 'allowed', 1, 1795909266655381);
INSERT INTO agents (id, organization_id, name, version, draft, published_version_id, created_by_id, created_by_name, created_at, updated_at, deleted_at, knowledge_generation) VALUES (X'01a224889d9e79c595acaacdd2817ed1', X'01a2248899157a5fafe2a958807fe10c', 'Front desk', 1, '{"persona":"","primaryLanguage":"en","languages":["en"],"enabledChannels":["chat"],"goals":[],"neverDo":[],"tone":"","greeting":"Good day!","lexicon":{"preferred":[],"banned":[],"pronunciations":{}}}', X'01a22488aa517a2687278d37a78843df', 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 1795909262750358, 1795909262750358, NULL, 1);
INSERT INTO agent_versions (id, organization_id, agent_id, version, config, note, published_by_id, published_by_name, published_at) VALUES (X'01a22488aa517a2687278d37a78843df', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 1, '{"name":"Front desk","persona":"","primaryLanguage":"en","languages":["en"],"enabledChannels":["chat"],"goals":[],"neverDo":[],"tone":"","greeting":"Good day!","lexicon":{"preferred":[],"banned":[],"pronunciations":{}}}', NULL, 'user_01a2248899157a4c8fa1c7caddcdee6a', 'Ada', 1795909266001584);
INSERT INTO publishable_keys (id, organization_id, agent_id, name, environment, key_public, allowed_origins, rate_limit_rpm, require_identity, identity_secret, identity_pepper_id, created_at, revoked_at, last_used_at) VALUES (X'01a22488aa6075588be192d061c33524', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 'site', 'live', 'flowyte_pk_live_DroD3pdopWUGSuIbksKdHqdnjqLR8W4MQPgW', '["https://shop.example"]', NULL, 0, NULL, NULL, 1795909266016739, NULL, 1795912234384787);
INSERT INTO publishable_keys (id, organization_id, agent_id, name, environment, key_public, allowed_origins, rate_limit_rpm, require_identity, identity_secret, identity_pepper_id, created_at, revoked_at, last_used_at) VALUES (X'01a224a91d377523bb1538941d890dd9', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 'gone', 'test', 'flowyte_pk_test_wW7leAoWVOalmX9Ityiehm6ZvNwmfC3aNcHW', '["https://shop.example"]', NULL, 0, NULL, NULL, 1795911392567700, 1795911393112411, NULL);
INSERT INTO conversations (id, organization_id, agent_id, environment, visitor_subject, started_at, channel, via, language, last_at, standing, ended_at, outcome, closed, events, user_turns, agent_turns, valence, frustration, sentiment, summary, topic, unanswered, gist) VALUES (X'01a22488abbd7d36951b60c7b2facfe4', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 'live', NULL, 1795909266365000, 'chat', 'widget', 'en', 1795909266634041, 'answered', 1795911389228123, 'completed', 0, 4, 1, 1, 0, 0, 'neutral', 'The visitor said: “When are you open?” The answers come from “Opening hours”.', 'Opening hours', 0, '{"quoted":[4,"When are you open?"],"asked":1,"unknown":0,"labels":[["Opening hours",1]],"words":[]}');
INSERT INTO conversations (id, organization_id, agent_id, environment, visitor_subject, started_at, channel, via, language, last_at, standing, ended_at, outcome, closed, events, user_turns, agent_turns, valence, frustration, sentiment, summary, topic, unanswered, gist) VALUES (X'01a224b5f58d759b9020cdb0104f3b40', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 'live', NULL, 1795912234381568, 'chat', 'widget', 'en', 1795912234505325, 'answered', NULL, NULL, 0, 4, 1, 1, 0, 0, 'neutral', 'The visitor said: “When are you open?” The answers come from “Opening hours”.', 'Opening hours', 0, '{"quoted":[4,"When are you open?"],"asked":1,"unknown":0,"labels":[["Opening hours",1]],"words":[]}');
INSERT INTO messages (id, organization_id, conversation_id, role, text, at, language, sources, unknown, latency_ms) VALUES (X'01a22488acb47c84b2ee7487acc7e298', X'01a2248899157a5fafe2a958807fe10c', X'01a22488abbd7d36951b60c7b2facfe4', 'user', 'When are you open?', 1795909266612664, 'en', '[]', 0, NULL);
INSERT INTO messages (id, organization_id, conversation_id, role, text, at, language, sources, unknown, latency_ms) VALUES (X'01a22488acca7a3c97f781210478d4b3', X'01a2248899157a5fafe2a958807fe10c', X'01a22488abbd7d36951b60c7b2facfe4', 'assistant', 'We are open from nine to five, Monday to Friday.', 1795909266634041, 'en', '[{"id":"source_01a224889e887cbca1f8ab476b245df2","label":"Opening hours","url":null}]', 0, 21);
INSERT INTO messages (id, organization_id, conversation_id, role, text, at, language, sources, unknown, latency_ms) VALUES (X'01a224b5f5f275e09ed2e88b7920b1f8', X'01a2248899157a5fafe2a958807fe10c', X'01a224b5f58d759b9020cdb0104f3b40', 'user', 'When are you open?', 1795912234482092, 'en', '[]', 0, NULL);
INSERT INTO messages (id, organization_id, conversation_id, role, text, at, language, sources, unknown, latency_ms) VALUES (X'01a224b5f60971e1b8e3e3e80227cc98', X'01a2248899157a5fafe2a958807fe10c', X'01a224b5f58d759b9020cdb0104f3b40', 'assistant', 'We are open from nine to five, Monday to Friday.', 1795912234505325, 'en', '[{"id":"source_01a224889e887cbca1f8ab476b245df2","label":"Opening hours","url":null}]', 0, 23);
INSERT INTO visitors (id, organization_id, key_id, conversation_id, digest, pepper_id, origin, created_at, last_seen_at, expires_at, verified) VALUES (X'01a224b5f58d7c98b92690542c5264c7', X'01a2248899157a5fafe2a958807fe10c', X'01a22488aa6075588be192d061c33524', X'01a224b5f58d759b9020cdb0104f3b40', X'af1ecfc4c496f100c2d1b40d094166b0343b559cf930a3301a2d742512811d29', X'1cb97f675fe56457', 'https://shop.example', 1795912234381568, 1795912234487725, 1795998634381568, 0);
INSERT INTO ledger_transactions (id, organization_id, environment, reference, kind, quantity, description, agent_id, at) VALUES (X'01a22488acb472a6a57f93c693c69a41', X'01a2248899157a5fafe2a958807fe10c', 'live', 'msg_01a22488acb47c84b2ee7487acc7e298', 'chat_message', 1, 'Chat message, included in the plan', X'01a224889d9e79c595acaacdd2817ed1', 1795909266612664);
INSERT INTO ledger_transactions (id, organization_id, environment, reference, kind, quantity, description, agent_id, at) VALUES (X'01a224b5f5f273aeadfc2f4438ddb181', X'01a2248899157a5fafe2a958807fe10c', 'live', 'msg_01a224b5f5f275e09ed2e88b7920b1f8', 'chat_message', 1, 'Chat message, included in the plan', X'01a224889d9e79c595acaacdd2817ed1', 1795912234482092);
INSERT INTO ledger_entries (transaction_id, account, organization_id, environment, credits) VALUES (X'01a22488acb472a6a57f93c693c69a41', 'wallet', X'01a2248899157a5fafe2a958807fe10c', 'live', 0);
INSERT INTO ledger_entries (transaction_id, account, organization_id, environment, credits) VALUES (X'01a22488acb472a6a57f93c693c69a41', 'revenue', X'01a2248899157a5fafe2a958807fe10c', 'live', 0);
INSERT INTO ledger_entries (transaction_id, account, organization_id, environment, credits) VALUES (X'01a224b5f5f273aeadfc2f4438ddb181', 'wallet', X'01a2248899157a5fafe2a958807fe10c', 'live', 0);
INSERT INTO ledger_entries (transaction_id, account, organization_id, environment, credits) VALUES (X'01a224b5f5f273aeadfc2f4438ddb181', 'revenue', X'01a2248899157a5fafe2a958807fe10c', 'live', 0);
INSERT INTO wallets (organization_id, environment, movements, plan, next_plan, plan_since, plan_periods, plan_until, auto_reload, auto_reload_threshold, auto_reload_amount, customer, payment_method, plan_try_at) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'live', 2, 'free', NULL, NULL, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO uploads (id, organization_id, filename, content_type, content, attached, created_at) VALUES (X'01a224a923a0701da668ec4c9a3560c6', X'01a2248899157a5fafe2a958807fe10c', 'parcels.txt', 'text/plain', X'50617263656c732074616b652074776f20646179732e0a', 0, 1795911394208732);
INSERT INTO knowledge_sources (id, organization_id, agent_id, kind, label, url, text, upload_id, status, error_message, progress_current, progress_total, version, passages, content_digest, refresh_enabled, refresh_interval_s, due_at, leased_until, lease, attempts, indexed_at, checked_at, changed_at, created_at, updated_at) VALUES (X'01a224889e887cbca1f8ab476b245df2', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 'text', 'Opening hours', NULL, 'We are open from nine to five, Monday to Friday.', NULL, 'indexed', NULL, 1, 1, 1, 1, X'a0e71b9777f11953f5ec0ed2cc609d0ab1ca37d023fab4e807650c47b6ec2fd0', 0, 604800, NULL, NULL, 1, 0, 1795909262993163, 1795909262993163, 1795909262993163, 1795909262984848, 1795909262993163);
INSERT INTO passages (id, organization_id, agent_id, source_id, version, position, heading, question, text, language) VALUES (X'01a224889e8f777eb9a6d82d6888ed0b', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', X'01a224889e887cbca1f8ab476b245df2', 1, 0, '', NULL, 'We are open from nine to five, Monday to Friday.', 'en');
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a22488abbd7d36951b60c7b2facfe4', 1, 'user_utterance', '{"text":"When are you open?"}', 1795909266612664);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a22488abbd7d36951b60c7b2facfe4', 2, 'kb_retrieval', '{"query":"When are you open?","chunks":[{"id":"chunk_01a224889e8f777eb9a6d82d6888ed0b","sourceId":"source_01a224889e887cbca1f8ab476b245df2","label":"Opening hours","answer":"We are open from nine to five, Monday to Friday.","similarity":0.9952470810610475}],"topScore":0.9952470810610475}', 1795909266634041);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a22488abbd7d36951b60c7b2facfe4', 3, 'agent_message', '{"text":"We are open from nine to five, Monday to Friday.","sources":[{"id":"source_01a224889e887cbca1f8ab476b245df2","label":"Opening hours","url":null}]}', 1795909266634041);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a22488abbd7d36951b60c7b2facfe4', 4, 'done', '{"durationMs":21}', 1795909266634041);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a224b5f58d759b9020cdb0104f3b40', 1, 'user_utterance', '{"text":"When are you open?"}', 1795912234482092);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a224b5f58d759b9020cdb0104f3b40', 2, 'kb_retrieval', '{"query":"When are you open?","chunks":[{"id":"chunk_01a224889e8f777eb9a6d82d6888ed0b","sourceId":"source_01a224889e887cbca1f8ab476b245df2","label":"Opening hours","answer":"We are open from nine to five, Monday to Friday.","similarity":0.9952470810610475}],"topScore":0.9952470810610475}', 1795912234505325);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a224b5f58d759b9020cdb0104f3b40', 3, 'agent_message', '{"text":"We are open from nine to five, Monday to Friday.","sources":[{"id":"source_01a224889e887cbca1f8ab476b245df2","label":"Opening hours","url":null}]}', 1795912234505325);
INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) VALUES (X'01a2248899157a5fafe2a958807fe10c', X'01a224b5f58d759b9020cdb0104f3b40', 4, 'done', '{"durationMs":23}', 1795912234505325);
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'are', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'open', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'when', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'you', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'five', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'friday', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'from', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'monday', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'nine', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'to', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'we', X'01a22488abbd7d36951b60c7b2facfe4');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'are', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'open', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'when', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'you', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'five', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'friday', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'from', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'monday', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'nine', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'to', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO conversation_words (organization_id, word, conversation_id) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'we', X'01a224b5f58d759b9020cdb0104f3b40');
INSERT INTO skills (id, organization_id, agent_id, name, tool, description, skill_type, parameters_schema, required_params, execution_config, sealed_headers, headers_pepper_id, requires_confirmation, is_enabled, created_at, updated_at) VALUES (X'01a224a9237c7144baab5f9035c8fb6e', X'01a2248899157a5fafe2a958807fe10c', X'01a224889d9e79c595acaacdd2817ed1', 'order_status', 'order_status', 'Says where an order is', 'http_webhook', '{"type":"object","properties":{}}', '[]', '{"url":"https://shop.example/orders","method":"GET","timeout_ms":10000,"headerNames":[]}', NULL, NULL, 0, 1, 1795911394172372, 1795911394172372);
INSERT INTO ledger_balances (organization_id, environment, account, credits) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'live', 'revenue', 0);
INSERT INTO ledger_balances (organization_id, environment, account, credits) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'live', 'wallet', 0);
INSERT INTO message_counts (organization_id, environment, period_from, messages) VALUES (X'01a2248899157a5fafe2a958807fe10c', 'live', 1793491200000000, 2);
