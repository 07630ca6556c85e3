-- Whether a visitor had proved who they are when the session was opened: a key that asks for that ends the others.
ALTER TABLE visitors ADD COLUMN verified BIGINT NOT NULL DEFAULT 0;
