-- name: headers
SELECT first, header FROM blocks WHERE first > ? ORDER BY first LIMIT ?;

-- name: letter_headers
SELECT rowid, header FROM dead_letters WHERE rowid > ? ORDER BY rowid LIMIT ?;

-- name: forget_letter
DELETE FROM dead_letters WHERE rowid = ?;

-- name: count_attempts
SELECT ifnull(sum(json_array_length(entries)), 0) FROM attempts
WHERE subscription >= ?1 AND subscription < substr(?1, 1, length(?1) - 1) || '0';

-- name: forget_attempts
DELETE FROM attempts WHERE subscription >= ?1 AND subscription < substr(?1, 1, length(?1) - 1) || '0';
