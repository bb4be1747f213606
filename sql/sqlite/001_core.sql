-- The core tables, for SQLite 3.37 or later: the tables of sql/mysql, with the same rows and the same refusals.
--
-- A file may stop half-way: each statement may run again (IF NOT EXISTS, keep what is there).
-- STRICT: a column takes its own type alone. The bounds of lengths and forms, which other databases have in their types, are
-- CHECKs. Texts compare by bytes. Small rows lie in the order of their key (WITHOUT ROWID), as all rows do there; large ones
-- beside it. Ids come with the rows and are never made here.

CREATE TABLE IF NOT EXISTS participant (
	id INTEGER NOT NULL PRIMARY KEY,
	name TEXT NOT NULL CHECK (length(name) <= 50)
) STRICT, WITHOUT ROWID;

-- Both directions of a friendship, with the same id.
CREATE TABLE IF NOT EXISTS friend (
	participant_id INTEGER NOT NULL,
	friend_id INTEGER NOT NULL,
	id INTEGER NOT NULL,
	PRIMARY KEY (participant_id, friend_id)
) STRICT, WITHOUT ROWID;

-- The ledger of posts: a row says that the post was fanned out, or planned in that many chunks. Never pruned.
CREATE TABLE IF NOT EXISTS outbound (
	id INTEGER NOT NULL PRIMARY KEY,
	participant_id INTEGER NOT NULL,
	posted_at TEXT NOT NULL -- UTC
		CHECK (posted_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]'),
	subject TEXT NOT NULL CHECK (length(subject) <= 4000),
	story TEXT NOT NULL,
	chunks INTEGER NOT NULL DEFAULT 0 -- 0: its inbound rows came with it
) STRICT;

CREATE INDEX IF NOT EXISTS outbound_participant ON outbound (participant_id, id);

-- Who gets which post. Narrow, and in the order of readers; texts are joined from outbound.
CREATE TABLE IF NOT EXISTS inbound (
	participant_id INTEGER NOT NULL,
	post_id INTEGER NOT NULL,
	from_id INTEGER NOT NULL,
	PRIMARY KEY (participant_id, post_id)
) STRICT, WITHOUT ROWID;

-- There is no decimal type: prices are text, as exact as they came, of up to ten digits and two behind the point.
CREATE TABLE IF NOT EXISTS product (
	id INTEGER NOT NULL PRIMARY KEY,
	name TEXT NOT NULL CHECK (length(name) <= 255),
	price TEXT NOT NULL CHECK (
		price GLOB '[0-9]*' AND price NOT GLOB '*[^0-9.]*' AND price NOT GLOB '*.*.*'
		AND price NOT GLOB '*.' AND price NOT GLOB '*.???*'
		AND instr(price || '.', '.') <= 11)
) STRICT, WITHOUT ROWID;

-- The ledger of commands, written in the transaction of their effects. Old rows are deleted by applied_at.
CREATE TABLE IF NOT EXISTS command (
	id TEXT NOT NULL PRIMARY KEY CHECK (length(id) <= 36),
	type TEXT NOT NULL CHECK (length(type) <= 32),
	entity_id INTEGER NOT NULL,
	outcome TEXT NOT NULL CHECK (length(outcome) <= 8), -- done, failed, rejected
	body TEXT NOT NULL, -- JSON: the entity, or the problem
	applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')) -- UTC
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS command_applied ON command (applied_at);

-- The plan of a long friend list: friends is the pinned list (see common/store/posts.h), emptied when the chunk is done.
CREATE TABLE IF NOT EXISTS fanout_chunk (
	post_id INTEGER NOT NULL,
	n INTEGER NOT NULL, -- from 0
	first_friend INTEGER NOT NULL,
	last_friend INTEGER NOT NULL,
	friends BLOB NOT NULL,
	done INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (post_id, n)
) STRICT;

-- Gateway numbers. All rows are there from the start, so that taking one is an UPDATE.
CREATE TABLE IF NOT EXISTS gateway_lease (
	number INTEGER NOT NULL PRIMARY KEY, -- 0 … 63
	holder TEXT NOT NULL DEFAULT '' CHECK (length(holder) <= 64),
	expires_at INTEGER NOT NULL DEFAULT 0, -- Unix milliseconds, the database's clock
	ids_until INTEGER NOT NULL DEFAULT 0 -- Unix milliseconds: no id of this number is at or past it
) STRICT;

INSERT INTO gateway_lease (number) VALUES
	(0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15),
	(16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31),
	(32), (33), (34), (35), (36), (37), (38), (39), (40), (41), (42), (43), (44), (45), (46), (47),
	(48), (49), (50), (51), (52), (53), (54), (55), (56), (57), (58), (59), (60), (61), (62), (63)
	ON CONFLICT DO NOTHING;
