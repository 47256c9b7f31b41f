-- Sandbox sessions (ADR 0028): the documented table, an inbox whose work is claimed, and what makes it safe to hand out.
-- Roles are no part of this: `migrate` makes and grants them (session_service/database/sandbox_roles.py).

-- What sandboxes have no business with: they reach public.session and the functions public.session_*, nothing here.
CREATE SCHEMA sandbox;

-- ---------------------------------------------------------------------------------------------------------
CREATE TYPE public.inbox_status AS ENUM ('pending', 'processing', 'completed', 'failed');

CREATE TABLE public.session (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    messages JSONB,
    inbox_status public.inbox_status,
    sbx_config JSONB,
    parent UUID,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- beside the documented columns
    owner NAME NOT NULL DEFAULT CURRENT_USER, -- whose row it is; a child's owner is its parent's
    claim UUID, -- who holds this token may complete the work; null where nobody has claimed it
    claimed_by TEXT, -- the worker that claimed it last
    claimed_until TIMESTAMP WITH TIME ZONE, -- from then on it may be claimed again
    not_before TIMESTAMP WITH TIME ZONE, -- a retry waits until then
    attempts INTEGER NOT NULL DEFAULT 0, -- claims so far
    max_attempts INTEGER NOT NULL DEFAULT 5, -- one that was claimed so often and not completed is failed
    last_error TEXT,
    changed_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint, -- the transaction of the last change
    CONSTRAINT session_parent_fkey FOREIGN KEY (parent) REFERENCES public.session (id) ON DELETE SET NULL,
    -- As PostgreSQL holds it before compression. Not its text: each update of a row evaluates each of its checks.
    CONSTRAINT session_messages_size CHECK (pg_column_size(messages) <= 1048576),
    CONSTRAINT session_sbx_config_size CHECK (pg_column_size(sbx_config) <= 1048576),
    CONSTRAINT session_max_attempts CHECK (max_attempts BETWEEN 1 AND 100),
    CONSTRAINT session_claim CHECK (
        (claim IS NULL) = (claimed_until IS NULL) AND (claim IS NULL OR inbox_status = 'processing'))
);

CREATE INDEX idx_session_parent ON public.session (parent);
CREATE INDEX idx_session_inbox_status ON public.session (inbox_status);
-- What may be claimed, and from when on: at once ('-infinity', the oldest first), after a back-off, when a claim runs
-- out. The one index of the inbox, of unfinished work only, so that a claim costs the same however many rows there are.
CREATE INDEX idx_session_claimable
    ON public.session ((coalesce(claimed_until, not_before, '-infinity'::timestamptz)), created_at, id)
    WHERE inbox_status = 'pending' OR claim IS NOT NULL;
-- The same for those who may claim their own only. Rows of the shared role, which are most, are not in it.
CREATE INDEX idx_session_claimable_by_owner
    ON public.session (owner, (coalesce(claimed_until, not_before, '-infinity'::timestamptz)), created_at, id)
    WHERE (inbox_status = 'pending' OR claim IS NOT NULL) AND owner <> 'sessionuser';
-- Retention finds the oldest without reading the others.
CREATE INDEX idx_session_completed ON public.session (created_at) WHERE inbox_status = 'completed';
CREATE INDEX idx_session_changed_in ON public.session (changed_in);

