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
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT);

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

INSERT INTO migrations (number, name, applied_at) VALUES
    (1, 'first tables', 1799996400.0);

INSERT INTO migrations (number, name, applied_at) VALUES
    (2, 'sums and causes', 1799996400.0);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babae8c83197d6d1a6794357b', 1799935009.6546829, 'chat.completions', 'auto', 'local', NULL, 'unhealthy', NULL, NULL, NULL, 0.5, 1.8380701769377186, 104.84987145035834, 14385.518826802345, NULL, 'client_gone', TRUE, NULL, 653, NULL, NULL, 0.000393353683, NULL, NULL, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, 's', 'other', NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaf06ea5a18be701c5afcbb', 1799862910.40251, 'embeddings', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, 0.5, 10.581271577003763, 408.56802821309225, 915.1080000683237, NULL, 'client_gone', TRUE, NULL, NULL, 5127, NULL, 0.002828171654, 0.896943162443, 0.798793894298, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, NULL, 'one', NULL, 739.0015026419649, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaf080584501e301bf85ae6', 1799882116.023932, 'chat.completions', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, NULL, 2.917869614060734, 278.7708664828462, 1442.9485850400017, NULL, 'timeout', FALSE, NULL, NULL, 5747, 'estimated', 0.007467188137, NULL, NULL, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, 's', NULL, NULL, NULL, 942, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaf2dbc2e5cc3ddeeeeaf78', 1799938315.8174622, 'chat.completions', 'auto', 'cloud', 'größer', 'overload', 0.0, NULL, NULL, NULL, 1.938362623957605, 156.54570461687345, 714.2433465944777, NULL, 'upstream_error', FALSE, NULL, 440, 4455, 'upstream', 0.001074498736, 0.845672079077, 0.436903636879, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', NULL, NULL, 232.99757895159257, 535, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaf51c413ad401801755205', 1799981655.9767876, 'chat.completions', 'auto', 'local', 'phi3:latest', 'score', NULL, NULL, NULL, 0.5, 2.306271988412863, 118.6933626919371, 925.4798325593983, NULL, 'client_gone', FALSE, 84116, NULL, 3442, NULL, 0.000377189855, NULL, 0.578515129754, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'one', NULL, NULL, 444, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaf6b58ea5b968adf1f341e', 1799866339.2170377, 'embeddings', NULL, NULL, NULL, NULL, 0.12705573415748728, NULL, NULL, 0.5, 4.119005736813456, 25.497777081930096, 763.8085861200218, NULL, 'stopped', FALSE, 38221, 652, 6020, NULL, NULL, 0.490926726143, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'one', NULL, NULL, 495, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaf8efdbc9c45bed0f82671', 1799976867.299115, 'responses', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, NULL, 0.7234375114263859, NULL, 309.2667588650855, NULL, 'stopped', FALSE, 43177, 536, 2556, NULL, 0.002783491351, 0.571131547072, 0.280381200207, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, 's', 'other', NULL, 188.513914844737, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babafb7aa4dfa8b28a2332f53', 1799914899.6878223, 'chat.completions', 'auto', NULL, NULL, NULL, 0.6994738098826268, NULL, NULL, 0.5, 0.8962727811662377, 32.514462302153575, 1633.4712086062664, NULL, 'stopped', TRUE, 3172, NULL, 8491, 'upstream', 0.003029434304, 0.287962078893, 0.46273055504, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'one', NULL, 158.75943712014424, 402, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babafbfde9349f2a6cf475268', 1799950842.0481794, 'chat.completions', 'auto', NULL, NULL, NULL, 0.06746658701706465, NULL, NULL, 0.5, 0.2735055624294743, 25.56794319475782, 329.7463164696318, NULL, 'ok', FALSE, 34844, NULL, 989, 'upstream', 0.0028042268, 0.193329914422, 0.089294998815, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', NULL, NULL, 201.40959509474072, 734, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babafc631ffb9b80da0a94905', 1799864102.8594353, 'chat.completions', 'auto', 'cloud', 'gpt-4o-mini', 'sticky', 0.0, NULL, NULL, 0.5, 1.4027604833569005, 290.88396205693374, 1703.2768406756486, NULL, 'rejected', FALSE, 33313, 82, 5480, 'upstream', 0.000328772114, 0.724538349231, 0.793754408401, 'writing', '[{"role":"user","content":"A poem!"}]', NULL, NULL, 's', 'one', NULL, 672.3384594705553, 982, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babafd3efdeb2b6c9861a97d8', 1799864159.4740264, 'responses', NULL, NULL, NULL, NULL, 0.0, NULL, NULL, 0.5, 17.847431669195124, 164.9331316522558, 1020.1092889204552, NULL, 'upstream_error', TRUE, 60335, 81, 5695, NULL, NULL, 0.742658664833, 0.951767357385, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, NULL, 'other', NULL, 1011.3664160865462, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code) VALUES
    ('req_01a2195babaff5bf6cadb9f6cd94645a', 1799886003.4075534, 'responses', 'auto', 'cloud', 'phi3:latest', 'escalated', 0.0, NULL, NULL, 0.5, 0.9643140865353329, 519.2359311508093, 392.9475134846409, NULL, 'ok', TRUE, 73571, 284, 1833, 'estimated', NULL, 0.357799403533, 0.50294875721, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'other', NULL, 836.3667380756186, 838, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a2195babaf06ea5a18be701c5afcbb', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a2195babaf06ea5a18be701c5afcbb', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195babafc631ffb9b80da0a94905', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a2195babafd3efdeb2b6c9861a97d8', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799859600, 'embeddings', '', '', '', 'client_gone', 'maths', 1, 1, 0, 0, 0, 0, 5127, 0, 2828171654, 896943162443, 798793894298);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799863200, 'chat.completions', 'cloud', 'gpt-4o-mini', 'sticky', 'rejected', 'writing', 1, 0, 0, 0, 33313, 82, 5480, 982, 328772114, 724538349231, 793754408401);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799863200, 'embeddings', '', '', '', 'stopped', 'code', 1, 0, 0, 0, 38221, 652, 6020, 495, 0, 490926726143, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799863200, 'responses', '', '', '', 'upstream_error', 'other', 1, 1, 0, 0, 60335, 81, 5695, 0, 0, 742658664833, 951767357385);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799881200, 'chat.completions', '', '', '', 'timeout', 'other', 1, 0, 0, 1, 0, 0, 5747, 942, 7467188137, 0, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799884800, 'responses', 'cloud', 'phi3:latest', 'escalated', 'ok', 'code', 1, 1, 0, 1, 73571, 284, 1833, 838, 0, 357799403533, 502948757210);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799913600, 'chat.completions', '', '', '', 'stopped', 'code', 1, 1, 0, 0, 3172, 0, 8491, 402, 3029434304, 287962078893, 462730555040);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799931600, 'chat.completions', 'local', '', 'unhealthy', 'client_gone', 'other', 1, 1, 0, 0, 0, 653, 0, 0, 393353683, 0, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799935200, 'chat.completions', 'cloud', 'größer', 'overload', 'upstream_error', 'writing', 1, 0, 0, 0, 0, 440, 4455, 535, 1074498736, 845672079077, 436903636879);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799949600, 'chat.completions', '', '', '', 'ok', 'writing', 1, 0, 0, 0, 34844, 0, 989, 734, 2804226800, 193329914422, 89294998815);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799974800, 'responses', '', '', '', 'stopped', 'other', 1, 0, 0, 0, 43177, 536, 2556, 0, 2783491351, 571131547072, 280381200207);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799978400, 'chat.completions', 'local', 'phi3:latest', 'score', 'client_gone', 'code', 1, 0, 0, 0, 84116, 0, 3442, 444, 377189855, 0, 578515129754);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'decision_ms', '', 20, 1, 896943162443);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'duration_ms', '', 59, 1, 896943162443);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'overhead_ms', '', 44, 1, 896943162443);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'ttft_ms', '', 52, 1, 896943162443);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'decision_ms', '', 12, 1, 490926726143);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'decision_ms', '', 25, 1, 742658664833);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'decision_ms', 'cloud', 2, 1, 724538349231);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'duration_ms', '', 57, 1, 490926726143);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'duration_ms', '', 60, 1, 742658664833);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'duration_ms', 'cloud', 64, 1, 724538349231);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'overhead_ms', '', 18, 1, 742658664833);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'overhead_ms', '', 57, 1, 490926726143);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'overhead_ms', 'cloud', 60, 1, 724538349231);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'score', '', 0, 1, 742658664833);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'score', '', 12, 1, 490926726143);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'score', 'cloud', 0, 1, 724538349231);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'ttft_ms', '', 28, 1, 490926726143);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'ttft_ms', '', 44, 1, 742658664833);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799863200, 'ttft_ms', 'cloud', 49, 1, 724538349231);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799881200, 'decision_ms', '', 9, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799881200, 'duration_ms', '', 63, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799881200, 'overhead_ms', '', 63, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799881200, 'score', '', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799881200, 'ttft_ms', '', 48, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -1, 1, 357799403533);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 51, 1, 357799403533);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', -60, 1, 357799403533);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 0, 1, 357799403533);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 54, 1, 357799403533);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'decision_ms', '', -1, 1, 287962078893);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'duration_ms', '', 64, 1, 287962078893);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'overhead_ms', '', 63, 1, 287962078893);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'score', '', 69, 1, 287962078893);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'ttft_ms', '', 30, 1, 287962078893);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'decision_ms', 'local', 5, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'duration_ms', 'local', 83, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'overhead_ms', 'local', 83, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'ttft_ms', 'local', 40, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'decision_ms', 'cloud', 5, 1, 845672079077);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'duration_ms', 'cloud', 57, 1, 845672079077);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'overhead_ms', 'cloud', 53, 1, 845672079077);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'score', 'cloud', 0, 1, 845672079077);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799935200, 'ttft_ms', 'cloud', 43, 1, 845672079077);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'decision_ms', '', -12, 1, 193329914422);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'duration_ms', '', 50, 1, 193329914422);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'overhead_ms', '', 42, 1, 193329914422);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'score', '', 6, 1, 193329914422);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799949600, 'ttft_ms', '', 28, 1, 193329914422);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'decision_ms', '', -3, 1, 571131547072);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'duration_ms', '', 49, 1, 571131547072);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'overhead_ms', '', 41, 1, 571131547072);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'score', '', 99, 1, 571131547072);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'decision_ms', 'local', 7, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'duration_ms', 'local', 59, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'overhead_ms', 'local', 59, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799978400, 'ttft_ms', 'local', 41, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 9, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 12, 1, 490926726143);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 20, 1, 896943162443);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 25, 1, 742658664833);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', 2, 1, 724538349231);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 57, 1, 490926726143);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 59, 1, 896943162443);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 60, 1, 742658664833);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 63, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 64, 1, 724538349231);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 18, 1, 742658664833);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 44, 1, 896943162443);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 57, 1, 490926726143);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 63, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 60, 1, 724538349231);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 0, 1, 742658664833);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 12, 1, 490926726143);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 99, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'cloud', 0, 1, 724538349231);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 28, 1, 490926726143);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 44, 1, 742658664833);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 48, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 52, 1, 896943162443);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 49, 1, 724538349231);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', -12, 1, 193329914422);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', -1, 1, 287962078893);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -1, 1, 357799403533);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 5, 1, 845672079077);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 5, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 50, 1, 193329914422);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 64, 1, 287962078893);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 51, 1, 357799403533);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 57, 1, 845672079077);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 83, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 42, 1, 193329914422);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 63, 1, 287962078893);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', -60, 1, 357799403533);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 53, 1, 845672079077);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 83, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 6, 1, 193329914422);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 69, 1, 287962078893);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 0, 2, 1203471482610);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 28, 1, 193329914422);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 30, 1, 287962078893);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 43, 1, 845672079077);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 54, 1, 357799403533);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 40, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', -3, 1, 571131547072);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'local', 7, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 49, 1, 571131547072);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 59, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', 41, 1, 571131547072);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', 59, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', '', 99, 1, 571131547072);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 41, 1, 0);

