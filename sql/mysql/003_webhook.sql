-- Webhooks: who wants product events by HTTP, and what is to be delivered; see common/store/webhooks.h. All times are Unix
-- milliseconds by the database's clock.

CREATE TABLE IF NOT EXISTS webhook (
	id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
	url VARCHAR(2000) NOT NULL,
	secret VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	events VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- types with a comma between; empty: all
	created_at BIGINT NOT NULL,
	disabled_at BIGINT NOT NULL DEFAULT 0, -- 0: in use
	reason VARCHAR(512) NOT NULL DEFAULT '', -- of the last failure
	failing_since BIGINT NOT NULL DEFAULT 0, -- the first failure without a success since
	tries INT NOT NULL DEFAULT 0, -- since then
	next_try BIGINT NOT NULL DEFAULT 0,
	lease_holder CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- who delivers now, if anybody
	lease_until BIGINT NOT NULL DEFAULT 0 -- without a holder: when it was served last
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What goes to one webhook, in order of n. What is delivered stays a while, so that a repeat is not delivered again.
CREATE TABLE IF NOT EXISTS webhook_delivery (
	n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
	webhook_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	event_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	type VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	body MEDIUMTEXT NOT NULL,
	done_at BIGINT NOT NULL DEFAULT 0, -- 0: not delivered
	UNIQUE KEY once (webhook_id, event_id),
	KEY open (webhook_id, done_at, n),
	KEY done (done_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
