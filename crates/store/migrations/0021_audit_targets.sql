-- What was done to one thing, without reading all that was done to others.
CREATE INDEX audit_events_of_target ON audit_events (organization_id, target_id, sequence);
