CREATE TABLE migrations (
    number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
    applied_at DOUBLE PRECISION NOT NULL);

CREATE TABLE requests (
    id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
    endpoint TEXT NOT NULL, requested_model TEXT, target TEXT, model TEXT, reason TEXT,
    score DOUBLE PRECISION, p_local DOUBLE PRECISION, p_cloud DOUBLE PRECISION,
    threshold DOUBLE PRECISION, decision_ms DOUBLE PRECISION, ttft_ms DOUBLE PRECISION,
    duration_ms DOUBLE PRECISION NOT NULL, status INTEGER, ending TEXT NOT NULL,
    streamed BOOLEAN NOT NULL, input_tokens BIGINT, cached_input_tokens BIGINT,
    output_tokens BIGINT, usage_source TEXT, cost_usd DOUBLE PRECISION,
    cloud_cost_usd DOUBLE PRECISION, saved_usd DOUBLE PRECISION, category TEXT,
    prompt TEXT, response TEXT, fallback_from TEXT, session_id TEXT,
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT, propensity DOUBLE PRECISION, candidate_score DOUBLE PRECISION, rule TEXT, merit DOUBLE PRECISION, failed_check TEXT, discarded_tokens BIGINT, second_look TEXT, evidence TEXT, verified_score DOUBLE PRECISION, verified_merit DOUBLE PRECISION, second_look_ms DOUBLE PRECISION, history_hash TEXT, queue_ms DOUBLE PRECISION, connect_ms DOUBLE PRECISION, opened_ms DOUBLE PRECISION, attempt_ms DOUBLE PRECISION, fallback_error TEXT, own_threshold BOOLEAN);

CREATE INDEX request_created_at ON requests (created_at);

CREATE TABLE judgements (
    id INTEGER NOT NULL PRIMARY KEY, request_id TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
    target TEXT NOT NULL, model TEXT NOT NULL, score DOUBLE PRECISION NOT NULL,
    judge_model TEXT NOT NULL, reason TEXT);

CREATE INDEX judgement_request_id ON judgements (request_id);

CREATE UNIQUE INDEX judgement_request_id_target_judge_model
    ON judgements (request_id, target, judge_model);

CREATE TABLE responses (
    id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
    target TEXT NOT NULL, client_key_hash TEXT, items TEXT, input_items INTEGER NOT NULL,
    body TEXT);

CREATE INDEX response_created_at ON responses (created_at);

CREATE TABLE feedback (
    request_id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
    rating DOUBLE PRECISION NOT NULL, comment TEXT);

CREATE INDEX request_reason ON requests (reason, created_at);

CREATE INDEX request_model ON requests (model, created_at);

CREATE INDEX request_failed ON requests (ending, created_at) WHERE ending <> 'ok';

CREATE INDEX request_key ON requests (client_key_hash, created_at) WHERE client_key_hash IS NOT NULL;

CREATE TABLE hours (
    hour BIGINT NOT NULL, endpoint TEXT NOT NULL, target TEXT NOT NULL,
    model TEXT NOT NULL, reason TEXT NOT NULL, ending TEXT NOT NULL,
    category TEXT NOT NULL, requests BIGINT NOT NULL, streamed BIGINT NOT NULL,
    fallbacks BIGINT NOT NULL, estimated BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, cost_pico BIGINT NOT NULL,
    cloud_cost_pico BIGINT NOT NULL, saved_pico BIGINT NOT NULL,
    PRIMARY KEY (hour, endpoint, target, model, reason, ending, category)
    ) WITHOUT ROWID;

CREATE TABLE spreads (
    hour BIGINT NOT NULL, measure TEXT NOT NULL, target TEXT NOT NULL,
    bucket INTEGER NOT NULL, requests BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
    PRIMARY KEY (hour, measure, target, bucket)) WITHOUT ROWID;

CREATE TABLE day_spreads (
    day BIGINT NOT NULL, measure TEXT NOT NULL, target TEXT NOT NULL,
    bucket INTEGER NOT NULL, requests BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
    PRIMARY KEY (day, measure, target, bucket)) WITHOUT ROWID;

CREATE INDEX request_compared ON requests (created_at) WHERE candidate_score IS NOT NULL;