-- Removed rows, for those who follow changes; kept for an hour.
CREATE TABLE sandbox.removals (
    id UUID NOT NULL,
    changed_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    removed_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_removals_changed_in ON sandbox.removals (changed_in);
CREATE INDEX idx_removals_removed_at ON sandbox.removals (removed_at);

-- The roles that were handed out, and what they are to be: a role may change its own password and settings, and
-- PostgreSQL knows no way to forbid it, so sandbox.guard puts them back.
CREATE TABLE sandbox.roles (
    role_name NAME PRIMARY KEY,
    own_rows_only BOOLEAN NOT NULL,
    connection_limit INTEGER NOT NULL,
    settings TEXT[] NOT NULL, -- name=value
    verifier TEXT, -- of the password (SCRAM-SHA-256); null where the role cannot log in
    made_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);

-- ---------------------------------------------------------------------------------------------------------
-- Who may see what. Row-level security decides for plain statements: one's own rows, whatever grants there are. The
-- roles that see every row have a policy of their own, every_row, which `migrate` makes; here it has the owner only.
ALTER TABLE public.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.session FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON public.session USING (owner = CURRENT_USER) WITH CHECK (owner = CURRENT_USER);
CREATE POLICY every_row ON public.session TO CURRENT_ROLE USING (TRUE) WITH CHECK (TRUE);

-- A mark, not a call: who has EXECUTE on it sees every row also through the functions below.
CREATE FUNCTION sandbox.sees_every_row() RETURNS BOOLEAN AS 'SELECT TRUE' LANGUAGE sql IMMUTABLE;
REVOKE EXECUTE ON FUNCTION sandbox.sees_every_row() FROM PUBLIC;

-- Whose rows the caller is restricted to; null: to nobody's. Within a SECURITY DEFINER function CURRENT_USER is the
-- function's owner; who called is the role that was set, else the one that logged in.
CREATE FUNCTION sandbox.only_owner() RETURNS NAME AS $$
    SELECT CASE WHEN NOT has_function_privilege(caller, 'sandbox.sees_every_row()', 'EXECUTE') THEN caller END
    FROM (SELECT coalesce(nullif(current_setting('role'), 'none')::name, SESSION_USER) AS caller) c
$$ LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------------------
-- The documented trigger. And: whoever sets a status by plain SQL takes the row out of its claim, and what becomes
-- pending so begins anew. A row that is set to 'processing' has no claim, and is left alone by those who claim.
CREATE FUNCTION public.update_session_updated_at() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at := clock_timestamp(); -- not now(): it rises within a transaction too
    NEW.changed_in := pg_current_xact_id()::text::bigint;
    IF NEW.inbox_status IS DISTINCT FROM OLD.inbox_status AND NEW.claim IS NOT DISTINCT FROM OLD.claim THEN
        NEW.claim := NULL;
        NEW.claimed_until := NULL;
        NEW.not_before := NULL;
        IF NEW.inbox_status = 'pending' THEN
            NEW.attempts := 0;
        END IF;
    END IF;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER update_session_updated_at BEFORE UPDATE ON public.session
    FOR EACH ROW EXECUTE FUNCTION public.update_session_updated_at();

-- A parent must be there and be visible to who names it: for one that is not, the answer is that of the foreign key,
-- which looks past row-level security, for one that is missing. The row then belongs to its parent's owner. No row
-- stands above itself: each ancestor is locked, so that of two moves that would make a ring together one waits for the
-- other, and both for each other is a deadlock, which PostgreSQL ends.
CREATE FUNCTION public.session_check_parent() RETURNS TRIGGER AS $$
DECLARE
    above UUID := NEW.parent;
    next_above UUID;
    above_owner NAME;
    levels INTEGER := 0;
BEGIN
    LOOP
        IF above = NEW.id THEN
            RAISE EXCEPTION 'parent: a session cannot stand above itself'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'session_parent_cycle', SCHEMA = 'public',
                      TABLE = 'session', COLUMN = 'parent';
        END IF;
        IF TG_OP = 'INSERT' THEN
            SELECT s.parent, s.owner INTO next_above, above_owner FROM public.session s WHERE s.id = above;
        ELSE
            SELECT s.parent, s.owner INTO next_above, above_owner FROM public.session s WHERE s.id = above FOR SHARE;
        END IF;
        IF NOT FOUND THEN
            EXIT WHEN levels > 0; -- it was deleted a moment ago, and its child has no parent any more
            RAISE EXCEPTION 'insert or update on table "session" violates foreign key constraint "session_parent_fkey"'
                USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'session_parent_fkey', SCHEMA = 'public',
                      TABLE = 'session', DETAIL = format('Key (parent)=(%s) is not present in table "session".', above);
        END IF;
        IF levels = 0 THEN
            NEW.owner := above_owner;
        END IF;
        -- Nothing stands below a row that is being made.
        EXIT WHEN TG_OP = 'INSERT' OR next_above IS NULL;
        levels := levels + 1;
        IF levels > 1000 THEN
            RAISE EXCEPTION 'parent: it stands more than 1000 levels deep'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'session_parent_depth', SCHEMA = 'public',
                      TABLE = 'session', COLUMN = 'parent';
        END IF;
        above := next_above;
    END LOOP;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_parent_of_new BEFORE INSERT ON public.session
    FOR EACH ROW WHEN (NEW.parent IS NOT NULL) EXECUTE FUNCTION public.session_check_parent();
CREATE TRIGGER session_parent_of_moved BEFORE UPDATE OF parent ON public.session
    FOR EACH ROW WHEN (NEW.parent IS NOT NULL AND NEW.parent IS DISTINCT FROM OLD.parent)
    EXECUTE FUNCTION public.session_check_parent();

-- Who moves a row below another owner's moves what stands below it too. Only those who see every row can.
CREATE FUNCTION sandbox.hand_over_children() RETURNS TRIGGER AS $$
BEGIN
    UPDATE public.session s SET owner = NEW.owner WHERE s.parent = NEW.id AND s.owner <> NEW.owner;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_owner_changed AFTER UPDATE OF owner, parent ON public.session
    FOR EACH ROW WHEN (OLD.owner <> NEW.owner) EXECUTE FUNCTION sandbox.hand_over_children();

-- One notification a statement, and only of what became pending: ids, separated by commas. A payload is below 8,000
-- bytes: of more than 200 the first 200 are named, and a last element +N counts the others. They are collected row by
-- row in a setting of the transaction, 'count,id,id,…': a statement that makes nothing pending, as each claim is one, has
-- next to nothing to do, where transition tables would cost it a third of its time. Who writes nonsense into the
-- setting notifies nonsense, which NOTIFY is there for anyway.
CREATE FUNCTION sandbox.collect_pending() RETURNS TRIGGER AS $$
DECLARE
    collected TEXT := coalesce(nullif(current_setting('sandbox.pending', TRUE), ''), '0');
    number INTEGER := split_part(collected, ',', 1)::integer + 1;
BEGIN
    PERFORM set_config('sandbox.pending', number || substr(collected, strpos(collected || ',', ','))
        || CASE WHEN number <= 200 THEN ',' || NEW.id ELSE '' END, TRUE);
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

CREATE FUNCTION sandbox.notify_inbox() RETURNS TRIGGER AS $$
DECLARE
    collected TEXT := current_setting('sandbox.pending', TRUE);
    number INTEGER;
BEGIN
    IF collected <> '' THEN
        number := split_part(collected, ',', 1)::integer;
        PERFORM pg_notify('sandbox_inbox', substr(collected, strpos(collected, ',') + 1)
            || CASE WHEN number > 200 THEN ',+' || number - 200 ELSE '' END);
        PERFORM set_config('sandbox.pending', '', TRUE);
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER session_collect_new AFTER INSERT ON public.session
    FOR EACH ROW WHEN (NEW.inbox_status = 'pending') EXECUTE FUNCTION sandbox.collect_pending();
CREATE TRIGGER session_collect_changed AFTER UPDATE ON public.session
    FOR EACH ROW WHEN (NEW.inbox_status = 'pending' AND OLD.inbox_status IS DISTINCT FROM 'pending')
    EXECUTE FUNCTION sandbox.collect_pending();
CREATE TRIGGER session_notify AFTER INSERT OR UPDATE ON public.session
    FOR EACH STATEMENT EXECUTE FUNCTION sandbox.notify_inbox();

CREATE FUNCTION sandbox.note_removals() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO sandbox.removals (id) SELECT o.id FROM old_rows o;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_note_removals AFTER DELETE ON public.session
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION sandbox.note_removals();

-- ---------------------------------------------------------------------------------------------------------
-- The inbox. Its rules stand in session_service/domain/inbox.py too, and a test compares the two. Functions that write
-- claims are SECURITY DEFINER: nobody who works with the table may write those columns by plain SQL.

CREATE FUNCTION sandbox.retry_delay(p_attempts INTEGER) RETURNS INTERVAL AS $$
    SELECT make_interval(secs => least(300, 2 ^ least(greatest(p_attempts, 1) - 1, 30)))
$$ LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp;

-- Raises what is wrong with a visibility timeout, under the name of the argument.
CREATE FUNCTION sandbox.visibility(p_visibility_s DOUBLE PRECISION) RETURNS INTERVAL AS $$
BEGIN
    IF p_visibility_s IS NULL OR NOT p_visibility_s BETWEEN 0.1 AND 43200 THEN
        RAISE EXCEPTION 'visibility: must be 0.1 to 43200 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN make_interval(secs => p_visibility_s);
END;
$$ LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp;

-- Said of an id that is unknown, or somebody else's, as well.
CREATE FUNCTION sandbox.claim_lost(p_id UUID) RETURNS VOID AS $$
BEGIN
    RAISE EXCEPTION 'CLAIM_LOST: session % is not, or no longer, claimed by this claim', p_id USING ERRCODE = 'SB001';
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- One row to work on, or none. First what was claimed before: claims that have run out, retries whose back-off is over
-- (they are older than what waits, since the oldest is claimed first); then the oldest that waits. What others are
-- claiming at the moment is passed over. A claim that ran out for the last time makes its row 'failed', and the next is
-- looked for. The two statements differ in whose rows they look at: each has an index of its own.
-- enable_sort: an index has the order; with statistics from before the table grew, the planner may not believe it.
CREATE FUNCTION public.session_claim(p_worker TEXT, p_visibility_s DOUBLE PRECISION DEFAULT 30)
RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
    visible INTERVAL := sandbox.visibility(p_visibility_s);
    moment TIMESTAMP WITH TIME ZONE := clock_timestamp();
    claimed public.session;
BEGIN
    IF p_worker IS NULL OR length(p_worker) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'worker: must have 1 to 200 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR _ IN 1..100 LOOP -- of rows that have failed, a hundred a call
        IF restricted_to IS NULL THEN
            UPDATE public.session s
            SET inbox_status = CASE WHEN s.claim IS NOT NULL AND s.attempts >= s.max_attempts
                                    THEN 'failed' ELSE 'processing' END::public.inbox_status,
                claim = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN gen_random_uuid() END,
                claimed_until = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN moment + visible END,
                claimed_by = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN p_worker
                                  ELSE s.claimed_by END,
                last_error = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN s.last_error
                                  ELSE format('claimed %s times, and never completed in time', s.attempts) END,
                attempts = s.attempts + CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN 1 ELSE 0 END,
                not_before = NULL
            WHERE s.id =
                coalesce(
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) > '-infinity'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) <= moment
                     ORDER BY coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz), c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED),
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) = '-infinity'
                     ORDER BY c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED))
            RETURNING s.* INTO claimed;
        ELSE
            UPDATE public.session s
            SET inbox_status = CASE WHEN s.claim IS NOT NULL AND s.attempts >= s.max_attempts
                                    THEN 'failed' ELSE 'processing' END::public.inbox_status,
                claim = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN gen_random_uuid() END,
                claimed_until = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN moment + visible END,
                claimed_by = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN p_worker
                                  ELSE s.claimed_by END,
                last_error = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN s.last_error
                                  ELSE format('claimed %s times, and never completed in time', s.attempts) END,
                attempts = s.attempts + CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN 1 ELSE 0 END,
                not_before = NULL
            WHERE s.id =
                coalesce(
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND c.owner = restricted_to AND c.owner <> 'sessionuser'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) > '-infinity'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) <= moment
                     ORDER BY coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz), c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED),
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND c.owner = restricted_to AND c.owner <> 'sessionuser'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) = '-infinity'
                     ORDER BY c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED))
            RETURNING s.* INTO claimed;
        END IF;
        EXIT WHEN NOT FOUND;
        IF claimed.inbox_status = 'processing' THEN
            RETURN NEXT claimed;
            EXIT;
        END IF;
    END LOOP;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off;

