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
    client_key_hash TEXT, error TEXT);

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

INSERT INTO migrations (number, name, applied_at) VALUES
    (1, 'first tables', 1799996400.0);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa301503708857ef9b1f1263', 1799894235.490894, 'responses', NULL, 'local', 'größer', 'score', NULL, NULL, NULL, 0.5, 2.2346244588791317, 170.58672629773545, 2535.5229383661786, NULL, 'timeout', TRUE, 87129, NULL, 6139, 'estimated', 0.005597925149, 0.931253307233, 0.804262102012, 'writing', '[{"role":"user","content":"A poem!"}]', NULL, NULL, 's', 'one', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa301d6f188a00a82e8fd1c9', 1799954377.5331829, 'embeddings', 'auto', 'local', NULL, 'budget', 1.0, NULL, NULL, 0.5, 1.9955908971226166, 14.188294839450647, 1305.883069987517, NULL, 'internal_error', FALSE, 19197, 982, 8295, 'estimated', NULL, 0.879992381793, 0.245749500538, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, NULL, 'one', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa302387dbb0de4146262542', 1799926812.1932955, 'responses', NULL, 'local', NULL, 'overload', 1.0, NULL, NULL, 0.5, 1.9005572305855833, NULL, 1783.7495724804498, NULL, 'ok', FALSE, 10046, 229, 4370, 'estimated', NULL, 0.986891122272, NULL, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'one', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa30252eb8a8bfeccedfbec1', 1799834793.7756183, 'responses', 'auto', 'cloud', NULL, 'escalated', 1.0, NULL, NULL, 0.5, 0.6458735981860605, 344.21841648971605, 654.311819402092, NULL, 'client_gone', FALSE, 66972, 945, 8469, NULL, NULL, 0.196778166981, 0.581693232692, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa303de7a8cf4e48f75db04e', 1799978774.6333392, 'responses', 'auto', 'local', 'gpt-4o-mini', 'forced', 1.0, NULL, NULL, 0.5, 1.3922584038068142, 82.18665497847466, 2547.570719740217, NULL, 'timeout', TRUE, 79618, 2, 4363, 'estimated', 0.004566009041, 0.03599413002, 0.594495266269, NULL, NULL, NULL, 'cloud', NULL, 'other', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa304dcc983a7c534dbc4956', 1799904894.6318107, 'embeddings', 'auto', 'local', NULL, 'capability', NULL, NULL, NULL, 0.5, 3.918799400819985, NULL, 724.662937347915, NULL, 'internal_error', TRUE, 71085, 318, NULL, 'upstream', NULL, 0.192987570432, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'other', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa3080d1d8b20d8ba4aa1844', 1799869232.9286978, 'responses', 'auto', 'local', 'gpt-4o-mini', 'forced', 0.0, NULL, NULL, 0.5, NULL, NULL, 2202.51803033642, NULL, 'upstream_error', FALSE, 32776, 632, NULL, 'upstream', 0.008270404811, 0.23822983552, 0.395195190414, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', 'cloud', NULL, 'one', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa308330907bcdb95f8962d3', 1799845870.1149957, 'embeddings', NULL, 'cloud', 'größer', 'context', NULL, NULL, NULL, 0.5, 3.42691343024399, 53.35670886174187, 153.97339506200743, NULL, 'upstream_error', TRUE, 99319, 506, 5701, NULL, 0.002553692236, NULL, 0.281642966175, NULL, NULL, NULL, 'local', 's', 'other', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa308a240e5cffecad45dcc8', 1799981203.6398885, 'embeddings', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, NULL, NULL, 28.270165120395326, 3332.1414823046966, NULL, 'client_gone', TRUE, NULL, 921, 2571, 'estimated', 0.005128700542, 0.375076323375, 0.738879135941, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'other', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa308ce3b8babb93bfe38dc3', 1799885631.2231586, 'responses', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, NULL, NULL, 1484.606393534883, 4151.294198386824, NULL, 'upstream_error', TRUE, 13229, 814, NULL, 'upstream', 0.000322680002, NULL, 0.116276757263, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa30ec2f586bd90c11e642ac', 1799913401.6728654, 'responses', 'auto', 'cloud', NULL, 'budget', 0.0, NULL, NULL, NULL, 1.2682367261126128, 20.948038361810223, 1689.9395926309242, NULL, 'timeout', FALSE, 70579, 805, 7506, 'upstream', 0.004079013207, NULL, 0.608019657879, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'other', NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error) VALUES
    ('req_01a2195baa30f0f764fdc29c2a03ba01', 1799998044.0253673, 'responses', 'auto', NULL, NULL, NULL, 0.23352965329584996, NULL, NULL, 0.5, 0.9532320682232893, 72.27005444420716, 1230.7630150498594, NULL, 'timeout', TRUE, NULL, 19, 5815, NULL, 0.006605917003, 0.310813873779, 0.189701195773, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'other', NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a2195baa30252eb8a8bfeccedfbec1', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a2195baa30252eb8a8bfeccedfbec1', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195baa308330907bcdb95f8962d3', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195baa3080d1d8b20d8ba4aa1844', 1800000000.0, 1.0, NULL);