CREATE TABLE samples (
    request_id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL, propensity DOUBLE PRECISION NOT NULL,
    turn DOUBLE PRECISION NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_at DOUBLE PRECISION NOT NULL, claimed_by TEXT, body TEXT, other_model TEXT,
    other_response TEXT, why TEXT, evidence TEXT);

CREATE INDEX sample_state ON samples (state, turn);

CREATE INDEX sample_created_at ON samples (created_at);

CREATE TABLE preferences (
    id INTEGER NOT NULL PRIMARY KEY, request_id TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
    judge_model TEXT NOT NULL, verdict TEXT NOT NULL, first TEXT NOT NULL,
    swapped TEXT NOT NULL);

CREATE UNIQUE INDEX preference_request_id_judge_model
    ON preferences (request_id, judge_model);

CREATE TABLE expenses (
    id INTEGER NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, purpose TEXT NOT NULL,
    request_id TEXT NOT NULL, model TEXT NOT NULL, usd DOUBLE PRECISION NOT NULL,
    is_settled BOOLEAN NOT NULL);

CREATE INDEX expense_created_at ON expenses (created_at);

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY, step TEXT NOT NULL, arguments TEXT NOT NULL,
    state TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION, ended_at DOUBLE PRECISION, exit_status INTEGER,
    host TEXT NOT NULL, pid INTEGER, worker TEXT NOT NULL,
    seen_at DOUBLE PRECISION NOT NULL, is_unwanted BOOLEAN NOT NULL,
    progress DOUBLE PRECISION, message TEXT, log TEXT NOT NULL,
    log_start BIGINT NOT NULL, cost_usd DOUBLE PRECISION);

CREATE INDEX job_created_at ON jobs (created_at);

CREATE UNIQUE INDEX job_running ON jobs (state) WHERE state = 'running';

CREATE TABLE rates (
    key_hash TEXT NOT NULL PRIMARY KEY, full_at DOUBLE PRECISION NOT NULL);

CREATE TABLE leases (
    day BIGINT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL,
    usd DOUBLE PRECISION NOT NULL, PRIMARY KEY (day, name, holder));

CREATE TABLE learning_steps (
    id INTEGER NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION, expires_at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL, worker TEXT NOT NULL, local_model TEXT NOT NULL,
    cloud_model TEXT NOT NULL, second_model TEXT NOT NULL, judgement_id BIGINT NOT NULL,
    version_before TEXT, version TEXT, test INTEGER, pairs INTEGER, tested INTEGER,
    evidence INTEGER, cost_share DOUBLE PRECISION, difference DOUBLE PRECISION,
    low DOUBLE PRECISION, high DOUBLE PRECISION, level DOUBLE PRECISION, decision TEXT,
    why TEXT, manifest TEXT, previous TEXT);

CREATE UNIQUE INDEX learning_step_running ON learning_steps (state)
    WHERE state = 'running';

CREATE INDEX request_history_hash_created_at ON requests (history_hash, created_at)
    WHERE history_hash IS NOT NULL;

CREATE TABLE bodies (
    request_id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
    request TEXT, response TEXT);

CREATE INDEX body_created_at ON bodies (created_at);

CREATE TABLE choices (
    id INTEGER NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, request_id TEXT NOT NULL,
    other_id TEXT NOT NULL, client_key_hash TEXT, source TEXT NOT NULL,
    choice TEXT NOT NULL, is_blind BOOLEAN NOT NULL, may_learn BOOLEAN NOT NULL,
    local_model TEXT NOT NULL, cloud_model TEXT NOT NULL, category TEXT);

CREATE UNIQUE INDEX choice_request_id ON choices (request_id);

CREATE INDEX choice_created_at ON choices (created_at);

CREATE TABLE api_keys (
    key_hash TEXT NOT NULL PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL,
    prefix TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, created_by TEXT,
    revoked_at DOUBLE PRECISION, is_admin BOOLEAN NOT NULL,
    requests_per_minute INTEGER, cloud_usd_per_day DOUBLE PRECISION);

CREATE UNIQUE INDEX api_key_name ON api_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE audit_log (
    id INTEGER NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, actor TEXT,
    action TEXT NOT NULL, subject TEXT NOT NULL, details TEXT);

