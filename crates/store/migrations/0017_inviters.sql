-- An invite stands only while whoever made it could make it. Of those that are open nobody wrote down who that was, so they
-- end, and are made again where they are still wanted.
ALTER TABLE invites ADD COLUMN invited_by BYTES REFERENCES users (id);
UPDATE invites SET closed_at = created_at WHERE closed_at IS NULL;
CREATE INDEX invites_of_maker ON invites (organization_id, invited_by);
