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

INSERT INTO migrations (number, name, applied_at) VALUES
    (1, 'first tables', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (2, 'sums and causes', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (3, 'judging', 1799996400.0);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad5312cf967d4ef4e440eab8', 1799978765.8429394, 'responses', NULL, NULL, NULL, NULL, 0.0, NULL, NULL, 0.5, 1.378696982660979, 173.9392980944419, 2279.5281200587756, NULL, 'upstream_error', TRUE, 76061, 344, 5485, 'estimated', 0.003431238825, NULL, 0.138117942088, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'one', NULL, 267.5526580028492, 388, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad531fedef0f36372b663c43', 1799838601.264543, 'responses', 'auto', 'cloud', 'größer', 'fallback', 1.0, NULL, NULL, 0.5, NULL, 192.28923843736317, 531.6699886871272, NULL, 'stopped', FALSE, 35559, 737, 4933, NULL, 0.004117410894, 0.867455046905, 0.3450883153, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'other', NULL, 12031.81223794353, 264, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad531fee82c3dd70f8eb2fd3', 1799835129.9338884, 'responses', 'auto', 'local', 'phi3:latest', 'sticky', 0.0, NULL, NULL, NULL, NULL, 59.742809696083164, 334.6084771356655, NULL, 'upstream_error', FALSE, 61638, 562, 2467, NULL, 0.004855128937, 0.02092368333, 0.171073704785, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, NULL, 'other', NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad533751a0bcb05b312d455f', 1799877862.1085658, 'embeddings', 'auto', 'local', 'größer', 'escalated', 1.0, NULL, NULL, 0.5, 1.9565661254526074, 97.97045983734724, 1398.180119392226, NULL, 'rejected', TRUE, 59537, 954, 5431, NULL, 0.007379154575, 0.212023552147, 0.859335390464, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, 'cloud', NULL, 'one', NULL, 383.69759214339706, 665, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad53401860802322d1c1f3d0', 1799917048.8157628, 'chat.completions', 'auto', 'cloud', 'gpt-4o-mini', 'forced', 1.0, NULL, NULL, NULL, 2.899717169380457, 99.09240829695891, 120.37407302261076, NULL, 'internal_error', TRUE, 42672, 919, 4295, 'upstream', NULL, NULL, 0.414720490521, NULL, NULL, NULL, NULL, 's', 'other', NULL, NULL, 707, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad53605deaf416267d019f0a', 1799858285.6551714, 'chat.completions', 'auto', NULL, NULL, NULL, 0.224460366654625, NULL, NULL, 0.5, 0.6725643218581888, NULL, 1995.0314518195278, NULL, 'ok', FALSE, 96360, 512, 4413, NULL, 0.005429428137, 0.117515285837, 0.368148784366, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'other', NULL, 1034.9396875421023, 191, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad537d9a0035e5ca2b037672', 1799886850.702146, 'responses', 'auto', 'local', 'gpt-4o-mini', 'fallback', 1.0, NULL, NULL, 0.5, 1.4737822650303518, 962.1387397789504, 1385.9549184179255, NULL, 'client_gone', FALSE, NULL, 793, 2041, 'estimated', NULL, 0.567337832589, 0.172155455896, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', 'other', NULL, 94.23867682640432, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad5381948bb310edd91aaa21', 1799893778.61397, 'embeddings', 'auto', 'local', 'größer', 'shadow', NULL, NULL, NULL, 0.5, 1.9604238551608053, 12.701847641613929, 5692.737191790521, NULL, 'rejected', FALSE, 98133, 622, 6527, 'estimated', 0.004946009485, 0.959296662149, 0.324479763985, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'one', NULL, 762.4854698164479, 557, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad53848c5e6f163dcb866335', 1799995837.5438433, 'responses', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0.5, 1.555685633342556, NULL, 595.0580707586893, NULL, 'rejected', TRUE, 31303, NULL, NULL, 'estimated', 0.005229573128, NULL, 0.611687378106, NULL, NULL, NULL, NULL, 's', 'one', NULL, 898.7563703254341, 491, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad53bab58b0fe60dc308b3c5', 1799894834.6772654, 'responses', 'auto', 'cloud', NULL, 'fallback', 0.06661201574252407, NULL, NULL, 0.5, 1.4447072868798359, 305.3270148265087, 4597.135891538407, NULL, 'stopped', FALSE, NULL, 582, 3459, 'estimated', 0.00680784146, 0.94518089231, 0.095565934723, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', NULL, NULL, 1232.4252551271272, 587, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad53bcab54e2a2e1f537ff8c', 1799834289.7710621, 'chat.completions', 'auto', 'cloud', NULL, 'fallback', 1.0, NULL, NULL, 0.5, 4.150947795202554, 143.02497041664083, 9107.07480066445, NULL, 'client_gone', TRUE, 29109, NULL, NULL, NULL, 0.00175888411, 0.942649070135, NULL, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', 'local', 's', 'one', NULL, NULL, 556, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score) VALUES
    ('req_01a2195bad53e34c26e8077f3cb0e5ae', 1799900196.7718093, 'chat.completions', NULL, 'local', 'phi3:latest', 'fallback', 1.0, NULL, NULL, 0.5, NULL, 46.852895154964536, 2014.219421534378, NULL, 'rejected', FALSE, 84668, 630, 6450, 'upstream', 0.001023513185, 0.413697974685, 0.924191065879, NULL, NULL, NULL, NULL, NULL, 'other', NULL, 1147.5826725894392, 613, NULL, NULL, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a2195bad53bcab54e2a2e1f537ff8c', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a2195bad53bcab54e2a2e1f537ff8c', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195bad531fee82c3dd70f8eb2fd3', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195bad531fedef0f36372b663c43', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799830800, 'chat.completions', 'cloud', '', 'fallback', 'client_gone', 'writing', 1, 1, 1, 0, 29109, 0, 0, 556, 1758884110, 942649070135, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799834400, 'responses', 'local', 'phi3:latest', 'sticky', 'upstream_error', 'writing', 1, 0, 0, 0, 61638, 562, 2467, 0, 4855128937, 20923683330, 171073704785);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799838000, 'responses', 'cloud', 'größer', 'fallback', 'stopped', 'other', 1, 0, 0, 0, 35559, 737, 4933, 264, 4117410894, 867455046905, 345088315300);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799856000, 'chat.completions', '', '', '', 'ok', 'code', 1, 0, 0, 0, 96360, 512, 4413, 191, 5429428137, 117515285837, 368148784366);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799877600, 'embeddings', 'local', 'größer', 'escalated', 'rejected', 'code', 1, 1, 1, 0, 59537, 954, 5431, 665, 7379154575, 212023552147, 859335390464);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799884800, 'responses', 'local', 'gpt-4o-mini', 'fallback', 'client_gone', 'writing', 1, 0, 0, 1, 0, 793, 2041, 0, 0, 567337832589, 172155455896);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799892000, 'embeddings', 'local', 'größer', 'shadow', 'rejected', 'code', 1, 0, 0, 1, 98133, 622, 6527, 557, 4946009485, 959296662149, 324479763985);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799892000, 'responses', 'cloud', '', 'fallback', 'stopped', 'code', 1, 0, 0, 1, 0, 582, 3459, 587, 6807841460, 945180892310, 95565934723);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799899200, 'chat.completions', 'local', 'phi3:latest', 'fallback', 'rejected', '', 1, 0, 0, 0, 84668, 630, 6450, 613, 1023513185, 413697974685, 924191065879);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799913600, 'chat.completions', 'cloud', 'gpt-4o-mini', 'forced', 'internal_error', '', 1, 1, 0, 0, 42672, 919, 4295, 707, 0, 0, 414720490521);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799978400, 'responses', '', '', '', 'upstream_error', 'other', 1, 1, 0, 1, 76061, 344, 5485, 388, 3431238825, 0, 138117942088);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799992800, 'responses', '', '', '', 'rejected', '', 1, 1, 0, 1, 31303, 0, 0, 491, 5229573128, 0, 611687378106);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'decision_ms', 'cloud', 12, 1, 942649070135);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'duration_ms', 'cloud', 79, 1, 942649070135);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'overhead_ms', 'cloud', 79, 1, 942649070135);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'score', 'cloud', 99, 1, 942649070135);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799830800, 'ttft_ms', 'cloud', 43, 1, 942649070135);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'duration_ms', 'local', 50, 1, 20923683330);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'overhead_ms', 'local', 50, 1, 20923683330);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'score', 'local', 0, 1, 20923683330);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'ttft_ms', 'local', 35, 1, 20923683330);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'duration_ms', 'cloud', 54, 1, 867455046905);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'overhead_ms', 'cloud', -60, 1, 867455046905);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'score', 'cloud', 99, 1, 867455046905);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799838000, 'ttft_ms', 'cloud', 45, 1, 867455046905);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799856000, 'decision_ms', '', -4, 1, 117515285837);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799856000, 'duration_ms', '', 65, 1, 117515285837);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799856000, 'overhead_ms', '', 59, 1, 117515285837);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799856000, 'score', '', 22, 1, 117515285837);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799877600, 'decision_ms', 'local', 5, 1, 212023552147);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799877600, 'duration_ms', 'local', 62, 1, 212023552147);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799877600, 'overhead_ms', 'local', 60, 1, 212023552147);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799877600, 'score', 'local', 99, 1, 212023552147);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799877600, 'ttft_ms', 'local', 39, 1, 212023552147);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 3, 1, 567337832589);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 62, 1, 567337832589);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 62, 1, 567337832589);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 99, 1, 567337832589);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 59, 1, 567337832589);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'decision_ms', 'cloud', 3, 1, 945180892310);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'decision_ms', 'local', 5, 1, 959296662149);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'duration_ms', 'cloud', 73, 1, 945180892310);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'duration_ms', 'local', 75, 1, 959296662149);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'overhead_ms', 'cloud', 70, 1, 945180892310);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'overhead_ms', 'local', 73, 1, 959296662149);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'score', 'cloud', 6, 1, 945180892310);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'ttft_ms', 'cloud', 49, 1, 945180892310);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'ttft_ms', 'local', 22, 1, 959296662149);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'duration_ms', 'local', 66, 1, 413697974685);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'overhead_ms', 'local', 58, 1, 413697974685);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'score', 'local', 99, 1, 413697974685);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'ttft_ms', 'local', 33, 1, 413697974685);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'decision_ms', 'cloud', 9, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'duration_ms', 'cloud', 41, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'overhead_ms', 'cloud', 41, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'score', 'cloud', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'ttft_ms', 'cloud', 39, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'decision_ms', '', 2, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'duration_ms', '', 67, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'overhead_ms', '', 66, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'score', '', 0, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'ttft_ms', '', 44, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'decision_ms', '', 3, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'duration_ms', '', 55, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'overhead_ms', '', -60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', -4, 1, 117515285837);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', 12, 1, 942649070135);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'local', 5, 1, 212023552147);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 65, 1, 117515285837);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 54, 1, 867455046905);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 79, 1, 942649070135);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 50, 1, 20923683330);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 62, 1, 212023552147);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 59, 1, 117515285837);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', -60, 1, 867455046905);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 79, 1, 942649070135);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 50, 1, 20923683330);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 60, 1, 212023552147);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 22, 1, 117515285837);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'cloud', 99, 2, 1810104117040);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 0, 1, 20923683330);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 99, 1, 212023552147);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 43, 1, 942649070135);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 45, 1, 867455046905);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'local', 35, 1, 20923683330);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'local', 39, 1, 212023552147);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 3, 1, 945180892310);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 9, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 3, 1, 567337832589);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 5, 1, 959296662149);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 41, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 73, 1, 945180892310);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 62, 1, 567337832589);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 66, 1, 413697974685);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 75, 1, 959296662149);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 41, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 70, 1, 945180892310);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 58, 1, 413697974685);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 62, 1, 567337832589);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 73, 1, 959296662149);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 6, 1, 945180892310);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 99, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 99, 2, 981035807274);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 39, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 49, 1, 945180892310);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 22, 1, 959296662149);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 33, 1, 413697974685);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 59, 1, 567337832589);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', 2, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', 3, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 55, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 67, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', -60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', 66, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', '', 0, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', '', 44, 1, 0);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a2195bad53bcab54e2a2e1f537ff8c', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a2195bad53605deaf416267d019f0a', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a2195bad53bcab54e2a2e1f537ff8c', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a2195bad53bcab54e2a2e1f537ff8c', 'gpt-4o-mini', 0.000125, TRUE);

