-- name: add
INSERT INTO rejections (source, time, verified, size, reason, message, content_type, headers, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: bytes
SELECT ifnull(sum(size), 0) FROM rejections;

-- name: unverified
SELECT source, count(*) FROM rejections WHERE verified = 0 GROUP BY source;

-- name: newest_first
SELECT number, time, reason, message, verified, content_type, headers, length(body)
FROM rejections WHERE source = ? AND number < ? ORDER BY number DESC LIMIT ?;

-- name: get
SELECT time, reason, message, verified, content_type, headers, body
FROM rejections WHERE number = ? AND source = ?;

-- name: one
SELECT number, source, time, verified, size FROM rejections WHERE number = ? AND source = ?;

-- name: of_source
SELECT number, source, time, verified, size FROM rejections WHERE source = ? ORDER BY number LIMIT ?;

-- name: oldest
SELECT number, source, time, verified, size FROM rejections ORDER BY number LIMIT ?;

-- name: oldest_unverified
SELECT number, source, time, verified, size FROM rejections WHERE verified = 0 ORDER BY number LIMIT ?;

-- name: oldest_unverified_of_source
SELECT number, source, time, verified, size FROM rejections WHERE verified = 0 AND source = ? ORDER BY number LIMIT ?;

-- name: forget
DELETE FROM rejections WHERE number = ?;
