-- Sandbox sessions over HTTP (docs/sandbox-sessions.md, "Over HTTP"): lists in the order of creation, JSON as the text
-- that it came as, and a bound on how long that text may be.

-- Each list has its order from one of these: however many rows there are, a page costs the same.
CREATE INDEX idx_session_created_at ON public.session (created_at, id);
CREATE INDEX idx_session_inbox_status_created_at ON public.session (inbox_status, created_at, id);
CREATE INDEX idx_session_parent_created_at ON public.session (parent, created_at, id);

-- JSONB holds 1e131071 in a few bytes, and its text has 131,072 digits: a row within the limit of 1 MiB could be shown
-- to nobody who does not have gigabytes. What is shorter than 512 bytes cannot come near.
CREATE FUNCTION sandbox.check_text() RETURNS TRIGGER AS $$
BEGIN
    IF pg_column_size(NEW.messages) > 512 AND octet_length(NEW.messages::text) > 8388608 THEN
        RAISE EXCEPTION 'messages: has more than 8 MiB as text'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'session_messages_size', SCHEMA = 'public',
                  TABLE = 'session', COLUMN = 'messages';
    END IF;
    IF pg_column_size(NEW.sbx_config) > 512 AND octet_length(NEW.sbx_config::text) > 8388608 THEN
        RAISE EXCEPTION 'sbx_config: has more than 8 MiB as text'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'session_sbx_config_size', SCHEMA = 'public',
                  TABLE = 'session', COLUMN = 'sbx_config';
    END IF;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_check_text BEFORE INSERT OR UPDATE OF messages, sbx_config ON public.session
    FOR EACH ROW WHEN (pg_column_size(NEW.messages) > 512 OR pg_column_size(NEW.sbx_config) > 512)
    EXECUTE FUNCTION sandbox.check_text();

-- The JSON of a field of a request. What JSON may say and JSONB cannot hold is told by the field's name.
CREATE FUNCTION sandbox.json_of(p_field TEXT, p_text TEXT) RETURNS JSONB AS $$
BEGIN
    RETURN p_text::jsonb;
EXCEPTION
    WHEN untranslatable_character THEN
        RAISE EXCEPTION '%: must not hold the character U+0000', p_field USING ERRCODE = 'invalid_parameter_value';
    WHEN invalid_text_representation THEN
        RAISE EXCEPTION '%: is not valid JSON', p_field USING ERRCODE = 'invalid_parameter_value';
    WHEN numeric_value_out_of_range THEN
        RAISE EXCEPTION '%: holds a number that is too large', p_field USING ERRCODE = 'invalid_parameter_value';
    WHEN statement_too_complex OR program_limit_exceeded THEN
        RAISE EXCEPTION '%: is nested too deeply', p_field USING ERRCODE = 'invalid_parameter_value';
END;
$$ LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp;

-- What HTTP shows of a row. Instants are kept within what RFC 3339 can say: sandboxes may set any, infinity too.
CREATE FUNCTION sandbox.shown(p_row public.session)
RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
               created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID) AS $$
    SELECT p_row.id, p_row.messages::text, p_row.inbox_status::text, p_row.sbx_config::text, p_row.parent,
           greatest(least(p_row.created_at, '9999-12-31 23:59:59.999999Z'), '0001-01-01 00:00:00Z'),
           greatest(least(p_row.updated_at, '9999-12-31 23:59:59.999999Z'), '0001-01-01 00:00:00Z'),
           p_row.claim
$$ LANGUAGE sql STABLE;

-- As many of the cursor's rows as fit: p_limit rows, and none after p_bytes of content. One more row says that there
-- are more: it is beyond, and shows nothing. position: created_at as it is, to begin after.
CREATE FUNCTION sandbox.take(p_rows REFCURSOR, p_limit INTEGER, p_bytes BIGINT)
RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
               created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID,
               "position" TEXT, beyond BOOLEAN) AS $$
DECLARE
    one public.session;
    taken INTEGER := 0;
    bytes BIGINT := 0;
BEGIN
    beyond := FALSE;
    LOOP
        FETCH p_rows INTO one;
        EXIT WHEN NOT FOUND;
        IF taken >= p_limit OR bytes >= p_bytes THEN
            messages := NULL;
            sbx_config := NULL;
            beyond := TRUE;
            RETURN NEXT;
            EXIT;
        END IF;
        SELECT s.* INTO id, messages, inbox_status, sbx_config, parent, created_at, updated_at, claim
        FROM sandbox.shown(one) s;
        "position" := one.created_at::text;
        RETURN NEXT;
        taken := taken + 1;
        bytes := bytes + coalesce(octet_length(messages), 0) + coalesce(octet_length(sbx_config), 0);
    END LOOP;
    CLOSE p_rows;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- A page of sessions, the oldest first, after the one that (p_after, p_after_id) names; null: from the start. Each
-- combination of filters is a statement of its own, so that each has its plan.
CREATE FUNCTION sandbox.page(
    p_status public.inbox_status, p_parent UUID, p_after TEXT, p_after_id UUID, p_limit INTEGER, p_bytes BIGINT
) RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
                 created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID,
                 "position" TEXT, beyond BOOLEAN) AS $$
DECLARE
    found_rows REFCURSOR;
    after TIMESTAMP WITH TIME ZONE;
BEGIN
    BEGIN
        after := p_after;
    EXCEPTION WHEN invalid_datetime_format OR datetime_field_overflow THEN
        RAISE EXCEPTION 'cursor: is none of this list' USING ERRCODE = 'invalid_parameter_value';
    END;
    OPEN found_rows FOR EXECUTE 'SELECT s.* FROM public.session s WHERE TRUE'
        || CASE WHEN p_status IS NOT NULL THEN ' AND s.inbox_status = $1' ELSE '' END
        || CASE WHEN p_parent IS NOT NULL THEN ' AND s.parent = $2' ELSE '' END
        || CASE WHEN after IS NOT NULL THEN ' AND (s.created_at, s.id) > ($3, $4)' ELSE '' END
        || ' ORDER BY s.created_at, s.id LIMIT $5'
        USING p_status, p_parent, after, p_after_id, p_limit + 1;
    RETURN QUERY SELECT t.* FROM sandbox.take(found_rows, p_limit, p_bytes) t;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- What stands below a session, as public.session_children has it.
CREATE FUNCTION sandbox.children(p_id UUID, p_depth INTEGER, p_limit INTEGER, p_bytes BIGINT)
RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
               created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID,
               "position" TEXT, beyond BOOLEAN) AS $$
DECLARE
    found_rows REFCURSOR;
BEGIN
    IF NOT EXISTS (SELECT FROM public.session s WHERE s.id = p_id) THEN
        RAISE EXCEPTION 'SESSION_NOT_FOUND: there is no session %', p_id USING ERRCODE = 'no_data_found';
    END IF;
    OPEN found_rows FOR SELECT s.* FROM public.session_children(p_id, p_depth, p_limit + 1) s;
    RETURN QUERY SELECT t.* FROM sandbox.take(found_rows, p_limit, p_bytes) t;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;
