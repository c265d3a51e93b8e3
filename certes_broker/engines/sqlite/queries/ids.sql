-- name: add
INSERT OR IGNORE INTO ids (period, source, id, digest, position) VALUES {rows};

-- name: take_back
DELETE FROM ids WHERE period = ? AND source = ? AND id = ? AND position > ?;

-- name: newest_period
SELECT ifnull(max(period), 0) FROM ids;

-- name: any_in_period
SELECT EXISTS (SELECT 1 FROM ids WHERE period = ?);

-- The CROSS JOIN keeps the order of the join: a look-up in `ids` for each row that is wanted.
-- name: known
WITH wanted (period, source, id) AS (VALUES {rows})
SELECT ids.source, ids.id, ids.digest, ids.position
FROM wanted CROSS JOIN ids ON ids.period = wanted.period AND ids.source = wanted.source AND ids.id = wanted.id;

-- name: find
SELECT position FROM ids WHERE period IN (?1, ?1 - 1) AND source = ?2 AND id = ?3 ORDER BY period DESC LIMIT 1;

-- name: forget
DELETE FROM ids WHERE (period, source, id) IN (SELECT period, source, id FROM ids WHERE period <= ? LIMIT 4096);
