-- Visitors' sessions are forgotten when nobody has used them for a while.
CREATE INDEX visitors_by_use ON visitors (last_seen_at);
