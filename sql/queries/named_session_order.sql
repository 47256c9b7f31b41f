-- What `session-service order-named-sessions` does, in one transaction, which the temporary tables do not outlive.

-- name: named_session_order.is_in_order
-- Whether all that session.order_named_sessions() adds is there; somebody may have dropped one by hand.
SELECT c.in_order
   AND (SELECT count(*) = 2 FROM pg_index WHERE indrelid = 'public.sessions'::regclass AND indisunique AND indisvalid
        AND indexrelid IN (to_regclass('public.sessions_user_id_title_key'), to_regclass('public.sessions_one_active_key')))
   AND EXISTS (SELECT 1 FROM pg_constraint
               WHERE conrelid = 'public.sessions'::regclass AND conname = 'sessions_title_length')
   AND (SELECT count(*) = 3 FROM pg_attribute WHERE attrelid = 'public.sessions'::regclass AND attnotnull
        AND attname IN ('active', 'created_at', 'updated_at'))
FROM session.named_session_cache c;

-- name: named_session_order.longest_title
-- The column may be narrower than the document writes it: VARCHAR(255), say.
SELECT CASE WHEN atttypid = 'varchar'::regtype AND atttypmod > 4 THEN least(atttypmod - 4, 1000) ELSE 1000 END
FROM pg_attribute WHERE attrelid = 'public.sessions'::regclass AND attname = 'title';

-- name: named_session_order.lock
-- The strongest lock at once. The constraints need it in the end; raising a weaker one then would be a deadlock with a
-- program that has read the table in its transaction, and now waits to write to it.
LOCK TABLE public.sessions IN ACCESS EXCLUSIVE MODE;

-- name: named_session_order.find_surplus
-- Active sessions beside the one of their user that stays active: the one that was updated last.
CREATE TEMPORARY TABLE surplus_sessions ON COMMIT DROP AS
SELECT id FROM (
    SELECT id, row_number() OVER (
        PARTITION BY user_id ORDER BY updated_at DESC NULLS LAST, created_at DESC NULLS LAST, id) AS place
    FROM public.sessions WHERE active) a
WHERE place > 1;

-- name: named_session_order.list_titles
-- All titles of each user who has one that cannot stay. First come, of a user's, those that have the first right to
-- theirs: the one that stays active, then the oldest. Cut where it is certain that they are too long.
SELECT s.id, s.user_id, left(s.title, 1001) AS title
FROM public.sessions s LEFT JOIN pg_temp.surplus_sessions x ON x.id = s.id
WHERE s.user_id IN (
    SELECT user_id FROM public.sessions GROUP BY user_id, title HAVING count(*) > 1
    UNION SELECT user_id FROM public.sessions WHERE char_length(title) NOT BETWEEN 1 AND 1000)
ORDER BY s.user_id, (s.active IS TRUE AND x.id IS NULL) DESC, s.created_at NULLS LAST, s.id;

-- name: named_session_order.make_room_for_titles
CREATE TEMPORARY TABLE new_titles (id UUID PRIMARY KEY, title TEXT NOT NULL) ON COMMIT DROP;

-- name: named_session_order.find_changes
-- Each row that is to change, as it is and as it will be; and those that no token reaches, which stay. An instant that
-- nothing is known of is 1970: visibly so, and the same in a dry run.
CREATE TEMPORARY TABLE session_changes ON COMMIT DROP AS
SELECT s.id, s.user_id, s.title, s.active, s.created_at, s.updated_at,
       coalesce(t.title, s.title) AS new_title,
       s.active IS TRUE AND x.id IS NULL AS new_active,
       coalesce(s.created_at, s.updated_at, 'epoch') AS new_created_at,
       coalesce(s.updated_at, s.created_at, 'epoch') AS new_updated_at
FROM public.sessions s
LEFT JOIN pg_temp.surplus_sessions x ON x.id = s.id
LEFT JOIN pg_temp.new_titles t ON t.id = s.id
WHERE x.id IS NOT NULL OR t.id IS NOT NULL OR s.user_id < 1
   OR s.active IS NULL OR s.created_at IS NULL OR s.updated_at IS NULL;

-- name: named_session_order.keep_updated_at
-- Nobody has updated these sessions: they keep their instants. The triggers that the cache relies on go on.
ALTER TABLE public.sessions DISABLE TRIGGER sessions_touched;

-- name: named_session_order.apply
UPDATE public.sessions s
SET title = c.new_title, active = c.new_active, created_at = c.new_created_at, updated_at = c.new_updated_at
FROM pg_temp.session_changes c
WHERE s.id = c.id AND (s.title, s.active, s.created_at, s.updated_at)
    IS DISTINCT FROM (c.new_title, c.new_active, c.new_created_at, c.new_updated_at);

-- name: named_session_order.touch_again
ALTER TABLE public.sessions ENABLE TRIGGER sessions_touched;

-- name: named_session_order.count_others
-- Rows that did not become what the report says, by a trigger of somebody else's.
SELECT count(*) FROM pg_temp.session_changes c LEFT JOIN public.sessions s ON s.id = c.id
WHERE (s.title, s.active, s.created_at, s.updated_at)
    IS DISTINCT FROM (c.new_title, c.new_active, c.new_created_at, c.new_updated_at);

-- name: named_session_order.constrain
SELECT session.order_named_sessions();

-- name: named_session_order.report
-- Instants as text: PostgreSQL's may be infinite.
SELECT c.id::text, c.user_id, c.title, c.active,
       to_json(c.created_at) #>> '{}' AS created_at, to_json(c.updated_at) #>> '{}' AS updated_at,
       c.new_title, c.new_active,
       to_json(c.new_created_at) #>> '{}' AS new_created_at, to_json(c.new_updated_at) #>> '{}' AS new_updated_at
FROM pg_temp.session_changes c ORDER BY c.user_id, c.new_created_at, c.id;

-- name: named_session_order.count
SELECT count(*) FROM public.sessions;
