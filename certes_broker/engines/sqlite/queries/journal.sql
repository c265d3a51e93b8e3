-- name: newest
SELECT last, latest_accept, total FROM blocks ORDER BY first DESC LIMIT 1;

-- name: oldest
SELECT first, total - size FROM blocks ORDER BY first LIMIT 1;

-- name: add_blocks
INSERT INTO blocks (first, last, latest_accept, size, total, header, body) VALUES {rows};

-- name: add_originals
INSERT INTO originals (position, content_type, headers, body) VALUES {rows};

-- name: block_at
SELECT first, last, latest_accept, header FROM blocks WHERE first <= ? ORDER BY first DESC LIMIT 1;

-- name: blocks_from
SELECT first, last, header, body FROM blocks
WHERE first >= ifnull((SELECT max(first) FROM blocks WHERE first <= ?1), 0) ORDER BY first;

-- name: headers_from
SELECT first, header FROM blocks WHERE first >= ? ORDER BY first;

-- name: block
SELECT header, body FROM blocks WHERE first = ?;

-- name: rewrite_block
UPDATE blocks SET header = ?, body = ? WHERE first = ?;

-- name: forget_original
DELETE FROM originals WHERE position = ?;

-- name: original
SELECT content_type, headers, body FROM originals WHERE position = ?;

-- name: surplus
SELECT last FROM blocks WHERE total >= ? ORDER BY first LIMIT 1;

-- name: trimmable
SELECT last, size FROM blocks WHERE last <= ? AND first < (SELECT max(first) FROM blocks) ORDER BY first LIMIT 64;

-- name: trim_blocks
DELETE FROM blocks WHERE last <= ?1 AND first <= ?1;

-- name: trim_originals
DELETE FROM originals WHERE position <= ?;
