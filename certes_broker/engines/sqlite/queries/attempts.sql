-- name: add
INSERT INTO attempts (subscription, latest, entries) VALUES {rows};

-- name: newest_first
SELECT entries FROM attempts WHERE subscription = ? ORDER BY number DESC;

-- name: oldest
SELECT number, latest FROM attempts ORDER BY number LIMIT 256;

-- name: trim
DELETE FROM attempts WHERE number <= ?;
