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
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT, propensity DOUBLE PRECISION, candidate_score DOUBLE PRECISION);

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

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb0291c7628e4336c49813f6a', 1799927317.9052596, 'chat.completions', 'auto', 'cloud', NULL, 'escalated', 0.0, NULL, NULL, NULL, NULL, 122.1425455537166, 1911.3214170662802, NULL, 'timeout', FALSE, 35692, NULL, 5919, 'estimated', 0.00554489991, 0.042756575791, 0.614741250857, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, NULL, 'other', NULL, 233.7079015130777, 814, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb029347bf1f739cd6ef1374a', 1799938807.2852073, 'embeddings', 'auto', 'cloud', 'gpt-4o-mini', 'unhealthy', NULL, NULL, NULL, 0.5, 3.0704099502962667, 124.2296854067108, 10814.094489710871, NULL, 'rejected', FALSE, 90331, 495, 795, NULL, 0.003943154445, 0.816711326342, 0.277426819152, NULL, NULL, NULL, NULL, 's', 'other', NULL, 109.23200120578832, 615, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb0293d1183e3b6279b2e9590', 1799935463.607884, 'embeddings', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0.5, 0.45115100473884406, NULL, 1408.9983242790045, NULL, 'stopped', FALSE, NULL, NULL, NULL, NULL, NULL, 0.608322859527, 0.012955769177, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', NULL, NULL, NULL, NULL, NULL, NULL, 115, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb02941df9a4d1a34913ff422', 1799929464.1756802, 'embeddings', 'auto', NULL, NULL, NULL, 0.0, NULL, NULL, NULL, NULL, 657.1001636321943, 1817.7963672564133, NULL, 'upstream_error', TRUE, NULL, 711, 9537, 'upstream', 0.005950561873, 0.53064717176, NULL, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'one', NULL, NULL, 799, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb0298d1622e99e7ff5d20bb6', 1799990341.3454244, 'chat.completions', NULL, NULL, NULL, NULL, 0.0, NULL, NULL, NULL, 4.656256670734795, 518.015663789434, 5135.748933795337, NULL, 'timeout', FALSE, 98252, NULL, NULL, 'upstream', 0.007408847176, 0.268696692483, 0.677306504367, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'other', NULL, 654.3683577291074, 143, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb02992f73a9933b8d8c9b7f3', 1799925316.7919078, 'chat.completions', 'auto', 'cloud', 'gpt-4o-mini', 'fallback', NULL, NULL, NULL, 0.5, NULL, NULL, 422.12385073864715, NULL, 'client_gone', TRUE, 8653, 838, 5173, 'estimated', 0.004387610652, NULL, 0.600373020904, NULL, NULL, NULL, NULL, 's', 'one', NULL, NULL, 483, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb02993e136be0074467f1f36', 1799971372.6154506, 'responses', NULL, 'local', 'gpt-4o-mini', 'unhealthy', 0.0, NULL, NULL, 0.5, 0.9245205525572092, 89.87236637160166, 1000.454949846084, NULL, 'ok', TRUE, 88078, NULL, NULL, 'estimated', 0.009254251188, 0.748082009378, 0.128518902403, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', NULL, NULL, 1448.0419707027063, 377, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb02999b0aafc6a9dde4fbeea', 1799823563.1320632, 'chat.completions', NULL, NULL, NULL, NULL, 1.0, NULL, NULL, 0.5, NULL, 700.5422010981199, 362.3199166808699, NULL, 'internal_error', TRUE, 10333, 747, 9516, NULL, 0.009199210947, 0.961714314886, 0.213867000461, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, NULL, NULL, NULL, 322.6526492067107, 958, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb0299b06c768e4cbc0ca9bf4', 1799961635.0152504, 'embeddings', 'auto', 'local', 'gpt-4o-mini', 'unhealthy', 1.0, NULL, NULL, 0.5, NULL, 130.191525473393, 1123.6763250111376, NULL, 'ok', FALSE, 81752, 442, 9833, 'estimated', 0.008878676364, 0.159441981417, 0.622419267009, NULL, NULL, NULL, NULL, 's', 'other', NULL, 115.11059525951109, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb029c2ba06f39e737d022865', 1799916855.424412, 'responses', 'auto', 'cloud', 'gpt-4o-mini', 'score', 0.0, NULL, NULL, NULL, 3.4810279743609835, NULL, 659.7313500255538, NULL, 'client_gone', FALSE, NULL, 733, 8047, NULL, 0.001162696015, 0.546840256958, 0.050797901511, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', 'local', 's', NULL, NULL, 1155.9686406541682, 482, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb029e5badd8d5994320b1b05', 1799832681.9827292, 'chat.completions', 'auto', 'cloud', 'phi3:latest', 'sticky', NULL, NULL, NULL, 0.5, 0.8064066582395717, 306.4448746971373, 1554.1374004756578, NULL, 'rejected', TRUE, 1730, 573, 7770, 'estimated', NULL, 0.328965362309, 0.522953726126, NULL, NULL, NULL, NULL, NULL, 'one', NULL, NULL, 251, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bb029f5bb8057ac1125c4ea39', 1799889558.4635866, 'chat.completions', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, 0.5, 2.084866237067369, 1144.5489229315733, 5261.503303992645, NULL, 'client_gone', TRUE, NULL, 838, NULL, NULL, 0.008744820181, 0.662253194609, 0.665291088685, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'other', NULL, 346.7191927753103, 657, NULL, NULL, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a2195bb02999b0aafc6a9dde4fbeea', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a2195bb02999b0aafc6a9dde4fbeea', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195bb029e5badd8d5994320b1b05', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195bb029f5bb8057ac1125c4ea39', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799820000, 'chat.completions', '', '', '', 'internal_error', 'other', 1, 1, 0, 0, 10333, 747, 9516, 958, 9199210947, 961714314886, 213867000461);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799830800, 'chat.completions', 'cloud', 'phi3:latest', 'sticky', 'rejected', '', 1, 1, 0, 1, 1730, 573, 7770, 251, 0, 328965362309, 522953726126);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799888400, 'chat.completions', '', '', '', 'client_gone', 'maths', 1, 1, 0, 0, 0, 838, 0, 657, 8744820181, 662253194609, 665291088685);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799913600, 'responses', 'cloud', 'gpt-4o-mini', 'score', 'client_gone', 'code', 1, 0, 1, 0, 0, 733, 8047, 482, 1162696015, 546840256958, 50797901511);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799924400, 'chat.completions', 'cloud', '', 'escalated', 'timeout', 'other', 1, 0, 0, 1, 35692, 0, 5919, 814, 5544899910, 42756575791, 614741250857);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799924400, 'chat.completions', 'cloud', 'gpt-4o-mini', 'fallback', 'client_gone', '', 1, 1, 0, 1, 8653, 838, 5173, 483, 4387610652, 0, 600373020904);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799928000, 'embeddings', '', '', '', 'upstream_error', 'other', 1, 1, 0, 0, 0, 711, 9537, 799, 5950561873, 530647171760, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799935200, 'embeddings', '', '', '', 'stopped', 'maths', 1, 0, 0, 0, 0, 0, 0, 115, 0, 608322859527, 12955769177);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799938800, 'embeddings', 'cloud', 'gpt-4o-mini', 'unhealthy', 'rejected', '', 1, 0, 0, 0, 90331, 495, 795, 615, 3943154445, 816711326342, 277426819152);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799960400, 'embeddings', 'local', 'gpt-4o-mini', 'unhealthy', 'ok', '', 1, 0, 0, 1, 81752, 442, 9833, 0, 8878676364, 159441981417, 622419267009);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799971200, 'responses', 'local', 'gpt-4o-mini', 'unhealthy', 'ok', 'code', 1, 1, 0, 1, 88078, 0, 0, 377, 9254251188, 748082009378, 128518902403);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799989200, 'chat.completions', '', '', '', 'timeout', 'other', 1, 0, 0, 0, 98252, 0, 0, 143, 7408847176, 268696692483, 677306504367);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'duration_ms', '', 51, 1, 961714314886);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'overhead_ms', '', 31, 1, 961714314886);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'score', '', 99, 1, 961714314886);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'ttft_ms', '', 56, 1, 961714314886);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'decision_ms', 'cloud', -2, 1, 328965362309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'duration_ms', 'cloud', 63, 1, 328965362309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'overhead_ms', 'cloud', 63, 1, 328965362309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'ttft_ms', 'cloud', 49, 1, 328965362309);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'decision_ms', '', 6, 1, 662253194609);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'duration_ms', '', 74, 1, 662253194609);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'overhead_ms', '', 73, 1, 662253194609);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'score', '', 99, 1, 662253194609);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'ttft_ms', '', 61, 1, 662253194609);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'decision_ms', 'cloud', 10, 1, 546840256958);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'duration_ms', 'cloud', 56, 1, 546840256958);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'overhead_ms', 'cloud', -60, 1, 546840256958);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'score', 'cloud', 0, 1, 546840256958);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799924400, 'duration_ms', 'cloud', 52, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799924400, 'duration_ms', 'cloud', 65, 1, 42756575791);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799924400, 'overhead_ms', 'cloud', 52, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799924400, 'overhead_ms', 'cloud', 64, 1, 42756575791);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799924400, 'score', 'cloud', 0, 1, 42756575791);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799924400, 'ttft_ms', 'cloud', 41, 1, 42756575791);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'duration_ms', '', 65, 1, 530647171760);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'overhead_ms', '', 65, 1, 530647171760);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'score', '', 0, 1, 530647171760);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'ttft_ms', '', 56, 1, 530647171760);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'decision_ms', '', -7, 1, 608322859527);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'duration_ms', '', 62, 1, 608322859527);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'overhead_ms', '', 62, 1, 608322859527);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'decision_ms', 'cloud', 9, 1, 816711326342);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'duration_ms', 'cloud', 80, 1, 816711326342);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'overhead_ms', 'cloud', 80, 1, 816711326342);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799938800, 'ttft_ms', 'cloud', 41, 1, 816711326342);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'duration_ms', 'local', 61, 1, 159441981417);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'overhead_ms', 'local', 60, 1, 159441981417);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'score', 'local', 99, 1, 159441981417);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'ttft_ms', 'local', 42, 1, 159441981417);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'local', -1, 1, 748082009378);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 60, 1, 748082009378);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', -60, 1, 748082009378);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', 'local', 0, 1, 748082009378);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 39, 1, 748082009378);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'decision_ms', '', 13, 1, 268696692483);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'duration_ms', '', 74, 1, 268696692483);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'overhead_ms', '', 73, 1, 268696692483);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'score', '', 0, 1, 268696692483);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799989200, 'ttft_ms', '', 54, 1, 268696692483);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', -2, 1, 328965362309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 51, 1, 961714314886);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 63, 1, 328965362309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 31, 1, 961714314886);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 63, 1, 328965362309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 99, 1, 961714314886);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 56, 1, 961714314886);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 49, 1, 328965362309);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', -7, 1, 608322859527);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 6, 1, 662253194609);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 9, 1, 816711326342);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 10, 1, 546840256958);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 62, 1, 608322859527);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 65, 1, 530647171760);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 74, 1, 662253194609);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 52, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 56, 1, 546840256958);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 65, 1, 42756575791);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 80, 1, 816711326342);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 61, 1, 159441981417);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 62, 1, 608322859527);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 65, 1, 530647171760);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 73, 1, 662253194609);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', -60, 1, 546840256958);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 52, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 64, 1, 42756575791);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 80, 1, 816711326342);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 60, 1, 159441981417);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 0, 1, 530647171760);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 99, 1, 662253194609);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 0, 2, 589596832749);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 99, 1, 159441981417);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 56, 1, 530647171760);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 61, 1, 662253194609);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 41, 2, 859467902133);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 42, 1, 159441981417);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', 13, 1, 268696692483);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'local', -1, 1, 748082009378);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 74, 1, 268696692483);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 60, 1, 748082009378);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', 73, 1, 268696692483);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', -60, 1, 748082009378);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', '', 0, 1, 268696692483);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', 'local', 0, 1, 748082009378);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', '', 54, 1, 268696692483);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 39, 1, 748082009378);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a2195bb02999b0aafc6a9dde4fbeea', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a2195bb029c2ba06f39e737d022865', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a2195bb02999b0aafc6a9dde4fbeea', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a2195bb02999b0aafc6a9dde4fbeea', 'gpt-4o-mini', 0.000125, TRUE);

INSERT INTO jobs (id, step, arguments, state, created_at, started_at, ended_at, exit_status, host, pid, worker, seen_at, is_unwanted, progress, message, log, log_start, cost_usd) VALUES
    ('job_1', 'report', '{}', 'done', 1800000000.0, 1800000000.0, 1800000001.5, 0, 'a', 4711, 'a/4711/1', 1800000001.5, FALSE, 1.0, NULL, 'fertig
', 0, NULL);