-- The claim lasts for p_visibility_s from now on. One that has run out is taken up again where nobody else has it.
CREATE FUNCTION public.session_extend(p_id UUID, p_claim UUID, p_visibility_s DOUBLE PRECISION DEFAULT 30)
RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
    visible INTERVAL := sandbox.visibility(p_visibility_s);
BEGIN
    RETURN QUERY
    UPDATE public.session s SET claimed_until = clock_timestamp() + visible
    WHERE s.id = p_id AND s.claim = p_claim AND (restricted_to IS NULL OR s.owner = restricted_to)
    RETURNING s.*;
    IF NOT FOUND THEN
        PERFORM sandbox.claim_lost(p_id);
    END IF;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The work is done. p_messages replaces the row's messages; null leaves them.
CREATE FUNCTION public.session_complete(p_id UUID, p_claim UUID, p_messages JSONB DEFAULT NULL)
RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
BEGIN
    RETURN QUERY
    UPDATE public.session s
    SET inbox_status = 'completed', messages = coalesce(p_messages, s.messages), claim = NULL, claimed_until = NULL
    WHERE s.id = p_id AND s.claim = p_claim AND (restricted_to IS NULL OR s.owner = restricted_to)
    RETURNING s.*;
    IF NOT FOUND THEN
        PERFORM sandbox.claim_lost(p_id);
    END IF;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The work was not done. With p_retry it is pending again after a back-off, or after p_retry_after_s, while it has
