-- Webhooks; see sql/mysql/003_webhook.sql, whose columns these are.

CREATE TABLE IF NOT EXISTS webhook (
	id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),
	url TEXT NOT NULL CHECK (length(url) <= 2000),
	secret TEXT NOT NULL CHECK (length(secret) <= 128),
	events TEXT NOT NULL CHECK (length(events) <= 255),
	created_at INTEGER NOT NULL,
	disabled_at INTEGER NOT NULL DEFAULT 0,
	reason TEXT NOT NULL DEFAULT '' CHECK (length(reason) <= 512),
	failing_since INTEGER NOT NULL DEFAULT 0,
	tries INTEGER NOT NULL DEFAULT 0,
	next_try INTEGER NOT NULL DEFAULT 0,
	lease_holder TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS webhook_delivery (
	n INTEGER PRIMARY KEY AUTOINCREMENT,
	webhook_id TEXT NOT NULL CHECK (length(webhook_id) = 36),
	event_id TEXT NOT NULL CHECK (length(event_id) <= 255),
	type TEXT NOT NULL CHECK (length(type) <= 64),
	body TEXT NOT NULL,
	done_at INTEGER NOT NULL DEFAULT 0,
	UNIQUE (webhook_id, event_id)
) STRICT;

CREATE INDEX IF NOT EXISTS webhook_delivery_open ON webhook_delivery (webhook_id, done_at, n);
CREATE INDEX IF NOT EXISTS webhook_delivery_done ON webhook_delivery (done_at);
