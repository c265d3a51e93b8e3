-- name: originals_between
SELECT position, content_type, headers, body FROM originals WHERE position BETWEEN ? AND ?;

-- name: newest_period
SELECT ifnull(max(period), 0) FROM ids;

-- name: digest
SELECT digest FROM ids WHERE period IN (?1, ?1 - 1) AND source = ?2 AND id = ?3 AND position = ?4;

-- name: rejecting
SELECT DISTINCT source FROM rejections ORDER BY source;
