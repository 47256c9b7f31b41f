-- name: sandbox_sessions.create
WITH made AS (
    INSERT INTO public.session AS s (messages, inbox_status, sbx_config, parent)
    VALUES (sandbox.json_of('messages', $1), $2::text::public.inbox_status, sandbox.json_of('sbx_config', $3), $4)
    RETURNING s AS one)
SELECT shown.* FROM made, sandbox.shown(made.one) shown;

-- name: sandbox_sessions.get
SELECT shown.* FROM public.session s, sandbox.shown(s) shown WHERE s.id = $1;

-- name: sandbox_sessions.page
SELECT * FROM sandbox.page($1::text::public.inbox_status, $2, $3, $4, $5, $6);

-- name: sandbox_sessions.children
SELECT * FROM sandbox.children($1, $2, $3, $4);

-- name: sandbox_sessions.change
-- Of each field, whether it is to be set, and to what: null is a value.
WITH changed AS (
    UPDATE public.session s
    SET messages = CASE WHEN $2 THEN sandbox.json_of('messages', $3) ELSE s.messages END,
        inbox_status = CASE WHEN $4 THEN $5::text::public.inbox_status ELSE s.inbox_status END,
        sbx_config = CASE WHEN $6 THEN sandbox.json_of('sbx_config', $7) ELSE s.sbx_config END,
        parent = CASE WHEN $8 THEN $9 ELSE s.parent END
    WHERE s.id = $1
    RETURNING s AS one)
SELECT shown.* FROM changed, sandbox.shown(changed.one) shown;

-- name: sandbox_sessions.delete
SELECT public.session_delete($1);

-- name: sandbox_sessions.append
SELECT shown.* FROM public.session_append_message($1, sandbox.json_of('message', $2)) s, sandbox.shown(s) shown;

-- name: sandbox_sessions.claim
SELECT shown.* FROM public.session_claim($1, $2) s, sandbox.shown(s) shown;

-- name: sandbox_sessions.release
-- As if it had not been claimed: nobody has seen it.
UPDATE public.session s
SET inbox_status = 'pending', claim = NULL, claimed_until = NULL, attempts = s.attempts - 1
WHERE s.id = $1 AND s.claim = $2;

-- name: sandbox_sessions.extend
SELECT shown.* FROM public.session_extend($1, $2, $3) s, sandbox.shown(s) shown;

-- name: sandbox_sessions.complete
SELECT shown.* FROM public.session_complete($1, $2, sandbox.json_of('messages', $3)) s, sandbox.shown(s) shown;

-- name: sandbox_sessions.fail
SELECT shown.* FROM public.session_fail($1, $2, $3, $4) s, sandbox.shown(s) shown;
