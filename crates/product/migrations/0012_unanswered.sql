-- How many of a conversation's questions the agent could not answer: what every count of them is made from.
ALTER TABLE conversations ADD COLUMN unanswered BIGINT NOT NULL DEFAULT 0;
UPDATE conversations SET unanswered = (SELECT COUNT(*) FROM messages
  WHERE messages.organization_id = conversations.organization_id AND messages.conversation_id = conversations.id AND messages.unknown = 1);
-- Gaps of both environments, each seen in its own. Before, what tests asked was not noted.
ALTER TABLE knowledge_gap_hits ADD COLUMN environment TEXT NOT NULL DEFAULT 'live';
