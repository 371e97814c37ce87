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

INSERT INTO migrations (number, name, applied_at) VALUES
    (1, 'first tables', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (2, 'sums and causes', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (3, 'judging', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (4, 'jobs', 1799996400.0);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb2a94ad8e30b0be1c684a', 1799843535.2702281, 'embeddings', 'auto', 'local', 'größer', 'context', NULL, NULL, NULL, NULL, NULL, NULL, 1082.9879339728268, NULL, 'stopped', FALSE, 88683, 35, 5376, 'upstream', 0.005652604499, 0.18599875066, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'one', NULL, 935.0122678972812, 788, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb2cc5dad79da2f94b48bb', 1799839758.2786257, 'embeddings', 'auto', 'cloud', 'phi3:latest', 'context', NULL, NULL, NULL, 0.5, 1.2595081494112133, 305.6405628171508, 4675.761234361386, NULL, 'stopped', FALSE, 340, 565, 6748, NULL, 0.009831422902, 0.196129792224, 0.281993926157, NULL, NULL, NULL, NULL, NULL, 'one', NULL, 350.02507210683285, 864, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb2e685039ecae908208e1', 1799838176.7969987, 'responses', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, 0.5, 1.2416069294502292, 67.27570706886785, 3951.19584832012, NULL, 'internal_error', TRUE, 53944, 257, 8850, 'estimated', 0.008574683886, 0.43786124407, 0.55801598904, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', NULL, NULL, 1920.7371665336298, 574, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb4687f4046755c5a23274', 1799968884.2894568, 'responses', NULL, 'cloud', NULL, 'unhealthy', 0.7502828063079432, NULL, NULL, 0.5, 0.6867766580680462, NULL, 328.7086027577628, NULL, 'client_gone', FALSE, 92193, 179, NULL, NULL, 0.001729271091, NULL, 0.926402363724, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, NULL, 'one', NULL, 5682.755338915006, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb762d3a76e6fd12a863a7', 1799921988.0070176, 'embeddings', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 2.072700001818655, 330.62111990689647, 4831.853987197471, NULL, 'internal_error', FALSE, 48757, 812, 1531, 'estimated', 0.00146047781, 0.41229236441, 0.970953590756, NULL, NULL, NULL, NULL, 's', 'other', NULL, 1337.206094544923, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb778038be2ce29f12d33f', 1799843452.2871144, 'chat.completions', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, 0.5, NULL, 94.09105677969184, 383.67266917549335, NULL, 'upstream_error', FALSE, NULL, 668, 663, NULL, NULL, NULL, 0.369077813738, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', NULL, NULL, 948.1824001152256, 95, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecb7a1034509c9ad614b6ec', 1799916719.4463854, 'responses', 'auto', 'local', 'größer', 'overload', NULL, NULL, NULL, 0.5, 3.823379780334731, NULL, 640.5005368740422, NULL, 'rejected', FALSE, 26564, 451, 5829, 'estimated', 0.000348216465, 0.356419538514, 0.776653694531, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, 130.0594250392747, 602, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecbb83e95aa10b233db1b76', 1799987954.7831926, 'chat.completions', 'auto', NULL, NULL, NULL, 0.0, NULL, NULL, 0.5, 1.7777287964658905, 93.71794908109584, 10135.591610497297, NULL, 'internal_error', TRUE, 73176, 895, 2446, 'upstream', 0.007630379781, 0.015808308202, 0.707693492961, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'one', NULL, 927.4799757723185, 880, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecbcf1a573885f29b1da3b1', 1799891981.8348224, 'chat.completions', NULL, 'cloud', 'phi3:latest', 'escalated', 0.17713558460406786, NULL, NULL, 0.5, 1.9720372258400714, 465.038217517202, 174.70511352922856, NULL, 'client_gone', TRUE, NULL, NULL, NULL, NULL, 0.008148250209, 0.585058344857, NULL, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', 'local', 's', NULL, NULL, 1931.8142843908834, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecbdf8d02b7ab66a450254f', 1799865630.9797416, 'responses', 'auto', 'cloud', 'phi3:latest', 'context', 1.0, NULL, NULL, 0.5, 0.37655564565104277, 398.7442588644059, 424.03429751699684, NULL, 'ok', FALSE, NULL, 563, 3304, 'estimated', NULL, 0.869055621798, 0.482297245066, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'other', NULL, NULL, 622, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecbeb1dd8aac270f2005ca1', 1799954991.4727457, 'embeddings', NULL, 'cloud', 'gpt-4o-mini', 'overload', 0.490667615701743, NULL, NULL, 0.5, NULL, 205.4545626491614, 788.4801124011396, NULL, 'ok', TRUE, 38054, NULL, NULL, 'estimated', 0.001254110415, 0.6548135727, 0.665362632071, NULL, NULL, NULL, NULL, 's', 'one', NULL, 328.126447472475, 116, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195baecbfe2971b8bec61163e6e0', 1799870180.9570842, 'responses', 'auto', 'local', 'phi3:latest', 'router_unavailable', NULL, NULL, NULL, NULL, 0.5334765430088028, 114.89780355417251, 2160.994115549924, NULL, 'upstream_error', FALSE, 68201, 283, 1739, 'upstream', NULL, NULL, 0.180219426087, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'one', NULL, 120.35550311656621, NULL, NULL, NULL, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a2195baecb2e685039ecae908208e1', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a2195baecb2e685039ecae908208e1', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195baecb2cc5dad79da2f94b48bb', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195baecb778038be2ce29f12d33f', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799838000, 'embeddings', 'cloud', 'phi3:latest', 'context', 'stopped', '', 1, 0, 0, 0, 340, 565, 6748, 864, 9831422902, 196129792224, 281993926157);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799838000, 'responses', '', '', '', 'internal_error', 'maths', 1, 1, 0, 1, 53944, 257, 8850, 574, 8574683886, 437861244070, 558015989040);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799841600, 'chat.completions', '', '', '', 'upstream_error', 'maths', 1, 0, 0, 0, 0, 668, 663, 95, 0, 0, 369077813738);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799841600, 'embeddings', 'local', 'größer', 'context', 'stopped', 'code', 1, 0, 0, 0, 88683, 35, 5376, 788, 5652604499, 185998750660, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799863200, 'responses', 'cloud', 'phi3:latest', 'context', 'ok', 'code', 1, 0, 0, 1, 0, 563, 3304, 622, 0, 869055621798, 482297245066);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799866800, 'responses', 'local', 'phi3:latest', 'router_unavailable', 'upstream_error', 'code', 1, 0, 0, 0, 68201, 283, 1739, 0, 0, 0, 180219426087);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799888400, 'chat.completions', 'cloud', 'phi3:latest', 'escalated', 'client_gone', 'maths', 1, 1, 1, 0, 0, 0, 0, 0, 8148250209, 585058344857, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799913600, 'responses', 'local', 'größer', 'overload', 'rejected', 'maths', 1, 0, 0, 1, 26564, 451, 5829, 602, 348216465, 356419538514, 776653694531);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799920800, 'embeddings', '', '', '', 'internal_error', '', 1, 0, 0, 1, 48757, 812, 1531, 0, 1460477810, 412292364410, 970953590756);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799953200, 'embeddings', 'cloud', 'gpt-4o-mini', 'overload', 'ok', '', 1, 1, 0, 1, 38054, 0, 0, 116, 1254110415, 654813572700, 665362632071);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799967600, 'responses', 'cloud', '', 'unhealthy', 'client_gone', 'code', 1, 0, 0, 0, 92193, 179, 0, 0, 1729271091, 0, 926402363724);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799985600, 'chat.completions', '', '', '', 'internal_error', 'code', 1, 1, 0, 0, 73176, 895, 2446, 880, 7630379781, 15808308202, 707693492961);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'decision_ms', '', 1, 1, 437861244070);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'decision_ms', 'cloud', 2, 1, 196129792224);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'duration_ms', '', 71, 1, 437861244070);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'duration_ms', 'cloud', 73, 1, 196129792224);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'overhead_ms', '', 66, 1, 437861244070);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'overhead_ms', 'cloud', 72, 1, 196129792224);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'ttft_ms', '', 36, 1, 437861244070);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'ttft_ms', 'cloud', 49, 1, 196129792224);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'duration_ms', '', 51, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'duration_ms', 'local', 60, 1, 185998750660);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'overhead_ms', '', -60, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'overhead_ms', 'local', 43, 1, 185998750660);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'score', '', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'ttft_ms', '', 39, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'decision_ms', 'cloud', -9, 1, 869055621798);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'duration_ms', 'cloud', 52, 1, 869055621798);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'overhead_ms', 'cloud', 52, 1, 869055621798);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'score', 'cloud', 99, 1, 869055621798);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'ttft_ms', 'cloud', 52, 1, 869055621798);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'decision_ms', 'local', -6, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'duration_ms', 'local', 66, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'overhead_ms', 'local', 66, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'ttft_ms', 'local', 41, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'decision_ms', 'cloud', 5, 1, 585058344857);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'duration_ms', 'cloud', 44, 1, 585058344857);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'overhead_ms', 'cloud', -60, 1, 585058344857);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'score', 'cloud', 17, 1, 585058344857);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'ttft_ms', 'cloud', 53, 1, 585058344857);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'decision_ms', 'local', 11, 1, 356419538514);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'duration_ms', 'local', 56, 1, 356419538514);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'overhead_ms', 'local', 54, 1, 356419538514);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799920800, 'decision_ms', '', 6, 1, 412292364410);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799920800, 'duration_ms', '', 73, 1, 412292364410);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799920800, 'overhead_ms', '', 70, 1, 412292364410);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799920800, 'ttft_ms', '', 50, 1, 412292364410);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'duration_ms', 'cloud', 57, 1, 654813572700);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'overhead_ms', 'cloud', 53, 1, 654813572700);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'score', 'cloud', 49, 1, 654813572700);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'ttft_ms', 'cloud', 46, 1, 654813572700);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'decision_ms', 'cloud', -4, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'duration_ms', 'cloud', 50, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'overhead_ms', 'cloud', -60, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'score', 'cloud', 75, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'decision_ms', '', 4, 1, 15808308202);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'duration_ms', '', 80, 1, 15808308202);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'overhead_ms', '', 79, 1, 15808308202);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'score', '', 0, 1, 15808308202);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'ttft_ms', '', 39, 1, 15808308202);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 1, 1, 437861244070);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', -9, 1, 869055621798);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', 2, 1, 196129792224);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'local', -6, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 51, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 71, 1, 437861244070);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 52, 1, 869055621798);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 73, 1, 196129792224);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 60, 1, 185998750660);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 66, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', -60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 66, 1, 437861244070);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 52, 1, 869055621798);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 72, 1, 196129792224);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 43, 1, 185998750660);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 66, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 99, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'cloud', 99, 1, 869055621798);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 36, 1, 437861244070);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 39, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 49, 1, 196129792224);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 52, 1, 869055621798);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'local', 41, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 6, 1, 412292364410);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -4, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 5, 1, 585058344857);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 11, 1, 356419538514);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 73, 1, 412292364410);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 44, 1, 585058344857);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 50, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 57, 1, 654813572700);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 56, 1, 356419538514);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 70, 1, 412292364410);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', -60, 2, 585058344857);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 53, 1, 654813572700);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 54, 1, 356419538514);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 17, 1, 585058344857);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 49, 1, 654813572700);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 75, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 50, 1, 412292364410);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 46, 1, 654813572700);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 53, 1, 585058344857);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', 4, 1, 15808308202);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 80, 1, 15808308202);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', 79, 1, 15808308202);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', '', 0, 1, 15808308202);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', '', 39, 1, 15808308202);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a2195baecb2e685039ecae908208e1', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a2195baecb2a94ad8e30b0be1c684a', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a2195baecb2e685039ecae908208e1', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a2195baecb2e685039ecae908208e1', 'gpt-4o-mini', 0.000125, TRUE);

INSERT INTO jobs (id, step, arguments, state, created_at, started_at, ended_at, exit_status, host, pid, worker, seen_at, is_unwanted, progress, message, log, log_start, cost_usd) VALUES
    ('job_1', 'report', '{}', 'done', 1800000000.0, 1800000000.0, 1800000001.5, 0, 'a', 4711, 'a/4711/1', 1800000001.5, FALSE, 1.0, NULL, 'fertig
', 0, NULL);