-- attempts left; else it is failed.
CREATE FUNCTION public.session_fail(
    p_id UUID, p_claim UUID, p_error TEXT DEFAULT NULL, p_retry BOOLEAN DEFAULT TRUE,
    p_retry_after_s DOUBLE PRECISION DEFAULT NULL
) RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
BEGIN
    IF NOT p_retry_after_s BETWEEN 0 AND 43200 THEN
        RAISE EXCEPTION 'retry_after: must be 0 to 43200 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    UPDATE public.session s
    SET inbox_status = CASE WHEN coalesce(p_retry, TRUE) AND s.attempts < s.max_attempts
                            THEN 'pending' ELSE 'failed' END::public.inbox_status,
        not_before = CASE WHEN coalesce(p_retry, TRUE) AND s.attempts < s.max_attempts
                          THEN clock_timestamp()
                               + coalesce(make_interval(secs => p_retry_after_s), sandbox.retry_delay(s.attempts)) END,
        last_error = left(p_error, 2000), claim = NULL, claimed_until = NULL
    WHERE s.id = p_id AND s.claim = p_claim AND (restricted_to IS NULL OR s.owner = restricted_to)
    RETURNING s.*;
    IF NOT FOUND THEN
        PERFORM sandbox.claim_lost(p_id);
    END IF;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------------------
