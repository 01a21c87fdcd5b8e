--
-- PostgreSQL database dump
--

\restrict TAZL2njulzFVc2BlBTcwmW0APBSDZMbMsfpeUuq7dzqfZchnGg5V4WrR1aEz4ws

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: tunemill_append_only(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.tunemill_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin raise exception '% is append-only', tg_table_name; end $$;


--
-- Name: tunemill_month_is_open(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.tunemill_month_is_open() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin if exists (select 1 from closed_period where period = new.period) then raise exception '% is closed', new.period; end if; return new; end $$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: attempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.attempt (
    record_id character varying NOT NULL,
    take_id character varying NOT NULL,
    run_id character varying NOT NULL,
    worker_id character varying NOT NULL,
    outcome character varying NOT NULL,
    reasons json NOT NULL,
    adopted boolean NOT NULL,
    batch_id character varying NOT NULL,
    batch_size integer NOT NULL,
    plan_ms integer NOT NULL,
    encode_ms integer NOT NULL,
    diffuse_ms integer NOT NULL,
    decode_ms integer NOT NULL,
    post_ms integer NOT NULL,
    audio_ms bigint NOT NULL,
    at_ms bigint NOT NULL,
    plan_id character varying DEFAULT ''::character varying NOT NULL,
    CONSTRAINT ck_attempt_known_outcome CHECK (((outcome)::text = ANY ((ARRAY['accepted'::character varying, 'rejected'::character varying, 'failed'::character varying])::text[])))
);


--
-- Name: budget; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.budget (
    budget_id bigint NOT NULL,
    scope character varying NOT NULL,
    name character varying NOT NULL,
    period character varying NOT NULL,
    usd_micros bigint,
    set_ms bigint NOT NULL,
    CONSTRAINT ck_budget_known_scope CHECK (((scope)::text = ANY ((ARRAY['month'::character varying, 'catalog'::character varying, 'run'::character varying])::text[])))
);


--
-- Name: budget_budget_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.budget_budget_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: budget_budget_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.budget_budget_id_seq OWNED BY public.budget.budget_id;


--
-- Name: closed_period; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.closed_period (
    period character varying NOT NULL,
    closed_ms bigint NOT NULL,
    closed_by character varying NOT NULL,
    time_zone character varying NOT NULL,
    high_water_id bigint NOT NULL,
    entries bigint NOT NULL,
    control_usd_micros bigint NOT NULL,
    sha256 character varying NOT NULL
);


--
-- Name: cost_entry; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cost_entry (
    entry_id bigint NOT NULL,
    posting_id bigint NOT NULL,
    period character varying NOT NULL,
    category character varying NOT NULL,
    catalog character varying NOT NULL,
    zone character varying NOT NULL,
    genre character varying NOT NULL,
    run_id character varying NOT NULL,
    usd_micros bigint,
    ms bigint NOT NULL,
    tracks integer NOT NULL,
    attempts integer NOT NULL,
    audio_ms bigint NOT NULL
);


--
-- Name: cost_entry_entry_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.cost_entry_entry_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: cost_entry_entry_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.cost_entry_entry_id_seq OWNED BY public.cost_entry.entry_id;


--
-- Name: cost_monthly; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cost_monthly (
    period character varying NOT NULL,
    applies_to character varying NOT NULL,
    kind character varying NOT NULL,
    category character varying NOT NULL,
    catalog character varying NOT NULL,
    zone character varying NOT NULL,
    genre character varying NOT NULL,
    run_id character varying NOT NULL,
    provider character varying NOT NULL,
    gpu character varying NOT NULL,
    market character varying NOT NULL,
    usd_micros bigint NOT NULL,
    unpriced_ms bigint NOT NULL,
    ms bigint NOT NULL,
    tracks bigint NOT NULL,
    attempts bigint NOT NULL,
    audio_ms bigint NOT NULL
);


--
-- Name: invoice; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.invoice (
    invoice_id character varying NOT NULL,
    provider character varying NOT NULL,
    number character varying NOT NULL,
    currency character varying NOT NULL,
    usd_per_unit character varying NOT NULL,
    rate_source character varying NOT NULL,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    file_name character varying NOT NULL,
    text character varying NOT NULL,
    total_usd_micros bigint NOT NULL,
    topup_usd_micros bigint NOT NULL,
    replaces character varying,
    imported_ms bigint NOT NULL
);


--
-- Name: invoice_line; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.invoice_line (
    line_id character varying NOT NULL,
    invoice_id character varying NOT NULL,
    number integer NOT NULL,
    provider character varying NOT NULL,
    meter character varying NOT NULL,
    external_id character varying NOT NULL,
    sku character varying NOT NULL,
    description character varying NOT NULL,
    start_ms bigint,
    end_ms bigint,
    quantity character varying NOT NULL,
    unit character varying NOT NULL,
    unit_price character varying NOT NULL,
    usd_micros bigint NOT NULL,
    CONSTRAINT ck_invoice_line_known_meter CHECK (((meter)::text = ANY ((ARRAY['gpu'::character varying, 'disk'::character varying, 'egress'::character varying, 'credit'::character varying, 'tax'::character varying, 'topup'::character varying])::text[])))
);


--
-- Name: loss; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.loss (
    worker_id character varying NOT NULL,
    take_id character varying NOT NULL,
    run_id character varying NOT NULL,
    at_ms bigint NOT NULL
);


--
-- Name: posting; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.posting (
    posting_id bigint NOT NULL,
    posted_ms bigint NOT NULL,
    period character varying NOT NULL,
    applies_to character varying NOT NULL,
    key character varying NOT NULL,
    kind character varying NOT NULL,
    meter character varying NOT NULL,
    rental_id character varying,
    provider character varying NOT NULL,
    gpu character varying NOT NULL,
    market character varying NOT NULL,
    region character varying NOT NULL,
    sku character varying NOT NULL,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    usd_micros bigint,
    rate_usd_micros_per_h bigint,
    source character varying NOT NULL,
    invoice_line_id character varying,
    method character varying NOT NULL,
    digest character varying NOT NULL,
    reverses_id bigint,
    CONSTRAINT ck_posting_known_kind CHECK (((kind)::text = ANY ((ARRAY['billed'::character varying, 'estimate'::character varying, 'work'::character varying])::text[])))
);


--
-- Name: posting_posting_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.posting_posting_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: posting_posting_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.posting_posting_id_seq OWNED BY public.posting.posting_id;


--
-- Name: rendition; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rendition (
    take_id character varying NOT NULL,
    record_id character varying NOT NULL,
    run_id character varying NOT NULL,
    worker_id character varying NOT NULL,
    audio_key character varying NOT NULL,
    sha256 character varying NOT NULL,
    pcm_sha256 character varying NOT NULL,
    bytes bigint NOT NULL,
    audio_ms bigint NOT NULL,
    dit_seed bigint NOT NULL,
    lm_seed bigint NOT NULL,
    model_fingerprint character varying NOT NULL,
    planner_fingerprint character varying NOT NULL,
    code character varying NOT NULL,
    gpu character varying NOT NULL,
    noise boolean NOT NULL,
    loudness_lufs double precision,
    created_at_ms bigint NOT NULL,
    sidecar json NOT NULL
);


--
-- Name: rental; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rental (
    rental_id character varying NOT NULL,
    provider character varying NOT NULL,
    external_id character varying NOT NULL,
    gpu character varying NOT NULL,
    gpu_count integer NOT NULL,
    market character varying NOT NULL,
    region character varying NOT NULL,
    account character varying NOT NULL,
    run_id character varying,
    rate_usd_micros_per_h bigint,
    billed_start_ms bigint,
    billed_end_ms bigint,
    settled boolean NOT NULL,
    tally character varying DEFAULT ''::character varying NOT NULL,
    posted_ms bigint DEFAULT 0 NOT NULL,
    CONSTRAINT ck_rental_known_market CHECK (((market)::text = ANY ((ARRAY['on_demand'::character varying, 'spot'::character varying])::text[])))
);


--
-- Name: run; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.run (
    run_id character varying NOT NULL,
    catalog character varying NOT NULL,
    model character varying NOT NULL,
    state character varying NOT NULL,
    started_at_ms bigint NOT NULL,
    finished_at_ms bigint,
    max_usd_micros bigint,
    take_usd_micros bigint,
    wish character varying DEFAULT ''::character varying NOT NULL,
    CONSTRAINT ck_run_known_state CHECK (((state)::text = ANY ((ARRAY['active'::character varying, 'finished'::character varying, 'cancelled'::character varying])::text[])))
);


--
-- Name: span; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.span (
    worker_id character varying NOT NULL,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    state character varying NOT NULL,
    batch_id character varying NOT NULL,
    cause character varying NOT NULL,
    CONSTRAINT ck_span_known_state CHECK (((state)::text = ANY ((ARRAY['startup'::character varying, 'plan'::character varying, 'render'::character varying, 'idle'::character varying, 'post'::character varying, 'teardown'::character varying])::text[])))
);


--
-- Name: standing; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.standing (
    key character varying NOT NULL,
    posting_id bigint NOT NULL,
    rental_id character varying,
    digest character varying NOT NULL,
    method character varying NOT NULL,
    is_priced boolean NOT NULL
);


--
-- Name: take; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.take (
    take_id character varying NOT NULL,
    run_id character varying NOT NULL,
    catalog character varying NOT NULL,
    zone character varying NOT NULL,
    genre character varying NOT NULL,
    track_key character varying NOT NULL,
    number integer NOT NULL,
    title character varying NOT NULL,
    model character varying NOT NULL,
    queue character varying NOT NULL,
    bucket character varying NOT NULL,
    duration_ms bigint NOT NULL,
    message json NOT NULL,
    state character varying NOT NULL,
    current boolean NOT NULL,
    alone boolean NOT NULL,
    sent_at_ms bigint,
    held_by character varying,
    held_at_ms bigint,
    tries integer NOT NULL,
    losses integer NOT NULL,
    rendition_id character varying,
    CONSTRAINT ck_take_known_state CHECK (((state)::text = ANY ((ARRAY['waiting'::character varying, 'sent'::character varying, 'accepted'::character varying, 'rejected'::character varying, 'failed'::character varying, 'cancelled'::character varying])::text[])))
);


--
-- Name: tally; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tally (
    worker_id character varying NOT NULL,
    period character varying NOT NULL,
    category character varying NOT NULL,
    catalog character varying NOT NULL,
    zone character varying NOT NULL,
    genre character varying NOT NULL,
    run_id character varying NOT NULL,
    ms bigint NOT NULL,
    tracks bigint NOT NULL,
    attempts bigint NOT NULL,
    audio_ms bigint NOT NULL
);


--
-- Name: verdict; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.verdict (
    verdict_id bigint NOT NULL,
    record_id character varying NOT NULL,
    take_id character varying NOT NULL,
    outcome character varying NOT NULL,
    reason character varying NOT NULL,
    at_ms bigint NOT NULL,
    CONSTRAINT ck_verdict_known_outcome CHECK (((outcome)::text = ANY ((ARRAY['accepted'::character varying, 'rejected'::character varying])::text[])))
);


--
-- Name: verdict_verdict_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.verdict_verdict_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: verdict_verdict_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.verdict_verdict_id_seq OWNED BY public.verdict.verdict_id;


--
-- Name: worker; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.worker (
    worker_id character varying NOT NULL,
    host character varying NOT NULL,
    gpu character varying NOT NULL,
    vram_gib double precision NOT NULL,
    model character varying NOT NULL,
    model_fingerprint character varying NOT NULL,
    code character varying NOT NULL,
    noise boolean NOT NULL,
    batch_limit integer NOT NULL,
    batch_limit_reason character varying NOT NULL,
    started_at_ms bigint NOT NULL,
    last_seen_ms bigint NOT NULL,
    ended_at_ms bigint,
    end_reason character varying,
    price_sku character varying,
    price_source character varying,
    rate_usd_micros_per_h bigint,
    plan_limit integer DEFAULT 0 NOT NULL,
    holds_max integer DEFAULT 0 NOT NULL,
    rss_mib double precision,
    device_mib double precision,
    growth_mib_per_100_takes double precision,
    heard_at_ms bigint DEFAULT 0 NOT NULL,
    clock_ahead_ms bigint DEFAULT 0 NOT NULL,
    last_beat bigint DEFAULT 0 NOT NULL,
    rental_id character varying DEFAULT ''::character varying NOT NULL,
    lane character varying DEFAULT ''::character varying NOT NULL,
    tally_spans_ms bigint DEFAULT 0 NOT NULL,
    tally_attempts_ms bigint DEFAULT 0 NOT NULL,
    tally_reached_ms bigint DEFAULT 0 NOT NULL
);


--
-- Name: writer; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.writer (
    id integer NOT NULL,
    epoch bigint NOT NULL,
    holder character varying NOT NULL,
    since_ms bigint NOT NULL
);


--
-- Name: writer_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.writer_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: writer_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.writer_id_seq OWNED BY public.writer.id;


--
-- Name: budget budget_id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget ALTER COLUMN budget_id SET DEFAULT nextval('public.budget_budget_id_seq'::regclass);


--
-- Name: cost_entry entry_id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cost_entry ALTER COLUMN entry_id SET DEFAULT nextval('public.cost_entry_entry_id_seq'::regclass);


--
-- Name: posting posting_id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.posting ALTER COLUMN posting_id SET DEFAULT nextval('public.posting_posting_id_seq'::regclass);


--
-- Name: verdict verdict_id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.verdict ALTER COLUMN verdict_id SET DEFAULT nextval('public.verdict_verdict_id_seq'::regclass);


--
-- Name: writer id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.writer ALTER COLUMN id SET DEFAULT nextval('public.writer_id_seq'::regclass);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0005');


--
-- Data for Name: attempt; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.attempt VALUES ('1fffdb975a5245a4ad5b7e30a7d24a60', '292a6d37991b8a3d952e2abd', '3292b010c62f49ff80ac71e3eae33ad3', '8f45ee31eb51429498be33ec24d62b20', 'accepted', '[]', false, '36417ba9bd064120919048f6018424dd', 3, 0, 0, 77, 0, 2194, 10000, 1795996074175, '');
INSERT INTO public.attempt VALUES ('7c17b235f4ce4a5abbdee306a8096911', '1525b291314cc98c02d03b00', '3292b010c62f49ff80ac71e3eae33ad3', '8f45ee31eb51429498be33ec24d62b20', 'accepted', '[]', false, '36417ba9bd064120919048f6018424dd', 3, 0, 0, 77, 0, 2199, 10000, 1795996074174, '');
INSERT INTO public.attempt VALUES ('abc1f9e232ff4d34b186fe1ab6c4bddc', '107f76892c2105f1dd1f462e', '3292b010c62f49ff80ac71e3eae33ad3', '8f45ee31eb51429498be33ec24d62b20', 'accepted', '[]', false, '36417ba9bd064120919048f6018424dd', 3, 0, 0, 78, 0, 801, 10000, 1795996074958, '');


--
-- Data for Name: budget; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.budget VALUES (1, 'month', '', '', 100000000, 1795996078339);


--
-- Data for Name: closed_period; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: cost_entry; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cost_entry VALUES (1, 1, '2026-11', 'accepted', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 40, 80, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (2, 1, '2026-11', 'accepted', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 80, 161, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (3, 1, '2026-11', 'idle', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 534, 1074, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (4, 1, '2026-11', 'idle', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 1074, 2161, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (5, 1, '2026-11', 'lost', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 0, 1, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (6, 1, '2026-11', 'lost', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 1, 1, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (7, 1, '2026-11', 'post', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 111, 223, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (8, 1, '2026-11', 'post', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 222, 448, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (9, 1, '2026-11', 'startup', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 424, 853, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (10, 1, '2026-11', 'startup', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 854, 1717, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (11, 1, '2026-11', 'teardown', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 9, 17, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (12, 1, '2026-11', 'teardown', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 17, 35, 0, 0, 0);
INSERT INTO public.cost_entry VALUES (13, 2, '2026-11', 'accepted', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 0, 0, 1, 1, 10000);
INSERT INTO public.cost_entry VALUES (14, 2, '2026-11', 'accepted', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 0, 0, 2, 2, 20000);


--
-- Data for Name: cost_monthly; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'teardown', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 17, 0, 35, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'lost', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 0, 0, 1, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'idle', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 1074, 0, 2161, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'startup', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 424, 0, 853, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'lost', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 1, 0, 1, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'work', 'accepted', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 0, 0, 0, 1, 1, 10000);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'accepted', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 40, 0, 80, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'idle', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 534, 0, 1074, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'work', 'accepted', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 0, 0, 0, 2, 2, 20000);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'teardown', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 9, 0, 17, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'post', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 222, 0, 448, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'accepted', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 80, 0, 161, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'post', 'tones', 'hotel_lobby', 'acoustic_guitar', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 111, 0, 223, 0, 0, 0);
INSERT INTO public.cost_monthly VALUES ('2026-11', '2026-11', 'estimate', 'startup', 'tones', 'hotel_lobby', 'piano_solo', '3292b010c62f49ff80ac71e3eae33ad3', 'runpod', 'a100-80gb', 'on_demand', 854, 0, 1717, 0, 0, 0);


--
-- Data for Name: invoice; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: invoice_line; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: loss; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: posting; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.posting VALUES (1, 1795996080234, '2026-11', '2026-11', 'estimate:runpod/pod-golden:2026-11', 'estimate', 'gpu', 'runpod/pod-golden', 'runpod', 'a100-80gb', 'on_demand', '', 'a100-80gb', 1795996069027, 1795996075798, 3366, 1790000, 'price book 2026-11-20', NULL, 'busy-ms.v1 UTC', '78bc265d7aace44727d332b649967ae8880f11eaf2baec88d5e628eb015e6421', NULL);
INSERT INTO public.posting VALUES (2, 1795996080234, '2026-11', '2026-11', 'work:runpod/pod-golden:2026-11', 'work', 'gpu', 'runpod/pod-golden', 'runpod', 'a100-80gb', 'on_demand', '', '', 1793491200000, 1796083200000, 0, NULL, '', NULL, 'busy-ms.v1 UTC', 'cefb658d3fd62f816cc6eeab667e5aafd2ae5c473e83584b9037df3ec47f3f2c', NULL);


--
-- Data for Name: rendition; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.rendition VALUES ('292a6d37991b8a3d952e2abd', '1fffdb975a5245a4ad5b7e30a7d24a60', '3292b010c62f49ff80ac71e3eae33ad3', '8f45ee31eb51429498be33ec24d62b20', 'tones/audio/hotel_lobby/piano_solo/292a6d37991b8a3d952e2abd-21067c1b7abaff5e.mp3', '21067c1b7abaff5ed2fb829ba4dfa2a08138be0bd2a6d3889dfd4704710cb151', 'a680be9b39995d5683a373189e288b253b6f36ddbe8a642583a1cbdd155e693e', 403429, 10000, 8345249502504950356, 3001486450686499669, 'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726', '', 'tunemill 0.1.0, numpy 2.4.6, python 3.11.7', 'a100-80gb', false, -16, 1795996074175, '{"v": 1, "take_id": "292a6d37991b8a3d952e2abd", "record_id": "1fffdb975a5245a4ad5b7e30a7d24a60", "run_id": "3292b010c62f49ff80ac71e3eae33ad3", "take": {"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0002", "title": "Postcard Suitcase", "seed": null, "spec": {"caption": "intimate piano music for a lobby lounge with deep armchairs, concert grand piano with long sustain pedal, gentle rubato and soft dynamics, cosmopolitan and contemplative, a close and breathy recording, simple form and a fading last chord, no other instruments", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 101, "keyscale": "E minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 8345249502504950356, "lm_seed": 3001486450686499669}, "effective": {"dit_seed": 8345249502504950356, "lm_seed": 3001486450686499669, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "", "instruction": "", "text_tokens": 0, "extra": {"bpm": 101, "keyscale": "E minor"}}, "plan": null, "fingerprints": {"model": "cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726", "planner": "", "code": "tunemill 0.1.0, numpy 2.4.6, python 3.11.7", "noise": false}, "measures": {"rms_dbfs": -19.94, "peak_dbfs": -6.02, "spectral_flatness": 0.0, "loudness_in_lufs": -18.65, "loudness_out_lufs": -16.0, "true_peak_dbtp": -3.37, "gain_db": 2.648, "warnings": []}, "audio": {"key": "tones/audio/hotel_lobby/piano_solo/292a6d37991b8a3d952e2abd-21067c1b7abaff5e.mp3", "sha256": "21067c1b7abaff5ed2fb829ba4dfa2a08138be0bd2a6d3889dfd4704710cb151", "pcm_sha256": "a680be9b39995d5683a373189e288b253b6f36ddbe8a642583a1cbdd155e693e", "bytes": 403429, "content_type": "audio/mpeg", "format": "mp3", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 0, "encode_ms": 0, "diffuse_ms": 77, "decode_ms": 0, "post_ms": 2194}, "batch": {"id": "36417ba9bd064120919048f6018424dd", "size": 3, "position": 2, "takes": ["107f76892c2105f1dd1f462e", "1525b291314cc98c02d03b00", "292a6d37991b8a3d952e2abd"], "plan_id": "", "plan_size": 0}, "worker_id": "8f45ee31eb51429498be33ec24d62b20", "gpu": "a100-80gb", "created_at_ms": 1795996074175, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}');
INSERT INTO public.rendition VALUES ('1525b291314cc98c02d03b00', '7c17b235f4ce4a5abbdee306a8096911', '3292b010c62f49ff80ac71e3eae33ad3', '8f45ee31eb51429498be33ec24d62b20', 'tones/audio/hotel_lobby/acoustic_guitar/1525b291314cc98c02d03b00-d13f1e2781e7f844.mp3', 'd13f1e2781e7f8447501e290284db013b97bc85417a2745e2e0e75bf93d3a500', 'ed2341dfa55b0d52d456a3afd1a8f4a14ec2cd23a473b13f607f4e9fae1597ce', 403447, 10000, 5927314790281081637, 6198177666432960489, 'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726', '', 'tunemill 0.1.0, numpy 2.4.6, python 3.11.7', 'a100-80gb', false, -16, 1795996074174, '{"v": 1, "take_id": "1525b291314cc98c02d03b00", "record_id": "7c17b235f4ce4a5abbdee306a8096911", "run_id": "3292b010c62f49ff80ac71e3eae33ad3", "take": {"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "acoustic_guitar", "axes": {}, "slot": "0001", "title": "Atrium and Sundial", "seed": null, "spec": {"caption": "warm unplugged music for a lobby lounge with deep armchairs, two acoustic guitars, one arpeggiating and one melodic, gentle picking pattern, welcoming and gentle, soft natural reverb, a short bridge in the relative key, no vocals", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 96, "keyscale": "D minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 5927314790281081637, "lm_seed": 6198177666432960489}, "effective": {"dit_seed": 5927314790281081637, "lm_seed": 6198177666432960489, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "", "instruction": "", "text_tokens": 0, "extra": {"bpm": 96, "keyscale": "D minor"}}, "plan": null, "fingerprints": {"model": "cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726", "planner": "", "code": "tunemill 0.1.0, numpy 2.4.6, python 3.11.7", "noise": false}, "measures": {"rms_dbfs": -19.05, "peak_dbfs": -6.02, "spectral_flatness": 0.0, "loudness_in_lufs": -18.14, "loudness_out_lufs": -16.0, "true_peak_dbtp": -3.88, "gain_db": 2.135, "warnings": []}, "audio": {"key": "tones/audio/hotel_lobby/acoustic_guitar/1525b291314cc98c02d03b00-d13f1e2781e7f844.mp3", "sha256": "d13f1e2781e7f8447501e290284db013b97bc85417a2745e2e0e75bf93d3a500", "pcm_sha256": "ed2341dfa55b0d52d456a3afd1a8f4a14ec2cd23a473b13f607f4e9fae1597ce", "bytes": 403447, "content_type": "audio/mpeg", "format": "mp3", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 0, "encode_ms": 0, "diffuse_ms": 77, "decode_ms": 0, "post_ms": 2199}, "batch": {"id": "36417ba9bd064120919048f6018424dd", "size": 3, "position": 1, "takes": ["107f76892c2105f1dd1f462e", "1525b291314cc98c02d03b00", "292a6d37991b8a3d952e2abd"], "plan_id": "", "plan_size": 0}, "worker_id": "8f45ee31eb51429498be33ec24d62b20", "gpu": "a100-80gb", "created_at_ms": 1795996074174, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}');
INSERT INTO public.rendition VALUES ('107f76892c2105f1dd1f462e', 'abc1f9e232ff4d34b186fe1ab6c4bddc', '3292b010c62f49ff80ac71e3eae33ad3', '8f45ee31eb51429498be33ec24d62b20', 'tones/audio/hotel_lobby/piano_solo/107f76892c2105f1dd1f462e-b98b2ace5167a2f7.mp3', 'b98b2ace5167a2f758afda3c8cd7750733517b0650d73eaef0e05a225717ff64', 'b8e9f05c83f09ba50163b8236771271f20148801018a1b277b29f8b9fe6e12f4', 403411, 10000, 4573742178231492071, 3447310139221984735, 'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726', '', 'tunemill 0.1.0, numpy 2.4.6, python 3.11.7', 'a100-80gb', false, -16, 1795996074958, '{"v": 1, "take_id": "107f76892c2105f1dd1f462e", "record_id": "abc1f9e232ff4d34b186fe1ab6c4bddc", "run_id": "3292b010c62f49ff80ac71e3eae33ad3", "take": {"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0001", "title": "Foyer Album", "seed": null, "spec": {"caption": "airy piano miniature: close-miked parlour piano with a light ostinato, simple singing melody over broken chords, tender, natural hall reverb, as background for an upscale hotel lobby, even touch without loud accents, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 76, "keyscale": "D major", "timesignature": "3", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 4573742178231492071, "lm_seed": 3447310139221984735}, "effective": {"dit_seed": 4573742178231492071, "lm_seed": 3447310139221984735, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "", "instruction": "", "text_tokens": 0, "extra": {"bpm": 76, "keyscale": "D major"}}, "plan": null, "fingerprints": {"model": "cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726", "planner": "", "code": "tunemill 0.1.0, numpy 2.4.6, python 3.11.7", "noise": false}, "measures": {"rms_dbfs": -18.68, "peak_dbfs": -6.02, "spectral_flatness": 0.0, "loudness_in_lufs": -17.61, "loudness_out_lufs": -16.0, "true_peak_dbtp": -4.41, "gain_db": 1.612, "warnings": []}, "audio": {"key": "tones/audio/hotel_lobby/piano_solo/107f76892c2105f1dd1f462e-b98b2ace5167a2f7.mp3", "sha256": "b98b2ace5167a2f758afda3c8cd7750733517b0650d73eaef0e05a225717ff64", "pcm_sha256": "b8e9f05c83f09ba50163b8236771271f20148801018a1b277b29f8b9fe6e12f4", "bytes": 403411, "content_type": "audio/mpeg", "format": "mp3", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 0, "encode_ms": 0, "diffuse_ms": 78, "decode_ms": 0, "post_ms": 801}, "batch": {"id": "36417ba9bd064120919048f6018424dd", "size": 3, "position": 0, "takes": ["107f76892c2105f1dd1f462e", "1525b291314cc98c02d03b00", "292a6d37991b8a3d952e2abd"], "plan_id": "", "plan_size": 0}, "worker_id": "8f45ee31eb51429498be33ec24d62b20", "gpu": "a100-80gb", "created_at_ms": 1795996074958, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}');


--
-- Data for Name: rental; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.rental VALUES ('runpod/pod-golden', 'runpod', 'pod-golden', 'a100-80gb', 0, 'on_demand', '', '', NULL, NULL, NULL, NULL, true, '', 0);


--
-- Data for Name: run; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.run VALUES ('3292b010c62f49ff80ac71e3eae33ad3', 'tones', 'tone', 'finished', 1795996068330, 1795996075063, NULL, 4973, '');


--
-- Data for Name: span; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.span VALUES ('8f45ee31eb51429498be33ec24d62b20', 1795996069027, 1795996071597, 'startup', '', '');
INSERT INTO public.span VALUES ('8f45ee31eb51429498be33ec24d62b20', 1795996071597, 1795996071733, 'idle', '', 'no work');
INSERT INTO public.span VALUES ('8f45ee31eb51429498be33ec24d62b20', 1795996071733, 1795996071974, 'render', '36417ba9bd064120919048f6018424dd', '');
INSERT INTO public.span VALUES ('8f45ee31eb51429498be33ec24d62b20', 1795996071974, 1795996075073, 'idle', '', 'no work');
INSERT INTO public.span VALUES ('8f45ee31eb51429498be33ec24d62b20', 1795996075073, 1795996075744, 'post', '', '');
INSERT INTO public.span VALUES ('8f45ee31eb51429498be33ec24d62b20', 1795996075744, 1795996075796, 'teardown', '', '');


--
-- Data for Name: standing; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.standing VALUES ('estimate:runpod/pod-golden:2026-11', 1, 'runpod/pod-golden', '78bc265d7aace44727d332b649967ae8880f11eaf2baec88d5e628eb015e6421', 'busy-ms.v1 UTC', true);
INSERT INTO public.standing VALUES ('work:runpod/pod-golden:2026-11', 2, 'runpod/pod-golden', 'cefb658d3fd62f816cc6eeab667e5aafd2ae5c473e83584b9037df3ec47f3f2c', 'busy-ms.v1 UTC', true);


--
-- Data for Name: take; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.take VALUES ('292a6d37991b8a3d952e2abd', '3292b010c62f49ff80ac71e3eae33ad3', 'tones', 'hotel_lobby', 'piano_solo', 'tones/hotel_lobby/piano_solo/0002', 1, 'Postcard Suitcase', 'tone', 'render.tone.4g', 'tone - 008 03.0000 0010', 10000, '{"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0002", "title": "Postcard Suitcase", "seed": null, "spec": {"caption": "intimate piano music for a lobby lounge with deep armchairs, concert grand piano with long sustain pedal, gentle rubato and soft dynamics, cosmopolitan and contemplative, a close and breathy recording, simple form and a fading last chord, no other instruments", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 101, "keyscale": "E minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 8345249502504950356, "lm_seed": 3001486450686499669}', 'accepted', true, false, 1795996068596, NULL, NULL, 0, 0, '1fffdb975a5245a4ad5b7e30a7d24a60');
INSERT INTO public.take VALUES ('1525b291314cc98c02d03b00', '3292b010c62f49ff80ac71e3eae33ad3', 'tones', 'hotel_lobby', 'acoustic_guitar', 'tones/hotel_lobby/acoustic_guitar/0001', 1, 'Atrium and Sundial', 'tone', 'render.tone.4g', 'tone - 008 03.0000 0010', 10000, '{"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "acoustic_guitar", "axes": {}, "slot": "0001", "title": "Atrium and Sundial", "seed": null, "spec": {"caption": "warm unplugged music for a lobby lounge with deep armchairs, two acoustic guitars, one arpeggiating and one melodic, gentle picking pattern, welcoming and gentle, soft natural reverb, a short bridge in the relative key, no vocals", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 96, "keyscale": "D minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 5927314790281081637, "lm_seed": 6198177666432960489}', 'accepted', true, false, 1795996068596, NULL, NULL, 0, 0, '7c17b235f4ce4a5abbdee306a8096911');
INSERT INTO public.take VALUES ('107f76892c2105f1dd1f462e', '3292b010c62f49ff80ac71e3eae33ad3', 'tones', 'hotel_lobby', 'piano_solo', 'tones/hotel_lobby/piano_solo/0001', 1, 'Foyer Album', 'tone', 'render.tone.4g', 'tone - 008 03.0000 0010', 10000, '{"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0001", "title": "Foyer Album", "seed": null, "spec": {"caption": "airy piano miniature: close-miked parlour piano with a light ostinato, simple singing melody over broken chords, tender, natural hall reverb, as background for an upscale hotel lobby, even touch without loud accents, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 76, "keyscale": "D major", "timesignature": "3", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 4573742178231492071, "lm_seed": 3447310139221984735}', 'accepted', true, false, 1795996068596, NULL, NULL, 0, 0, 'abc1f9e232ff4d34b186fe1ab6c4bddc');


--
-- Data for Name: tally; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: verdict; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: worker; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.worker VALUES ('8f45ee31eb51429498be33ec24d62b20', 'studio-1', 'a100-80gb', 0, 'tone', 'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726', 'tunemill 0.1.0, numpy 2.4.6, python 3.11.7', false, 8, 'tone engine, needs no GPU', 1795996069027, 1795996075798, 1795996075798, 'told to stop', 'a100-80gb', 'price book 2026-11-20', 1790000, 0, 20, 53.02734375, 0, NULL, 1795996075918, 0, 5, 'runpod/pod-golden', '', 0, 0, 0);


--
-- Data for Name: writer; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.writer VALUES (1, 1, 'run (pid 21884 on studio-1)', 1795996068315);


--
-- Name: budget_budget_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.budget_budget_id_seq', 1, true);


--
-- Name: cost_entry_entry_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.cost_entry_entry_id_seq', 1, false);


--
-- Name: posting_posting_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.posting_posting_id_seq', 1, false);


--
-- Name: verdict_verdict_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.verdict_verdict_id_seq', 1, false);


--
-- Name: writer_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.writer_id_seq', 1, false);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: attempt pk_attempt; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attempt
    ADD CONSTRAINT pk_attempt PRIMARY KEY (record_id);


--
-- Name: budget pk_budget; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget
    ADD CONSTRAINT pk_budget PRIMARY KEY (budget_id);


--
-- Name: closed_period pk_closed_period; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.closed_period
    ADD CONSTRAINT pk_closed_period PRIMARY KEY (period);


--
-- Name: cost_entry pk_cost_entry; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cost_entry
    ADD CONSTRAINT pk_cost_entry PRIMARY KEY (entry_id);


--
-- Name: cost_monthly pk_cost_monthly; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cost_monthly
    ADD CONSTRAINT pk_cost_monthly PRIMARY KEY (period, applies_to, kind, category, catalog, zone, genre, run_id, provider, gpu, market);


--
-- Name: invoice pk_invoice; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.invoice
    ADD CONSTRAINT pk_invoice PRIMARY KEY (invoice_id);


--
-- Name: invoice_line pk_invoice_line; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.invoice_line
    ADD CONSTRAINT pk_invoice_line PRIMARY KEY (line_id);


--
-- Name: loss pk_loss; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.loss
    ADD CONSTRAINT pk_loss PRIMARY KEY (worker_id, take_id);


--
-- Name: posting pk_posting; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.posting
    ADD CONSTRAINT pk_posting PRIMARY KEY (posting_id);


--
-- Name: rendition pk_rendition; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rendition
    ADD CONSTRAINT pk_rendition PRIMARY KEY (record_id);


--
-- Name: rental pk_rental; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rental
    ADD CONSTRAINT pk_rental PRIMARY KEY (rental_id);


--
-- Name: run pk_run; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.run
    ADD CONSTRAINT pk_run PRIMARY KEY (run_id);


--
-- Name: span pk_span; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.span
    ADD CONSTRAINT pk_span PRIMARY KEY (worker_id, start_ms);


--
-- Name: standing pk_standing; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.standing
    ADD CONSTRAINT pk_standing PRIMARY KEY (key);


--
-- Name: take pk_take; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.take
    ADD CONSTRAINT pk_take PRIMARY KEY (take_id);


--
-- Name: tally pk_tally; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tally
    ADD CONSTRAINT pk_tally PRIMARY KEY (worker_id, period, category, catalog, zone, genre, run_id);


--
-- Name: verdict pk_verdict; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.verdict
    ADD CONSTRAINT pk_verdict PRIMARY KEY (verdict_id);


--
-- Name: worker pk_worker; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.worker
    ADD CONSTRAINT pk_worker PRIMARY KEY (worker_id);


--
-- Name: writer pk_writer; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.writer
    ADD CONSTRAINT pk_writer PRIMARY KEY (id);


--
-- Name: posting uq_posting_reverses_id; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.posting
    ADD CONSTRAINT uq_posting_reverses_id UNIQUE (reverses_id);


--
-- Name: ix_attempt_run_id_at_ms; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_attempt_run_id_at_ms ON public.attempt USING btree (run_id, at_ms);


--
-- Name: ix_attempt_take_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_attempt_take_id ON public.attempt USING btree (take_id);


--
-- Name: ix_attempt_worker_id_at_ms; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_attempt_worker_id_at_ms ON public.attempt USING btree (worker_id, at_ms);


--
-- Name: ix_cost_entry_period_entry_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cost_entry_period_entry_id ON public.cost_entry USING btree (period, entry_id);


--
-- Name: ix_cost_entry_posting_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cost_entry_posting_id ON public.cost_entry USING btree (posting_id);


--
-- Name: ix_cost_monthly_applies_to; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cost_monthly_applies_to ON public.cost_monthly USING btree (applies_to);


--
-- Name: ix_cost_monthly_period; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cost_monthly_period ON public.cost_monthly USING btree (period);


--
-- Name: ix_cost_monthly_run_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cost_monthly_run_id ON public.cost_monthly USING btree (run_id);


--
-- Name: ix_invoice_line_invoice_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_invoice_line_invoice_id ON public.invoice_line USING btree (invoice_id);


--
-- Name: ix_invoice_line_provider_external_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_invoice_line_provider_external_id ON public.invoice_line USING btree (provider, external_id);


--
-- Name: ix_invoice_provider_number; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_invoice_provider_number ON public.invoice USING btree (provider, number);


--
-- Name: ix_posting_key; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_posting_key ON public.posting USING btree (key);


--
-- Name: ix_posting_period_rental_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_posting_period_rental_id ON public.posting USING btree (period, rental_id);


--
-- Name: ix_rendition_run_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_rendition_run_id ON public.rendition USING btree (run_id);


--
-- Name: ix_rendition_take_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_rendition_take_id ON public.rendition USING btree (take_id);


--
-- Name: ix_rental_settled; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_rental_settled ON public.rental USING btree (settled);


--
-- Name: ix_run_catalog; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_run_catalog ON public.run USING btree (catalog);


--
-- Name: ix_standing_rental_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_standing_rental_id ON public.standing USING btree (rental_id);


--
-- Name: ix_take_catalog_track_key_number; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_take_catalog_track_key_number ON public.take USING btree (catalog, track_key, number);


--
-- Name: ix_take_held_by; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_take_held_by ON public.take USING btree (held_by);


--
-- Name: ix_take_run_id_state_queue_bucket_take_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_take_run_id_state_queue_bucket_take_id ON public.take USING btree (run_id, state, queue, bucket, take_id);


--
-- Name: ix_verdict_record_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_verdict_record_id ON public.verdict USING btree (record_id);


--
-- Name: ix_worker_rental_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_worker_rental_id ON public.worker USING btree (rental_id);


--
-- Name: attempt attempt_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER attempt_no_delete BEFORE DELETE ON public.attempt FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: attempt attempt_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER attempt_no_truncate BEFORE TRUNCATE ON public.attempt FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: attempt attempt_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER attempt_no_update BEFORE UPDATE ON public.attempt FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: budget budget_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER budget_no_delete BEFORE DELETE ON public.budget FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: budget budget_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER budget_no_truncate BEFORE TRUNCATE ON public.budget FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: budget budget_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER budget_no_update BEFORE UPDATE ON public.budget FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: closed_period closed_period_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER closed_period_no_delete BEFORE DELETE ON public.closed_period FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: closed_period closed_period_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER closed_period_no_truncate BEFORE TRUNCATE ON public.closed_period FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: closed_period closed_period_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER closed_period_no_update BEFORE UPDATE ON public.closed_period FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: cost_entry cost_entry_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER cost_entry_no_delete BEFORE DELETE ON public.cost_entry FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: cost_entry cost_entry_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER cost_entry_no_truncate BEFORE TRUNCATE ON public.cost_entry FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: cost_entry cost_entry_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER cost_entry_no_update BEFORE UPDATE ON public.cost_entry FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: invoice_line invoice_line_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER invoice_line_no_delete BEFORE DELETE ON public.invoice_line FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: invoice_line invoice_line_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER invoice_line_no_truncate BEFORE TRUNCATE ON public.invoice_line FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: invoice_line invoice_line_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER invoice_line_no_update BEFORE UPDATE ON public.invoice_line FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: invoice invoice_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER invoice_no_delete BEFORE DELETE ON public.invoice FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: invoice invoice_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER invoice_no_truncate BEFORE TRUNCATE ON public.invoice FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: invoice invoice_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER invoice_no_update BEFORE UPDATE ON public.invoice FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: loss loss_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER loss_no_delete BEFORE DELETE ON public.loss FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: loss loss_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER loss_no_truncate BEFORE TRUNCATE ON public.loss FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: loss loss_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER loss_no_update BEFORE UPDATE ON public.loss FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: posting posting_month_is_open; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER posting_month_is_open BEFORE INSERT ON public.posting FOR EACH ROW EXECUTE FUNCTION public.tunemill_month_is_open();


--
-- Name: posting posting_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER posting_no_delete BEFORE DELETE ON public.posting FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: posting posting_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER posting_no_truncate BEFORE TRUNCATE ON public.posting FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: posting posting_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER posting_no_update BEFORE UPDATE ON public.posting FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: rendition rendition_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER rendition_no_delete BEFORE DELETE ON public.rendition FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: rendition rendition_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER rendition_no_truncate BEFORE TRUNCATE ON public.rendition FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: rendition rendition_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER rendition_no_update BEFORE UPDATE ON public.rendition FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: span span_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER span_no_delete BEFORE DELETE ON public.span FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: span span_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER span_no_truncate BEFORE TRUNCATE ON public.span FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: span span_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER span_no_update BEFORE UPDATE ON public.span FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: verdict verdict_no_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER verdict_no_delete BEFORE DELETE ON public.verdict FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: verdict verdict_no_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER verdict_no_truncate BEFORE TRUNCATE ON public.verdict FOR EACH STATEMENT EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: verdict verdict_no_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER verdict_no_update BEFORE UPDATE ON public.verdict FOR EACH ROW EXECUTE FUNCTION public.tunemill_append_only();


--
-- Name: cost_entry fk_cost_entry_posting_id_posting; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cost_entry
    ADD CONSTRAINT fk_cost_entry_posting_id_posting FOREIGN KEY (posting_id) REFERENCES public.posting(posting_id);


--
-- Name: invoice_line fk_invoice_line_invoice_id_invoice; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.invoice_line
    ADD CONSTRAINT fk_invoice_line_invoice_id_invoice FOREIGN KEY (invoice_id) REFERENCES public.invoice(invoice_id);


--
-- Name: take fk_take_run_id_run; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.take
    ADD CONSTRAINT fk_take_run_id_run FOREIGN KEY (run_id) REFERENCES public.run(run_id);


--
-- PostgreSQL database dump complete
--

\unrestrict TAZL2njulzFVc2BlBTcwmW0APBSDZMbMsfpeUuq7dzqfZchnGg5V4WrR1aEz4ws

