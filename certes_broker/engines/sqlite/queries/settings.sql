-- name: get
SELECT key, body, revision FROM documents WHERE key = ?;

-- name: revision
SELECT revision FROM documents WHERE key = ?;

-- name: list
SELECT key, body, revision FROM documents WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 ORDER BY key;

-- name: put
INSERT INTO documents (key, body, revision) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET body = excluded.body, revision = excluded.revision;

-- name: delete
DELETE FROM documents WHERE key = ?;
