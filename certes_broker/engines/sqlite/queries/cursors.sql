-- name: counter
SELECT value FROM counters WHERE name = ?;

-- name: set_counter
INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: cursors
SELECT subscription, floor, read_mark, level, settled FROM cursors WHERE subscription IN (SELECT value FROM json_each(?));

-- name: owed
SELECT subscription, position, kind, due, attempt, first_try, ordering_key, error
FROM owed WHERE subscription IN (SELECT value FROM json_each(?)) ORDER BY subscription, position;

-- name: put_cursors
INSERT OR REPLACE INTO cursors (subscription, floor, read_mark, level, settled) VALUES {rows};

-- name: put_owed
INSERT OR REPLACE INTO owed (subscription, position, kind, due, attempt, first_try, ordering_key, error) VALUES {rows};

-- name: drop_owed
DELETE FROM owed WHERE subscription = ? AND position = ?;

-- name: put_dead_letters
INSERT OR REPLACE INTO dead_letters (subscription, position, attempts, reason, error, time, header, body) VALUES {rows};

-- name: put_gaps
INSERT OR REPLACE INTO gaps (subscription, first, last, reason, time) VALUES {rows};

-- name: dead_letters
SELECT position, attempts, reason, error, time, header, body
FROM dead_letters WHERE subscription = ? AND position > ? ORDER BY position LIMIT ?;

-- name: dead_letter
SELECT position, attempts, reason, error, time, header, body FROM dead_letters WHERE subscription = ? AND position = ?;

-- name: count_dead
SELECT count(*) FROM dead_letters WHERE subscription = ?;

-- name: drop_dead_letter
DELETE FROM dead_letters WHERE subscription = ? AND position = ?;

-- name: bury
DELETE FROM dead_letters WHERE subscription = ?1 AND position = ?2
AND NOT EXISTS (SELECT 1 FROM owed WHERE owed.subscription = ?1 AND owed.position = ?2);

-- name: expire
DELETE FROM dead_letters WHERE rowid IN (
    SELECT dead.rowid FROM dead_letters AS dead WHERE dead.time < ?
    AND NOT EXISTS (SELECT 1 FROM owed WHERE owed.subscription = dead.subscription AND owed.position = dead.position)
    ORDER BY dead.time LIMIT ?
);

-- name: gaps
SELECT first, last, reason, time FROM gaps WHERE subscription = ? ORDER BY time, first, last;

-- name: forget_cursor
DELETE FROM cursors WHERE subscription = ?;

-- name: forget_owed
DELETE FROM owed WHERE subscription = ?;

-- name: forget_dead_letters
DELETE FROM dead_letters WHERE subscription = ?;

-- name: forget_gaps
DELETE FROM gaps WHERE subscription = ?;