CREATE INDEX audit_log_created_at ON audit_log (created_at);

CREATE TABLE notifications (
    name TEXT NOT NULL PRIMARY KEY, is_active BOOLEAN NOT NULL,
    claimed_at DOUBLE PRECISION NOT NULL);

CREATE TABLE key_hours (
    hour BIGINT NOT NULL, key_hash TEXT NOT NULL, target TEXT NOT NULL,
    ending TEXT NOT NULL, requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cost_pico BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
    saved_pico BIGINT NOT NULL,
    PRIMARY KEY (hour, key_hash, target, ending)) WITHOUT ROWID;

CREATE TABLE key_days (
    day BIGINT NOT NULL, key_hash TEXT NOT NULL, target TEXT NOT NULL,
    ending TEXT NOT NULL, requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cost_pico BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
    saved_pico BIGINT NOT NULL,
    PRIMARY KEY (day, key_hash, target, ending)) WITHOUT ROWID;

INSERT INTO migrations (number, name, applied_at) VALUES
    (1, 'first tables', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (2, 'sums and causes', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (3, 'judging', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (4, 'jobs', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (5, 'sessions', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (6, 'quotas', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (7, 'exploration', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (8, 'rules and merits', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (9, 'answer checks', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (10, 'second looks', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (11, 'learning', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (12, 'history hashes', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (13, 'pages', 1799996400.0);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a30a9b9c9926422593fdbf', 1799989837.5129817, 'embeddings', 'auto', 'local', 'größer', 'rule', 0.0, NULL, NULL, 0.5, 1.2438230422814136, 59.22806481625553, 644.7707076469317, NULL, 'upstream_error', TRUE, 74960, NULL, 7281, 'estimated', 0.002562057584, 0.229820170815, 0.636267075106, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', 'cloud', 's', 'one', NULL, NULL, 287, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3304ea39d32a52cb3b301', 1799991950.5023227, 'responses', NULL, 'local', 'phi3:latest', 'loading', 0.0, NULL, NULL, NULL, NULL, 154.9115559228667, 278.2853377191921, NULL, 'stopped', FALSE, 20949, 210, 9298, NULL, NULL, 0.217786109769, 0.224154788348, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, 1661.0691732301188, 400, NULL, NULL, NULL, NULL, NULL, 0.9999, 'cut_off', 520, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a338b3f436c28cae7ab063', 1799897187.809692, 'embeddings', NULL, 'cloud', 'phi3:latest', 'housekeeping', NULL, NULL, NULL, NULL, 2.8169625181973634, 151.0209520208563, 346.5118277591302, NULL, 'ok', FALSE, 18797, 634, 877, NULL, 0.00817600403, 0.031740262021, 0.343643928372, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'other', NULL, 130.14823991177883, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'cut_off', 30, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a35c74ccc3f7e83c7c9eb7', 1799999464.5826313, 'responses', 'auto', 'cloud', NULL, 'context', 0.4253609380427572, NULL, NULL, 0.5, 1.251760931125803, 82.90478348186934, 5755.154982224901, NULL, 'timeout', FALSE, 749, 158, 8728, 'upstream', 0.008987914531, 0.046778509472, 0.811423463863, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', 'local', 's', 'one', NULL, 589.4887983156771, 485, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a39845cc5955f54de5e326', 1799960710.5084105, 'responses', 'auto', 'cloud', 'gpt-4o-mini', 'unhealthy', 0.0, NULL, NULL, 0.5, 2.9775996676338155, 260.2241768512585, 2567.233408178184, NULL, 'ok', TRUE, 56919, 547, 805, NULL, 0.003536922437, NULL, 0.956401257944, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'other', NULL, 74.5464738045108, NULL, NULL, NULL, NULL, NULL, NULL, 0.264067424847075, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3b8c20f5fdc2856f844be', 1799874318.1735773, 'chat.completions', 'auto', 'cloud', 'gpt-4o-mini', 'overload', 0.0, NULL, NULL, 0.5, 2.2880729159239683, NULL, 958.6994626558759, NULL, 'stopped', FALSE, NULL, 158, 5712, 'upstream', 6.7332268e-05, 0.192266818824, 0.470481725496, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'other', NULL, 201.85695463110443, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3bcaadb3b8a42d4e0bffd', 1799839931.8624768, 'embeddings', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, NULL, 0.899129524392311, 240.97394661568885, 2234.2183902667516, NULL, 'rejected', FALSE, 91953, 75, 7596, 'upstream', NULL, 0.161082926548, 0.92112144937, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', NULL, NULL, 566.4622947196478, 736, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3c4efb38b16542e8189f3', 1799997195.1012366, 'embeddings', 'auto', 'local', NULL, 'housekeeping', 0.0, NULL, NULL, NULL, 3.30848810403735, 75.05649479792127, 246.9358068066007, NULL, 'rejected', FALSE, 91858, 780, 1551, NULL, 0.009307331552, 0.175886894472, 0.574541388658, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', 'cloud', 's', 'one', NULL, 173.9992819728943, 396, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3c7592771bfd806f399f9', 1799874656.1011806, 'responses', 'auto', 'local', NULL, 'score', 0.43224912710396035, NULL, NULL, 0.5, 1.122829846975299, NULL, 841.8557998440814, NULL, 'stopped', FALSE, NULL, 19, 5381, 'upstream', 0.002104362075, 0.621266604701, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'one', NULL, 581.4856288322505, 764, NULL, NULL, NULL, NULL, NULL, 0.5516555548336538, 'cut_off', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3d3ec79bd60c8e16eace0', 1799836282.7753787, 'chat.completions', 'auto', 'cloud', 'größer', 'budget', 0.4367651488581554, NULL, NULL, 0.5, 1.9238259734071574, 124.53200043974637, 2109.0435404195628, NULL, 'stopped', FALSE, 28037, 30, NULL, NULL, 0.009838729354, NULL, 0.906365315096, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'other', NULL, 583.916410697306, NULL, NULL, NULL, NULL, NULL, NULL, 0.256707976428696, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3e10084d3588690b9874b', 1799972063.9297154, 'embeddings', NULL, 'cloud', 'phi3:latest', 'router_unavailable', NULL, NULL, NULL, 0.5, 3.07075552804987, NULL, 8100.015815575583, NULL, 'rejected', FALSE, 64750, 734, 7661, NULL, 0.000637647921, 0.767405219542, 0.80240191109, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', 'local', 's', 'one', NULL, NULL, 66, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash, queue_ms, connect_ms, opened_ms, attempt_ms, fallback_error, own_threshold) VALUES
    ('req_01a2320b34a3e318f9bea5d437fe6b6d', 1799861133.0555735, 'chat.completions', 'auto', 'cloud', 'gpt-4o-mini', 'overload', 0.2711173228946946, NULL, NULL, NULL, 0.7089892403514734, 2416.0527477860305, 2510.4139269978637, NULL, 'upstream_error', TRUE, 73412, NULL, NULL, 'upstream', 0.005526283762, 0.36811838055, 0.018073142941, NULL, NULL, NULL, NULL, 's', 'other', NULL, 1082.975019779816, 678, NULL, NULL, NULL, NULL, NULL, 0.32825187178022763, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a2320b34a3d3ec79bd60c8e16eace0', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a2320b34a3d3ec79bd60c8e16eace0', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2320b34a3bcaadb3b8a42d4e0bffd', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2320b34a3e318f9bea5d437fe6b6d', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799834400, 'chat.completions', 'cloud', 'größer', 'budget', 'stopped', 'maths', 1, 0, 0, 0, 28037, 30, 0, 0, 9838729354, 0, 906365315096);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799838000, 'embeddings', '', '', '', 'rejected', 'other', 1, 0, 0, 0, 91953, 75, 7596, 736, 0, 161082926548, 921121449370);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799859600, 'chat.completions', 'cloud', 'gpt-4o-mini', 'overload', 'upstream_error', '', 1, 1, 0, 0, 73412, 0, 0, 678, 5526283762, 368118380550, 18073142941);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799874000, 'chat.completions', 'cloud', 'gpt-4o-mini', 'overload', 'stopped', 'code', 1, 0, 0, 0, 0, 158, 5712, 0, 67332268, 192266818824, 470481725496);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799874000, 'responses', 'local', '', 'score', 'stopped', 'code', 1, 0, 0, 0, 0, 19, 5381, 764, 2104362075, 621266604701, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799895600, 'embeddings', 'cloud', 'phi3:latest', 'housekeeping', 'ok', 'maths', 1, 0, 0, 0, 18797, 634, 877, 0, 8176004030, 31740262021, 343643928372);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799960400, 'responses', 'cloud', 'gpt-4o-mini', 'unhealthy', 'ok', 'code', 1, 1, 0, 0, 56919, 547, 805, 0, 3536922437, 0, 956401257944);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'embeddings', 'cloud', 'phi3:latest', 'router_unavailable', 'rejected', 'writing', 1, 0, 1, 0, 64750, 734, 7661, 66, 637647921, 767405219542, 802401911090);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799989200, 'embeddings', 'local', 'größer', 'rule', 'upstream_error', 'writing', 1, 1, 1, 1, 74960, 0, 7281, 287, 2562057584, 229820170815, 636267075106);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799989200, 'responses', 'local', 'phi3:latest', 'loading', 'stopped', 'maths', 1, 0, 0, 0, 20949, 210, 9298, 400, 0, 217786109769, 224154788348);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799996400, 'embeddings', 'local', '', 'housekeeping', 'rejected', 'writing', 1, 0, 1, 0, 91858, 780, 1551, 396, 9307331552, 175886894472, 574541388658);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799996400, 'responses', 'cloud', '', 'context', 'timeout', 'writing', 1, 0, 1, 0, 749, 158, 8728, 485, 8987914531, 46778509472, 811423463863);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'decision_ms', 'cloud', 5, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'duration_ms', 'cloud', 66, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'merit', 'cloud', 25, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'overhead_ms', 'cloud', 63, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'score', 'cloud', 43, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'ttft_ms', 'cloud', 41, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'decision_ms', '', -1, 1, 161082926548);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'duration_ms', '', 66, 1, 161082926548);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'merit', '', 99, 1, 161082926548);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'overhead_ms', '', 64, 1, 161082926548);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'score', '', 99, 1, 161082926548);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'ttft_ms', '', 47, 1, 161082926548);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'decision_ms', 'cloud', -3, 1, 368118380550);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'duration_ms', 'cloud', 67, 1, 368118380550);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'merit', 'cloud', 32, 1, 368118380550);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'overhead_ms', 'cloud', 63, 1, 368118380550);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'score', 'cloud', 27, 1, 368118380550);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'ttft_ms', 'cloud', 67, 1, 368118380550);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'decision_ms', 'cloud', 7, 1, 192266818824);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'decision_ms', 'local', 1, 1, 621266604701);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'duration_ms', 'cloud', 59, 1, 192266818824);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'duration_ms', 'local', 58, 1, 621266604701);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'merit', 'local', 55, 1, 621266604701);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'overhead_ms', 'cloud', 57, 1, 192266818824);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'overhead_ms', 'local', 48, 1, 621266604701);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799874000, 'score', 'local', 43, 1, 621266604701);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'decision_ms', 'cloud', 8, 1, 31740262021);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'duration_ms', 'cloud', 50, 1, 31740262021);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'overhead_ms', 'cloud', 46, 1, 31740262021);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'ttft_ms', 'cloud', 43, 1, 31740262021);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'decision_ms', 'cloud', 9, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'duration_ms', 'cloud', 68, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'merit', 'cloud', 26, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'overhead_ms', 'cloud', 67, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'score', 'cloud', 0, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'ttft_ms', 'cloud', 48, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'cloud', 9, 1, 767405219542);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'cloud', 78, 1, 767405219542);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'cloud', 78, 1, 767405219542);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'decision_ms', 'local', 1, 1, 229820170815);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'duration_ms', 'local', 48, 1, 217786109769);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'duration_ms', 'local', 56, 1, 229820170815);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'merit', 'local', 99, 1, 217786109769);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'overhead_ms', 'local', -60, 1, 217786109769);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'overhead_ms', 'local', 56, 1, 229820170815);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'score', 'local', 0, 1, 217786109769);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'ttft_ms', 'local', 35, 1, 229820170815);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'ttft_ms', 'local', 43, 1, 217786109769);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'decision_ms', 'cloud', 1, 1, 46778509472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'decision_ms', 'local', 10, 1, 175886894472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'duration_ms', 'cloud', 75, 1, 46778509472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'duration_ms', 'local', 47, 1, 175886894472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'merit', 'cloud', 99, 1, 46778509472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'merit', 'local', 99, 1, 175886894472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'overhead_ms', 'cloud', 74, 1, 46778509472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'overhead_ms', 'local', 37, 1, 175886894472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'score', 'cloud', 42, 1, 46778509472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'score', 'local', 0, 1, 175886894472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'ttft_ms', 'cloud', 38, 1, 46778509472);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799996400, 'ttft_ms', 'local', 37, 1, 175886894472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', -1, 1, 161082926548);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', -3, 1, 368118380550);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', 5, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', 7, 1, 192266818824);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'local', 1, 1, 621266604701);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 66, 1, 161082926548);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 59, 1, 192266818824);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 66, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 67, 1, 368118380550);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 58, 1, 621266604701);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', '', 99, 1, 161082926548);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'cloud', 25, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'cloud', 32, 1, 368118380550);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'local', 55, 1, 621266604701);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 64, 1, 161082926548);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 57, 1, 192266818824);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 63, 2, 368118380550);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 48, 1, 621266604701);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 99, 1, 161082926548);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'cloud', 27, 1, 368118380550);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'cloud', 43, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 43, 1, 621266604701);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 47, 1, 161082926548);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 41, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 67, 1, 368118380550);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 8, 1, 31740262021);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 9, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 50, 1, 31740262021);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 68, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'cloud', 26, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 46, 1, 31740262021);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 67, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 0, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 43, 1, 31740262021);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 48, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'cloud', 1, 1, 46778509472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'cloud', 9, 1, 767405219542);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'local', 1, 1, 229820170815);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'local', 10, 1, 175886894472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'cloud', 75, 1, 46778509472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'cloud', 78, 1, 767405219542);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 47, 1, 175886894472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 48, 1, 217786109769);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 56, 1, 229820170815);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'merit', 'cloud', 99, 1, 46778509472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'merit', 'local', 99, 2, 393673004241);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'cloud', 74, 1, 46778509472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'cloud', 78, 1, 767405219542);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', -60, 1, 217786109769);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', 37, 1, 175886894472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', 56, 1, 229820170815);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', 'cloud', 42, 1, 46778509472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', 'local', 0, 2, 393673004241);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'cloud', 38, 1, 46778509472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 35, 1, 229820170815);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 37, 1, 175886894472);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 43, 1, 217786109769);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why, evidence) VALUES
    ('req_01a2320b34a3d3ec79bd60c8e16eace0', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL, '{"broken":false,"agrees":true}');

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why, evidence) VALUES
    ('req_01a2320b34a3b8c20f5fdc2856f844be', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a2320b34a3d3ec79bd60c8e16eace0', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a2320b34a3d3ec79bd60c8e16eace0', 'gpt-4o-mini', 0.000125, TRUE);