-- Messages and the tree. These run with the caller's rights: row-level security decides.

-- One message more, in one statement: of two at once both stay. What is no array becomes the first element.
CREATE FUNCTION public.session_append_message(p_id UUID, p_message JSONB) RETURNS SETOF public.session AS $$
BEGIN
    IF p_message IS NULL THEN
        RAISE EXCEPTION 'message: is required' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    RETURN QUERY
    UPDATE public.session s
    SET messages = CASE coalesce(jsonb_typeof(s.messages), 'null')
                       WHEN 'array' THEN s.messages || jsonb_build_array(p_message)
                       WHEN 'null' THEN jsonb_build_array(p_message)
                       ELSE jsonb_build_array(s.messages, p_message) END
    WHERE s.id = p_id
    RETURNING s.*;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'SESSION_NOT_FOUND: there is no session %', p_id USING ERRCODE = 'no_data_found';
    END IF;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- What stands below a row, down to p_depth levels: level by level, in each the oldest first, p_limit rows at most.
CREATE FUNCTION public.session_children(p_id UUID, p_depth INTEGER DEFAULT 1, p_limit INTEGER DEFAULT 1000)
RETURNS SETOF public.session AS $$
BEGIN
    IF p_depth IS NULL OR p_depth NOT BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'depth: must be 1 to 100' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_limit IS NULL OR p_limit NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'limit: must be 1 to 10000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH RECURSIVE below (id, depth) AS (
        SELECT s.id, 1 FROM public.session s WHERE s.parent = p_id
        UNION ALL
        SELECT s.id, b.depth + 1 FROM below b JOIN public.session s ON s.parent = b.id WHERE b.depth < p_depth
    )
    SELECT s.* FROM below b JOIN public.session s USING (id) ORDER BY b.depth, s.created_at, s.id LIMIT p_limit;
END;
$$ LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp;

