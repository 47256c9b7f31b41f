-- Named sessions (document 004): its table, what makes its rules true, and what keeps the cache of active sessions right.

-- As the document writes it. Where its own service has been, the table is there already, and stays with all its rows.
CREATE TABLE IF NOT EXISTS public.sessions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL,
    title VARCHAR NOT NULL,
    active BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);

DO $$
DECLARE
    missing TEXT;
BEGIN
    SELECT string_agg(wanted, ', ') INTO missing
    FROM unnest(ARRAY['id', 'user_id', 'title', 'active', 'created_at', 'updated_at']) AS wanted
    WHERE wanted NOT IN (SELECT attname FROM pg_attribute
                         WHERE attrelid = 'public.sessions'::regclass AND attnum > 0 AND NOT attisdropped);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'public.sessions is there, and is not the table of named sessions: it has no %', missing
            USING HINT = 'Rename that table, or give the service a database of its own.';
    END IF;
END;
$$;

-- Made by an object mapper, the table may lack the defaults that the document writes.
ALTER TABLE public.sessions
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN active SET DEFAULT FALSE,
    ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP,
    ALTER COLUMN updated_at SET DEFAULT CURRENT_TIMESTAMP;
CREATE INDEX IF NOT EXISTS idx_sessions_user_id ON public.sessions(user_id);
CREATE INDEX IF NOT EXISTS idx_sessions_active ON public.sessions(user_id, active) WHERE active = TRUE;

-- One row per user: the lock under which everything of the user's is decided, and the epoch of the active session.
-- The epoch grows with every change of it; changed_in is the transaction of the last one (see pg_snapshot_xmin).
CREATE TABLE session.named_session_users (
    user_id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL DEFAULT 1,
    changed_in XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX idx_named_session_users_changed_in ON session.named_session_users(changed_in, user_id);
INSERT INTO session.named_session_users (user_id) SELECT DISTINCT user_id FROM public.sessions;

-- What all pods have to know of the cache (docs/named-sessions.md, "The cache"). It is in doubt while doubted > cleared;
-- every change that the snapshot settled sees is known to be in it. in_order: the constraints below are there.
CREATE TABLE session.named_session_cache (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    doubted BIGINT NOT NULL DEFAULT 1,
    cleared BIGINT NOT NULL DEFAULT 0,
    settled PG_SNAPSHOT NOT NULL DEFAULT '3:3:',  -- before every transaction
    in_order BOOLEAN NOT NULL DEFAULT FALSE
);
INSERT INTO session.named_session_cache DEFAULT VALUES;

-- What a unique index can hold of a title: 1,000 characters may have 4,000 bytes, a row of a B-tree at most 2,704.
-- convert_to is only STABLE because conversions can be redefined; to UTF-8 they are not.
CREATE FUNCTION session.title_digest(p_title TEXT) RETURNS BYTEA AS $$
    SELECT sha256(convert_to(p_title, 'UTF8'));
$$ LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog;

-- Every write to the table, by another program and by hand too, raises its users' epochs, once a transaction: so that
-- the cache hears of it. SECURITY DEFINER, for roles that have no right on session.
CREATE FUNCTION session.note_named_session_change() RETURNS TRIGGER AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO session.named_session_users AS u (user_id) VALUES (OLD.user_id)
        ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
        WHERE u.changed_in <> pg_current_xact_id();
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.user_id <> OLD.user_id THEN
        INSERT INTO session.named_session_users AS u (user_id) VALUES (NEW.user_id)
        ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
        WHERE u.changed_in <> pg_current_xact_id();
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER sessions_inserted AFTER INSERT ON public.sessions
    FOR EACH ROW EXECUTE FUNCTION session.note_named_session_change();
CREATE TRIGGER sessions_updated AFTER UPDATE ON public.sessions
    FOR EACH ROW WHEN ((OLD.id, OLD.user_id, OLD.active) IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.active))
    EXECUTE FUNCTION session.note_named_session_change();
CREATE TRIGGER sessions_deleted AFTER DELETE ON public.sessions
    FOR EACH ROW WHEN (OLD.active) EXECUTE FUNCTION session.note_named_session_change();

CREATE FUNCTION session.note_named_sessions_truncated() RETURNS TRIGGER AS $$
BEGIN
    UPDATE session.named_session_users SET epoch = epoch + 1, changed_in = pg_current_xact_id();
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER sessions_truncated AFTER TRUNCATE ON public.sessions
    FOR EACH STATEMENT EXECUTE FUNCTION session.note_named_sessions_truncated();

CREATE FUNCTION session.touch_named_session() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog;

CREATE TRIGGER sessions_touched BEFORE UPDATE ON public.sessions
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION session.touch_named_session();