INSERT INTO jobs (id, step, arguments, state, created_at, started_at, ended_at, exit_status, host, pid, worker, seen_at, is_unwanted, progress, message, log, log_start, cost_usd) VALUES
    ('job_1', 'report', '{}', 'done', 1800000000.0, 1800000000.0, 1800000001.5, 0, 'a', 4711, 'a/4711/1', 1800000001.5, FALSE, 1.0, NULL, 'fertig
', 0, NULL);

INSERT INTO rates (key_hash, full_at) VALUES
    ('one', 1800000012.5);

INSERT INTO leases (day, name, holder, usd) VALUES
    (20833, '', '0123456789abcdef', 0.125);

INSERT INTO leases (day, name, holder, usd) VALUES
    (20833, 'one', '0123456789abcdef', 0.0625);

INSERT INTO learning_steps (id, created_at, ended_at, expires_at, kind, state, worker, local_model, cloud_model, second_model, judgement_id, version_before, version, test, pairs, tested, evidence, cost_share, difference, low, high, level, decision, why, manifest, previous) VALUES
    (1, 1800000000.0, 1800000009.5, 1800003600.0, 'fit', 'done', 'a:1', 'phi3:latest', 'gpt-4o-mini', '', 2, '1', '1+own', 1, 500, 480, 0, 0.4, 0.05, 0.01, 0.09, 0.975, 'activated', 'better', '{}', '{}');

INSERT INTO bodies (request_id, created_at, request, response) VALUES
    ('req_01a2320b34a3d3ec79bd60c8e16eace0', 1800000000.0, '{"model": "auto"}', NULL);

INSERT INTO choices (id, created_at, request_id, other_id, client_key_hash, source, choice, is_blind, may_learn, local_model, cloud_model, category) VALUES
    (1, 1800000000.0, 'req_01a2320b34a3d3ec79bd60c8e16eace0', 'req_other', 'one', 'chat', 'tie', FALSE, TRUE, 'phi3:latest', 'gpt-4o-mini', NULL);

INSERT INTO api_keys (key_hash, digest, name, prefix, created_at, created_by, revoked_at, is_admin, requests_per_minute, cloud_usd_per_day) VALUES
    ('one', '00ff', 'Zoë''s key', 'sk-hybrid-1', 1800000000.0, NULL, NULL, FALSE, 60, 0.5);

INSERT INTO audit_log (id, created_at, actor, action, subject, details) VALUES
    (1, 1800000000.0, NULL, 'key.created', 'one', '{"name":"Zoë''s key"}');

INSERT INTO notifications (name, is_active, claimed_at) VALUES
    ('budget', TRUE, 1800000000.0);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799834400, 'other', 'cloud', 'stopped', 1, 28037, 30, 0, 9838729354, 0, 906365315096);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799859600, 'other', 'cloud', 'upstream_error', 1, 73412, 0, 0, 5526283762, 368118380550, 18073142941);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799874000, 'one', 'local', 'stopped', 1, 0, 19, 5381, 2104362075, 621266604701, 0);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799874000, 'other', 'cloud', 'stopped', 1, 0, 158, 5712, 67332268, 192266818824, 470481725496);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799895600, 'other', 'cloud', 'ok', 1, 18797, 634, 877, 8176004030, 31740262021, 343643928372);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799960400, 'other', 'cloud', 'ok', 1, 56919, 547, 805, 3536922437, 0, 956401257944);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'one', 'cloud', 'rejected', 1, 64750, 734, 7661, 637647921, 767405219542, 802401911090);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799989200, 'one', 'local', 'stopped', 1, 20949, 210, 9298, 0, 217786109769, 224154788348);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799989200, 'one', 'local', 'upstream_error', 1, 74960, 0, 7281, 2562057584, 229820170815, 636267075106);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799996400, 'one', 'cloud', 'timeout', 1, 749, 158, 8728, 8987914531, 46778509472, 811423463863);