-- Deletes a row; says whether there was one. For roles that see their own rows only: they have no DELETE, since who
-- has it may lock the whole table. Children lose their parent, and stay.
CREATE FUNCTION public.session_delete(p_id UUID) RETURNS BOOLEAN AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
BEGIN
    DELETE FROM public.session s WHERE s.id = p_id AND (restricted_to IS NULL OR s.owner = restricted_to);
    RETURN FOUND;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

REVOKE EXECUTE ON FUNCTION public.session_claim(TEXT, DOUBLE PRECISION) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_extend(UUID, UUID, DOUBLE PRECISION) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_complete(UUID, UUID, JSONB) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_fail(UUID, UUID, TEXT, BOOLEAN, DOUBLE PRECISION) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_append_message(UUID, JSONB) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_children(UUID, INTEGER, INTEGER) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_delete(UUID) FROM PUBLIC;

-- ---------------------------------------------------------------------------------------------------------
-- For the service. Changes: rows that were written in transactions from p_from on, removed ones included. A follower
-- begins at change_cursor() and goes on from there; the same change may come again, so it remembers what it has told
-- since its cursor, by (id, changed_in). What is not committed yet is later than any cursor: nothing is passed over.
CREATE FUNCTION sandbox.change_cursor() RETURNS BIGINT AS $$
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint
$$ LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp;

CREATE FUNCTION sandbox.changes_since(p_from BIGINT, p_limit INTEGER DEFAULT 1000)
RETURNS TABLE (id UUID, inbox_status public.inbox_status, removed BOOLEAN, changed_in BIGINT) AS $$
    SELECT c.* FROM (
        (SELECT s.id, s.inbox_status, FALSE, s.changed_in FROM public.session s
         WHERE s.changed_in >= p_from ORDER BY s.changed_in LIMIT p_limit)
        UNION ALL
        (SELECT r.id, NULL, TRUE, r.changed_in FROM sandbox.removals r
         WHERE r.changed_in >= p_from ORDER BY r.changed_in LIMIT p_limit)
    ) c (id, inbox_status, removed, changed_in)
    ORDER BY c.changed_in, c.id LIMIT p_limit
$$ LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp;

-- The document's delete, a batch of it; returns how many it deleted. What somebody is working on at the moment is left
-- to the next batch.
CREATE FUNCTION sandbox.delete_completed(
    p_older_than INTERVAL DEFAULT INTERVAL '30 days', p_limit INTEGER DEFAULT 1000
) RETURNS INTEGER AS $$
DECLARE
    deleted INTEGER;