-- Add the constraints that make the document's rules true, if all rows satisfy them. Returns whether they are there
-- now: if not, no row was touched, and /api/v1/sessions is not served until the rows are brought in order and this is
-- called again. For the owner of the table.
CREATE FUNCTION session.order_named_sessions() RETURNS BOOLEAN AS $$
BEGIN
    LOCK TABLE public.sessions IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT 1 FROM public.sessions
               WHERE active IS NULL OR created_at IS NULL OR updated_at IS NULL
                  OR char_length(title) NOT BETWEEN 1 AND 1000)
        OR EXISTS (SELECT 1 FROM public.sessions GROUP BY user_id, title HAVING count(*) > 1)
        OR EXISTS (SELECT 1 FROM public.sessions WHERE active GROUP BY user_id HAVING count(*) > 1)
    THEN
        RETURN FALSE;
    END IF;
    CREATE UNIQUE INDEX IF NOT EXISTS sessions_user_id_title_key
        ON public.sessions (user_id, session.title_digest(title));
    CREATE UNIQUE INDEX IF NOT EXISTS sessions_one_active_key ON public.sessions (user_id) WHERE active;
    ALTER TABLE public.sessions
        DROP CONSTRAINT IF EXISTS sessions_title_length,
        ADD CONSTRAINT sessions_title_length CHECK (char_length(title) BETWEEN 1 AND 1000),
        ALTER COLUMN active SET NOT NULL,
        ALTER COLUMN created_at SET NOT NULL,
        ALTER COLUMN updated_at SET NOT NULL;
    UPDATE session.named_session_cache SET in_order = TRUE;
    RETURN TRUE;
END;
$$ LANGUAGE plpgsql;

SELECT session.order_named_sessions();

-- ---------------------------------------------------------------------------------------------------------
-- A new session, active, in the place of the one that was. No row: the title is taken.
CREATE FUNCTION session.create_named_session(p_user_id INTEGER, p_title TEXT)
RETURNS TABLE (new_id UUID, new_epoch BIGINT) AS $$
BEGIN
    -- The user's lock comes first; each statement after it sees what the one who had it before has done.
    INSERT INTO session.named_session_users AS u (user_id) VALUES (p_user_id)
    ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
    RETURNING u.epoch INTO new_epoch;
    -- Looked at first: a violated index is an error in the server's log for each ordinary answer of 409.
    IF EXISTS (SELECT 1 FROM public.sessions s
               WHERE s.user_id = p_user_id AND session.title_digest(s.title) = session.title_digest(p_title)) THEN
        RETURN;
    END IF;
    UPDATE public.sessions SET active = FALSE WHERE user_id = p_user_id AND active;
    INSERT INTO public.sessions (user_id, title, active) VALUES (p_user_id, p_title, TRUE)
    RETURNING id INTO new_id;
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- The session of that title is the active one from now on. No row: there is none of that title.
CREATE FUNCTION session.activate_named_session(p_user_id INTEGER, p_title TEXT)
RETURNS TABLE (active_id UUID, active_epoch BIGINT) AS $$
DECLARE
    was_active BOOLEAN;
BEGIN
    SELECT u.epoch INTO active_epoch FROM session.named_session_users u WHERE u.user_id = p_user_id FOR UPDATE;
    SELECT s.id, s.active INTO active_id, was_active FROM public.sessions s
    WHERE s.user_id = p_user_id AND session.title_digest(s.title) = session.title_digest(p_title);
    IF active_id IS NULL THEN
        RETURN;
    END IF;
    IF NOT was_active THEN
        UPDATE session.named_session_users u SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
        WHERE u.user_id = p_user_id
        RETURNING u.epoch INTO active_epoch;
        UPDATE public.sessions SET active = FALSE WHERE user_id = p_user_id AND active;
        UPDATE public.sessions SET active = TRUE WHERE id = active_id;
    END IF;
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- 'deleted', 'active' (then it stays) or 'not_found'.
CREATE FUNCTION session.delete_named_session(p_user_id INTEGER, p_title TEXT) RETURNS TEXT AS $$
DECLARE
    found_id UUID;
    is_active BOOLEAN;
BEGIN
    PERFORM 1 FROM session.named_session_users u WHERE u.user_id = p_user_id FOR UPDATE;
    SELECT s.id, s.active INTO found_id, is_active FROM public.sessions s
    WHERE s.user_id = p_user_id AND session.title_digest(s.title) = session.title_digest(p_title);
    IF found_id IS NULL THEN
        RETURN 'not_found';
    END IF;
    IF is_active THEN
        RETURN 'active';
    END IF;
    DELETE FROM public.sessions WHERE id = found_id;
    RETURN 'deleted';
END;
$$ LANGUAGE plpgsql;