INSERT INTO key_hours (hour, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799996400, 'one', 'local', 'rejected', 1, 91858, 780, 1551, 9307331552, 175886894472, 574541388658);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799798400, 'one', 'local', 'stopped', 1, 0, 19, 5381, 2104362075, 621266604701, 0);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799798400, 'other', 'cloud', 'stopped', 2, 28037, 188, 5712, 9906061622, 192266818824, 1376847040592);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799798400, 'other', 'cloud', 'upstream_error', 1, 73412, 0, 0, 5526283762, 368118380550, 18073142941);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799884800, 'other', 'cloud', 'ok', 2, 75716, 1181, 1682, 11712926467, 31740262021, 1300045186316);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'one', 'cloud', 'rejected', 1, 64750, 734, 7661, 637647921, 767405219542, 802401911090);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'one', 'cloud', 'timeout', 1, 749, 158, 8728, 8987914531, 46778509472, 811423463863);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'one', 'local', 'rejected', 1, 91858, 780, 1551, 9307331552, 175886894472, 574541388658);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'one', 'local', 'stopped', 1, 20949, 210, 9298, 0, 217786109769, 224154788348);

INSERT INTO key_days (day, key_hash, target, ending, requests, input_tokens, cached_input_tokens, output_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'one', 'local', 'upstream_error', 1, 74960, 0, 7281, 2562057584, 229820170815, 636267075106);

