-- The latest instant that the server has seen: time does not go back behind it, whatever the clock says.
ALTER TABLE head ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;
