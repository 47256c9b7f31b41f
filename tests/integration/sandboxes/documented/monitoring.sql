SELECT pg_size_pretty(pg_database_size('sessiondb'));

SELECT pg_size_pretty(pg_total_relation_size('session'));

SELECT count(*) FROM pg_stat_activity WHERE datname = 'sessiondb';

SELECT pid, now() - pg_stat_activity.query_start AS duration, query
FROM pg_stat_activity
WHERE state = 'active' AND now() - pg_stat_activity.query_start > interval '5 seconds';
