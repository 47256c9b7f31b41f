-- name: named_sessions.create
SELECT new_id, new_epoch FROM session.create_named_session($1, $2);

-- name: named_sessions.activate
SELECT active_id, active_epoch FROM session.activate_named_session($1, $2);

-- name: named_sessions.delete
SELECT session.delete_named_session($1, $2);

-- name: named_sessions.list
SELECT id, user_id, title, active FROM public.sessions WHERE user_id = $1 ORDER BY created_at, id;

-- name: named_sessions.active
-- The active session with its epoch, of one snapshot; without a row the user never had a session.
SELECT s.id, u.epoch FROM session.named_session_users u
LEFT JOIN public.sessions s ON s.user_id = u.user_id AND s.active
WHERE u.user_id = $1;
