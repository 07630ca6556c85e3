-- The database looks for the passages of a source that goes by the source alone.
CREATE INDEX passages_by_source ON passages (source_id);
-- What is being read, so that the next reading is another organization's.
CREATE INDEX knowledge_sources_leased ON knowledge_sources (leased_until);
