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
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT, propensity DOUBLE PRECISION, candidate_score DOUBLE PRECISION, rule TEXT, merit DOUBLE PRECISION, failed_check TEXT, discarded_tokens BIGINT);

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
    other_response TEXT, why TEXT);

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

CREATE INDEX request_session_id_created_at ON requests (session_id, created_at)
    WHERE session_id IS NOT NULL;

CREATE TABLE rates (
    key_hash TEXT NOT NULL PRIMARY KEY, full_at DOUBLE PRECISION NOT NULL);

CREATE TABLE leases (
    day BIGINT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL,
    usd DOUBLE PRECISION NOT NULL, PRIMARY KEY (day, name, holder));

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

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec81c188d349b895e18e900', 1799940560.9942863, 'chat.completions', 'auto', NULL, NULL, NULL, 0.6063808191715755, NULL, NULL, 0.5, 3.7093469647601225, 43.103309209016786, 108.46456172740844, NULL, 'ok', FALSE, 65108, 202, 6523, NULL, 0.003660155614, NULL, 0.295585415572, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'one', NULL, 801.9458819786025, 783, NULL, NULL, NULL, NULL, NULL, 0.7368824183559708, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec81eb27f0632c1d4027ab4', 1799944122.3586116, 'chat.completions', 'auto', NULL, NULL, NULL, 0.0, NULL, NULL, 0.5, 1.458039356969309, 37.158387231636915, 2830.6220338569083, NULL, 'stopped', FALSE, NULL, 356, 2629, 'estimated', NULL, 0.056746928249, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'other', NULL, 620.4078341778136, 29, NULL, NULL, NULL, NULL, NULL, 0.705415799515773, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec8448eb462e48da8570c1f', 1799961583.1035383, 'responses', 'auto', 'local', 'phi3:latest', 'unhealthy', 0.6675053707532393, NULL, NULL, NULL, 0.856924306423629, 512.6979057323803, 1601.882064032855, NULL, 'ok', FALSE, NULL, 509, 4067, 'estimated', 0.001862179684, 0.839226504736, 0.616873572149, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, NULL, 'other', NULL, 456.302298774527, 67, NULL, NULL, NULL, NULL, NULL, 0.8755169679143433, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec84cde15261ead8dc5eeb3', 1799994941.8821173, 'embeddings', NULL, 'local', NULL, 'escalated', 1.0, NULL, NULL, 0.5, NULL, 311.704960065713, 4397.575739595724, NULL, 'internal_error', TRUE, 39013, 78, 4020, 'estimated', 0.004285741827, NULL, 0.221096957392, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', NULL, NULL, 401.85913996038454, 987, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec84da23de896c4e5a1ac23', 1799948708.8074844, 'embeddings', 'auto', NULL, NULL, NULL, 0.13455014929721065, NULL, NULL, 0.5, NULL, 309.32322915402796, 4461.883478063883, NULL, 'stopped', FALSE, 43391, 694, 9845, 'upstream', 0.004697575105, 0.593908711015, 0.839392316536, NULL, NULL, NULL, NULL, NULL, 'one', NULL, 971.5509103886184, NULL, NULL, NULL, NULL, NULL, NULL, 0.9999, 'cut_off', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec85128c9f5b4cebb6157aa', 1799861093.1498742, 'embeddings', 'auto', NULL, NULL, NULL, 0.0, NULL, NULL, 0.5, 1.87338507847136, 253.4333958025262, 2325.3502878017102, NULL, 'ok', FALSE, 69315, 817, 1380, 'estimated', 0.007367872448, 0.527814187592, 0.598402394471, NULL, NULL, NULL, NULL, NULL, 'one', NULL, 1605.8994109324178, 808, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec85fce01e0571ac9f68de5', 1799904319.7107744, 'embeddings', 'auto', 'cloud', 'phi3:latest', 'housekeeping', 1.0, NULL, NULL, NULL, NULL, 102.9104853247741, 3776.6895704916938, NULL, 'internal_error', FALSE, 21317, 545, 8007, 'estimated', 0.008840950293, 0.023913703633, 0.769680167986, NULL, NULL, NULL, NULL, NULL, 'one', NULL, 137.83339757724605, 548, NULL, NULL, NULL, NULL, NULL, 0.7649879050016375, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec86d9a3c08552155536ad4', 1799824516.0186255, 'embeddings', 'auto', 'local', 'größer', 'capability', 0.0, NULL, NULL, 0.5, NULL, NULL, 2188.972931627729, NULL, 'stopped', FALSE, 87788, 481, 5303, 'upstream', 0.004663969679, 0.007743110458, 0.224629669992, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, NULL, 818, NULL, NULL, NULL, NULL, NULL, 0.14911163098036428, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec87aeca4c1ea4ea5cfd25f', 1799951915.804111, 'chat.completions', NULL, 'cloud', 'phi3:latest', 'sticky', NULL, NULL, NULL, NULL, 0.9782346270857283, 477.9387642106794, 2507.2788928055697, NULL, 'client_gone', TRUE, 91763, 388, NULL, NULL, 0.00692870667, 0.149139143447, 0.070255347674, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', NULL, NULL, 's', NULL, NULL, NULL, 432, NULL, NULL, NULL, NULL, NULL, NULL, 'cut_off', 670);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec8a17895f0e1d937a32e5d', 1799887959.0472023, 'chat.completions', 'auto', 'local', 'größer', 'fallback', NULL, NULL, NULL, 0.5, 1.258574090453848, 75.33469985277532, 953.4301642474934, NULL, 'ok', TRUE, 11064, 363, 8962, 'upstream', 0.001044131504, 0.860400946309, 0.649469176797, NULL, NULL, NULL, NULL, 's', 'one', NULL, 1482.84755652094, 26, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec8e64c0b2dd0ba5cfa1716', 1799865408.329093, 'chat.completions', 'auto', 'cloud', NULL, 'escalated', NULL, NULL, NULL, NULL, 0.478453454336059, 201.68822267158072, 2981.242846963915, NULL, 'stopped', TRUE, 49076, NULL, NULL, 'estimated', 0.006582706408, 0.714035597416, 0.018303736547, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', NULL, NULL, 1613.7077122395526, 187, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens) VALUES
    ('req_01a22d38bec8fedb385006ca4e8ef576', 1799954412.3616078, 'embeddings', 'auto', 'local', 'phi3:latest', 'budget', 0.0, NULL, NULL, 0.5, 3.560555208198221, 72.7696230746767, 813.7165290536273, NULL, 'ok', FALSE, NULL, 654, 4508, 'estimated', NULL, NULL, NULL, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, 497.5181062238337, NULL, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a22d38bec86d9a3c08552155536ad4', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a22d38bec86d9a3c08552155536ad4', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22d38bec85128c9f5b4cebb6157aa', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22d38bec8e64c0b2dd0ba5cfa1716', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799823600, 'embeddings', 'local', 'größer', 'capability', 'stopped', 'maths', 1, 0, 0, 0, 87788, 481, 5303, 818, 4663969679, 7743110458, 224629669992);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799859600, 'embeddings', '', '', '', 'ok', '', 1, 0, 0, 1, 69315, 817, 1380, 808, 7367872448, 527814187592, 598402394471);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799863200, 'chat.completions', 'cloud', '', 'escalated', 'stopped', 'code', 1, 1, 0, 1, 49076, 0, 0, 187, 6582706408, 714035597416, 18303736547);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799884800, 'chat.completions', 'local', 'größer', 'fallback', 'ok', '', 1, 1, 0, 0, 11064, 363, 8962, 26, 1044131504, 860400946309, 649469176797);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799902800, 'embeddings', 'cloud', 'phi3:latest', 'housekeeping', 'internal_error', '', 1, 0, 0, 1, 21317, 545, 8007, 548, 8840950293, 23913703633, 769680167986);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799938800, 'chat.completions', '', '', '', 'ok', 'other', 1, 0, 0, 0, 65108, 202, 6523, 783, 3660155614, 0, 295585415572);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799942400, 'chat.completions', '', '', '', 'stopped', 'code', 1, 0, 0, 1, 0, 356, 2629, 29, 0, 56746928249, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799946000, 'embeddings', '', '', '', 'stopped', '', 1, 0, 0, 0, 43391, 694, 9845, 0, 4697575105, 593908711015, 839392316536);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799949600, 'chat.completions', 'cloud', 'phi3:latest', 'sticky', 'client_gone', 'maths', 1, 1, 0, 0, 91763, 388, 0, 432, 6928706670, 149139143447, 70255347674);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799953200, 'embeddings', 'local', 'phi3:latest', 'budget', 'ok', 'maths', 1, 0, 0, 1, 0, 654, 4508, 0, 0, 0, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799960400, 'responses', 'local', 'phi3:latest', 'unhealthy', 'ok', 'writing', 1, 0, 0, 1, 0, 509, 4067, 67, 1862179684, 839226504736, 616873572149);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799992800, 'embeddings', 'local', '', 'escalated', 'internal_error', 'code', 1, 1, 0, 1, 39013, 78, 4020, 987, 4285741827, 0, 221096957392);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799823600, 'duration_ms', 'local', 66, 1, 7743110458);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799823600, 'merit', 'local', 14, 1, 7743110458);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799823600, 'overhead_ms', 'local', 66, 1, 7743110458);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799823600, 'score', 'local', 0, 1, 7743110458);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'decision_ms', '', 5, 1, 527814187592);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'duration_ms', '', 67, 1, 527814187592);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'overhead_ms', '', 57, 1, 527814187592);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'ttft_ms', '', 48, 1, 527814187592);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'decision_ms', 'cloud', -7, 1, 714035597416);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'duration_ms', 'cloud', 69, 1, 714035597416);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'overhead_ms', 'cloud', 62, 1, 714035597416);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'ttft_ms', 'cloud', 46, 1, 714035597416);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 1, 1, 860400946309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 59, 1, 860400946309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', -60, 1, 860400946309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 37, 1, 860400946309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'duration_ms', 'cloud', 71, 1, 23913703633);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'merit', 'cloud', 76, 1, 23913703633);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'overhead_ms', 'cloud', 71, 1, 23913703633);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'score', 'cloud', 99, 1, 23913703633);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'ttft_ms', 'cloud', 40, 1, 23913703633);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'decision_ms', '', 11, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'duration_ms', '', 40, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'merit', '', 73, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'overhead_ms', '', -60, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'score', '', 60, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'ttft_ms', '', 32, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799942400, 'decision_ms', '', 3, 1, 56746928249);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799942400, 'duration_ms', '', 69, 1, 56746928249);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799942400, 'merit', '', 70, 1, 56746928249);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799942400, 'overhead_ms', '', 66, 1, 56746928249);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799942400, 'score', '', 0, 1, 56746928249);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799942400, 'ttft_ms', '', 31, 1, 56746928249);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799946000, 'duration_ms', '', 72, 1, 593908711015);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799946000, 'merit', '', 99, 1, 593908711015);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799946000, 'overhead_ms', '', 70, 1, 593908711015);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799946000, 'score', '', 13, 1, 593908711015);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799946000, 'ttft_ms', '', 49, 1, 593908711015);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'decision_ms', 'cloud', -1, 1, 149139143447);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'duration_ms', 'cloud', 67, 1, 149139143447);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'overhead_ms', 'cloud', 67, 1, 149139143447);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'ttft_ms', 'cloud', 53, 1, 149139143447);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'decision_ms', 'local', 11, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'duration_ms', 'local', 58, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'merit', 'local', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'overhead_ms', 'local', 49, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'score', 'local', 0, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'ttft_ms', 'local', 37, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'decision_ms', 'local', -2, 1, 839226504736);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'duration_ms', 'local', 64, 1, 839226504736);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'merit', 'local', 87, 1, 839226504736);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'overhead_ms', 'local', 61, 1, 839226504736);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'score', 'local', 66, 1, 839226504736);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'ttft_ms', 'local', 54, 1, 839226504736);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'duration_ms', 'local', 72, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'overhead_ms', 'local', 72, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'ttft_ms', 'local', 49, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 5, 1, 527814187592);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', -7, 1, 714035597416);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 67, 1, 527814187592);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 69, 1, 714035597416);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 66, 1, 7743110458);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'local', 14, 1, 7743110458);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 57, 1, 527814187592);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 62, 1, 714035597416);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 66, 1, 7743110458);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 0, 1, 7743110458);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 48, 1, 527814187592);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 46, 1, 714035597416);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 3, 1, 56746928249);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 11, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -1, 1, 149139143447);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', -2, 1, 839226504736);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 1, 1, 860400946309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 11, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 40, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 69, 1, 56746928249);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 72, 1, 593908711015);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 67, 1, 149139143447);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 71, 1, 23913703633);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 58, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 59, 1, 860400946309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 64, 1, 839226504736);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', '', 70, 1, 56746928249);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', '', 73, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', '', 99, 1, 593908711015);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'cloud', 76, 1, 23913703633);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'local', 87, 1, 839226504736);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'local', 99, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', -60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 66, 1, 56746928249);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 70, 1, 593908711015);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 67, 1, 149139143447);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 71, 1, 23913703633);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', -60, 1, 860400946309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 49, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 61, 1, 839226504736);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 0, 1, 56746928249);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 13, 1, 593908711015);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 99, 1, 23913703633);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 0, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 66, 1, 839226504736);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 31, 1, 56746928249);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 32, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 49, 1, 593908711015);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 40, 1, 23913703633);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 53, 1, 149139143447);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 37, 2, 860400946309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 54, 1, 839226504736);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 72, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', 72, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 49, 1, 0);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a22d38bec86d9a3c08552155536ad4', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a22d38bec8a17895f0e1d937a32e5d', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a22d38bec86d9a3c08552155536ad4', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a22d38bec86d9a3c08552155536ad4', 'gpt-4o-mini', 0.000125, TRUE);

INSERT INTO jobs (id, step, arguments, state, created_at, started_at, ended_at, exit_status, host, pid, worker, seen_at, is_unwanted, progress, message, log, log_start, cost_usd) VALUES
    ('job_1', 'report', '{}', 'done', 1800000000.0, 1800000000.0, 1800000001.5, 0, 'a', 4711, 'a/4711/1', 1800000001.5, FALSE, 1.0, NULL, 'fertig
', 0, NULL);

INSERT INTO rates (key_hash, full_at) VALUES
    ('one', 1800000012.5);

INSERT INTO leases (day, name, holder, usd) VALUES
    (20833, '', '0123456789abcdef', 0.125);

INSERT INTO leases (day, name, holder, usd) VALUES
    (20833, 'one', '0123456789abcdef', 0.0625);

