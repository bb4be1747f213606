-- Requests with an Idempotency-Key, and what they were answered; see common/store/idempotency.h.
--
-- A row is a reservation first: its primary key makes one of several attempts the one that goes on. Keys have no spaces, so
-- that a collation that pads with them is no matter; both parts compare by bytes.

CREATE TABLE IF NOT EXISTS idempotency (
	client VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`key` VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	body_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- SHA-256 of method, path and body
	command_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	entity_id BIGINT NOT NULL,
	made_at BIGINT NOT NULL, -- Unix milliseconds, the first gateway's clock: the time of a post
	owner CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the attempt that goes on
	deadline BIGINT NOT NULL, -- Unix milliseconds, the database's clock: then another attempt may take it over
	outcome SMALLINT NULL, -- the status that was answered; NULL: none yet
	body MEDIUMTEXT NULL, -- the answer
	expires BIGINT NOT NULL, -- Unix milliseconds, the database's clock: then it is as if there were no row
	PRIMARY KEY (client, `key`),
	KEY expires (expires)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
