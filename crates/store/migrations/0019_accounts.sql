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