BEGIN
    DELETE FROM public.session d WHERE d.id IN (
        SELECT s.id FROM public.session s
        WHERE s.inbox_status = 'completed' AND s.created_at < now() - p_older_than
        ORDER BY s.created_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- Sessions of this database with their statements, of other roles too: SECURITY DEFINER, since PostgreSQL shows those
-- to superusers and members of pg_read_all_stats only. For the service, by the views below.
CREATE FUNCTION sandbox.activity() RETURNS SETOF pg_stat_activity AS $$
    SELECT a.* FROM pg_stat_activity a WHERE a.datname = current_database()
$$ LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The document's monitoring queries.
CREATE VIEW sandbox.database_size AS
    SELECT pg_database_size(current_database()) AS bytes, pg_size_pretty(pg_database_size(current_database())) AS pretty;
CREATE VIEW sandbox.table_size AS
    SELECT pg_total_relation_size('public.session'::regclass) AS bytes,
           pg_size_pretty(pg_total_relation_size('public.session'::regclass)) AS pretty;
CREATE VIEW sandbox.connections AS
    SELECT a.usename AS role_name, count(*) AS connections,
           count(*) FILTER (WHERE a.state = 'active') AS active,
           max(now() - a.xact_start) AS oldest_transaction
    FROM sandbox.activity() a WHERE a.backend_type = 'client backend' GROUP BY a.usename;
CREATE VIEW sandbox.slow_queries AS
    SELECT a.pid, a.usename AS role_name, now() - a.query_start AS duration, a.query
    FROM sandbox.activity() a WHERE a.state = 'active' AND now() - a.query_start > INTERVAL '5 seconds';
CREATE VIEW sandbox.status_counts AS
    SELECT s.inbox_status, count(*) AS sessions FROM public.session s GROUP BY s.inbox_status;
-- One row; null where nothing is pending.
CREATE VIEW sandbox.oldest_pending AS
    SELECT now() - (SELECT s.created_at FROM public.session s
                    WHERE (s.inbox_status = 'pending' OR s.claim IS NOT NULL)
                      AND coalesce(s.claimed_until, s.not_before, '-infinity'::timestamptz) = '-infinity'
                    ORDER BY s.created_at, s.id LIMIT 1) AS age;

-- ---------------------------------------------------------------------------------------------------------
-- The roles. A role may reset its own timeouts, change its own settings for its next connections, and change its own
-- password. These put an end to it.

-- Makes a role what its row says. Settings that only a superuser may give are struck out where there is none.
CREATE FUNCTION sandbox.assert_role(p_role_name NAME) RETURNS VOID AS $$
DECLARE
    wanted sandbox.roles;
    setting TEXT;
BEGIN
    SELECT * INTO STRICT wanted FROM sandbox.roles r WHERE r.role_name = p_role_name;
    EXECUTE format('ALTER ROLE %I RESET ALL', p_role_name);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', p_role_name, current_database());
    FOREACH setting IN ARRAY wanted.settings LOOP
        BEGIN
            EXECUTE format('ALTER ROLE %I SET %I = %L', p_role_name, split_part(setting, '=', 1),
                           substr(setting, strpos(setting, '=') + 1));
        EXCEPTION WHEN insufficient_privilege THEN
            UPDATE sandbox.roles r SET settings = array_remove(r.settings, setting) WHERE r.role_name = p_role_name;
        END;
    END LOOP;
    EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', p_role_name, wanted.connection_limit);
    IF wanted.verifier IS NULL THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', p_role_name);
    ELSE
        EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', p_role_name, wanted.verifier);
    END IF;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION sandbox.assert_role(NAME) FROM PUBLIC;

-- Ends what handed-out roles do for longer than p_limit in one transaction, and puts back what they changed of
-- themselves. Returns how many it ended and put back. For the service, every few seconds, and one pod at a time: two that
-- put the same role back at once meet in an error. Removals older than an hour go too.
CREATE FUNCTION sandbox.guard(p_limit INTERVAL DEFAULT INTERVAL '2 minutes')
RETURNS TABLE (ended INTEGER, put_back INTEGER) AS $$
DECLARE
    handed_out sandbox.roles;
    changed BOOLEAN;
BEGIN
    BEGIN
        SELECT count(*) INTO ended FROM (
            SELECT pg_terminate_backend(a.pid) AS done
            FROM pg_stat_activity a JOIN sandbox.roles r ON r.role_name = a.usename
            WHERE a.datname = current_database() AND a.xact_start < clock_timestamp() - p_limit
        ) t WHERE t.done;
    EXCEPTION WHEN insufficient_privilege THEN
        ended := 0; -- its owner is no superuser, and was not granted pg_signal_backend
    END;
    put_back := 0;
    FOR handed_out IN SELECT * FROM sandbox.roles r ORDER BY r.role_name LOOP
        SELECT (SELECT coalesce(array_agg(s ORDER BY s), '{}') FROM pg_db_role_setting d, unnest(d.setconfig) s
                WHERE d.setrole = r.oid
                  AND d.setdatabase IN (0, (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())))
               IS DISTINCT FROM (SELECT coalesce(array_agg(s ORDER BY s), '{}') FROM unnest(handed_out.settings) s)
        INTO changed FROM pg_roles r WHERE r.rolname = handed_out.role_name;
        IF NOT changed AND (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = CURRENT_USER) THEN
            SELECT p.rolpassword IS DISTINCT FROM handed_out.verifier INTO changed
            FROM pg_authid p WHERE p.rolname = handed_out.role_name;
        END IF;
        IF changed THEN
            PERFORM sandbox.assert_role(handed_out.role_name);
            put_back := put_back + 1;
        END IF;
    END LOOP;
    DELETE FROM sandbox.removals r WHERE r.removed_at < now() - INTERVAL '1 hour';
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION sandbox.guard(INTERVAL) FROM PUBLIC;
