-- Requests with an Idempotency-Key, and what they were answered; see common/store/idempotency.h.
--
-- A row is a reservation first: its primary key makes one of several attempts the one that goes on.

CREATE TABLE IF NOT EXISTS idempotency (
	client TEXT NOT NULL CHECK (length(client) <= 64),
	`key` TEXT NOT NULL CHECK (length(`key`) <= 255),
	body_hash TEXT NOT NULL CHECK (length(body_hash) <= 64), -- SHA-256 of method, path and body
	command_id TEXT NOT NULL CHECK (length(command_id) <= 36),
	entity_id INTEGER NOT NULL,
	made_at INTEGER NOT NULL, -- Unix milliseconds, the first gateway's clock: the time of a post
	owner TEXT NOT NULL CHECK (length(owner) <= 36), -- the attempt that goes on
	deadline INTEGER NOT NULL, -- Unix milliseconds, the database's clock: then another attempt may take it over
	outcome INTEGER, -- the status that was answered; NULL: none yet
	body TEXT, -- the answer
	expires INTEGER NOT NULL, -- Unix milliseconds, the database's clock: then it is as if there were no row
	PRIMARY KEY (client, `key`)
) STRICT;

CREATE INDEX IF NOT EXISTS idempotency_expires ON idempotency (expires);
