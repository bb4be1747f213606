-- The core tables, for MySQL 8 and MariaDB 10.11 or later.
--
-- DDL commits by itself, so a file may stop half-way: each statement may run again (IF NOT EXISTS, keep what is there).
-- No AUTO_INCREMENT: ids are made by the gateways, in time order, so that rows append and a replay carries the same id.
-- No FOREIGN KEY: rows come from a log that is replayed in batches; a key would lock the parent row (every author and every
-- friend of a batch) for what the gateway has checked, and participants are never deleted.
-- Column types are fixed for both servers, and the collation compares bytes: no text is ever searched or sorted here.

CREATE TABLE IF NOT EXISTS participant (
	id BIGINT NOT NULL,
	name VARCHAR(50) NOT NULL,
	PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Both directions of a friendship, with the same id.
CREATE TABLE IF NOT EXISTS friend (
	participant_id BIGINT NOT NULL,
	friend_id BIGINT NOT NULL,
	id BIGINT NOT NULL,
	PRIMARY KEY (participant_id, friend_id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The ledger of posts: a row says that the post was fanned out, or planned in that many chunks. Never pruned.
CREATE TABLE IF NOT EXISTS outbound (
	id BIGINT NOT NULL,
	participant_id BIGINT NOT NULL,
	posted_at DATETIME(3) NOT NULL, -- UTC
	subject VARCHAR(4000) NOT NULL,
	story MEDIUMTEXT NOT NULL,
	chunks INT NOT NULL DEFAULT 0, -- 0: its inbound rows came with it
	PRIMARY KEY (id),
	KEY participant (participant_id, id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Who gets which post. Narrow, and clustered by reader; texts are joined from outbound.
CREATE TABLE IF NOT EXISTS inbound (
	participant_id BIGINT NOT NULL,
	post_id BIGINT NOT NULL,
	from_id BIGINT NOT NULL,
	PRIMARY KEY (participant_id, post_id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS product (
	id BIGINT NOT NULL,
	name VARCHAR(255) NOT NULL,
	price DECIMAL(12,2) NOT NULL,
	PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The ledger of commands, written in the transaction of their effects. Old rows are deleted by applied_at.
CREATE TABLE IF NOT EXISTS command (
	id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	type VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	entity_id BIGINT NOT NULL,
	outcome VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- done, failed, rejected
	body MEDIUMTEXT NOT NULL, -- JSON: the entity, or the problem
	applied_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), -- UTC
	PRIMARY KEY (id),
	KEY applied (applied_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The plan of a long friend list: friends is the pinned list (see common/store/posts.h), emptied when the chunk is done.
CREATE TABLE IF NOT EXISTS fanout_chunk (
	post_id BIGINT NOT NULL,
	n INT NOT NULL, -- from 0
	first_friend BIGINT NOT NULL,
	last_friend BIGINT NOT NULL,
	friends MEDIUMBLOB NOT NULL,
	done TINYINT NOT NULL DEFAULT 0,
	PRIMARY KEY (post_id, n)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Gateway numbers. All rows are there from the start, so that taking one is an UPDATE and two takers meet at its lock.
CREATE TABLE IF NOT EXISTS gateway_lease (
	number INT NOT NULL, -- 0 … 63
	holder VARCHAR(64) NOT NULL DEFAULT '',
	expires_at BIGINT NOT NULL DEFAULT 0, -- Unix milliseconds, the database's clock
	ids_until BIGINT NOT NULL DEFAULT 0, -- Unix milliseconds: no id of this number is at or past it
	PRIMARY KEY (number)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO gateway_lease (number) VALUES
	(0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15),
	(16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31),
	(32), (33), (34), (35), (36), (37), (38), (39), (40), (41), (42), (43), (44), (45), (46), (47),
	(48), (49), (50), (51), (52), (53), (54), (55), (56), (57), (58), (59), (60), (61), (62), (63)
	ON DUPLICATE KEY UPDATE number = number;
