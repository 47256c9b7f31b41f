-- View all sessions
SELECT * FROM session ORDER BY created_at DESC;

-- Count sessions by status
SELECT inbox_status, COUNT(*) FROM session GROUP BY inbox_status;

-- Find child sessions
SELECT * FROM session WHERE parent IS NOT NULL;

-- Find orphaned sessions (sessions with non-existent parents)
SELECT s.* FROM session s
LEFT JOIN session p ON s.parent = p.id
WHERE s.parent IS NOT NULL AND p.id IS NULL;

-- Delete old completed sessions (older than 30 days)
DELETE FROM session
WHERE inbox_status = 'completed'
AND created_at < NOW() - INTERVAL '30 days';
