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
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT, propensity DOUBLE PRECISION, candidate_score DOUBLE PRECISION, rule TEXT, merit DOUBLE PRECISION);

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

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e500bc53ee3808fa4696382', 1799846092.8768065, 'responses', 'auto', 'cloud', 'größer', 'out_of_domain', 0.0, NULL, NULL, NULL, 0.7880257495038627, 16.600255360613897, 429.9857937289538, NULL, 'upstream_error', FALSE, 66010, 316, 8662, 'estimated', NULL, 0.606701131007, 0.996479896276, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', 'local', 's', 'one', NULL, 290.90225700012064, 672, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e5021a37373184f02b0935f', 1799862429.595487, 'embeddings', 'auto', 'local', 'größer', 'context', 1.0, NULL, NULL, 0.5, 2.1983453163149114, 75.56152884020852, 5607.3054567131885, NULL, 'client_gone', TRUE, 44668, 587, 4905, 'upstream', 0.002848477441, 0.232625016941, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', NULL, NULL, 's', 'other', NULL, 367.6340857113431, 988, NULL, NULL, NULL, NULL, NULL, 0.9999);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e502b569787a9775b95880e', 1799843659.9945576, 'embeddings', NULL, NULL, NULL, NULL, 0.0, NULL, NULL, NULL, 1.6700884948476742, NULL, 647.7143578619491, NULL, 'client_gone', TRUE, NULL, 853, 4536, 'estimated', 0.007344499402, NULL, 0.576967390037, NULL, NULL, NULL, NULL, 's', 'other', NULL, NULL, 994, NULL, NULL, NULL, NULL, NULL, 0.9999);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e502f73d9d949238c5ec2f3', 1799885514.5063093, 'responses', NULL, 'cloud', NULL, 'score', 1.0, NULL, NULL, 0.5, 3.5160211619831707, 150.23842624854598, 5393.277668160145, NULL, 'ok', TRUE, 41195, 5, 2099, 'estimated', 0.00093482307, 0.362628669367, 0.454667981119, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', 'local', 's', NULL, NULL, 3791.256181094126, 655, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e503671da7c6b25dccedcaf', 1799862154.4960775, 'embeddings', 'auto', NULL, NULL, NULL, 0.1826974250227834, NULL, NULL, 0.5, NULL, 653.5534213347295, 252.46412064429572, NULL, 'timeout', FALSE, NULL, NULL, NULL, NULL, 0.008838251851, NULL, 0.126234592266, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', 'other', NULL, 1725.6108271418288, NULL, NULL, NULL, NULL, NULL, NULL, 0.9999);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e507ae7b896481e123a8e37', 1799970969.4403365, 'chat.completions', 'auto', 'cloud', 'größer', 'unhealthy', 0.0, NULL, NULL, NULL, 2.229480881531726, 547.7531787104749, 1409.3805828449892, NULL, 'client_gone', TRUE, 92177, 717, NULL, 'upstream', NULL, 0.55535871867, 0.346139779335, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'other', NULL, 227.5569865114876, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e50917c36dfc8a26f194cbb', 1799993328.9551141, 'responses', 'auto', 'cloud', 'größer', 'overload', 0.10900992859542347, NULL, NULL, 0.5, 0.2202059694295135, NULL, 62.549833590336874, NULL, 'ok', FALSE, 79892, 163, 6378, NULL, 0.009580922952, 0.100731310435, 0.369126039221, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, NULL, 'other', NULL, 158.1952443382463, 745, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e50a36df7df5b1b93b91faa', 1799965239.0033984, 'chat.completions', 'auto', 'local', NULL, 'router_unavailable', NULL, NULL, NULL, 0.5, 2.1485822137202883, 60.47068600634987, 6606.493392830577, NULL, 'rejected', TRUE, 59392, 586, 6597, 'estimated', 0.001612199532, 0.450522945062, 0.419525222521, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', NULL, NULL, NULL, 'other', NULL, 5455.174906814574, 239, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e50af87907fa191217d0d8b', 1799893113.9769287, 'chat.completions', NULL, NULL, NULL, NULL, 1.0, NULL, NULL, 0.5, 1.5182448389472727, 46.89145419660915, 2145.9200194941955, NULL, 'timeout', TRUE, 15532, NULL, 7317, 'estimated', 0.009606233816, NULL, 0.017040292995, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', NULL, NULL, NULL, 10, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e50d66e6248acaec48b6117', 1799914171.8604734, 'embeddings', 'auto', 'local', 'gpt-4o-mini', 'budget', 0.0, NULL, NULL, 0.5, 1.26548727349655, NULL, 304.3838945881917, NULL, 'upstream_error', FALSE, NULL, NULL, 5130, NULL, 0.002775312473, 0.524040135749, 0.150619786502, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, 631.88376264414, 982, NULL, NULL, NULL, NULL, NULL, 0.9999);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e50d87548724ec891574d23', 1799961981.1923018, 'chat.completions', 'auto', 'cloud', NULL, 'escalated', 0.0, NULL, NULL, 0.5, NULL, NULL, 3097.794458197262, NULL, 'upstream_error', FALSE, 99042, 838, 3287, NULL, 0.000478439817, 0.218006815508, NULL, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', NULL, NULL, NULL, 331, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit) VALUES
    ('req_01a22c5b5e50eac6ec1da40ed764269b', 1799964741.6591034, 'embeddings', 'auto', 'cloud', 'phi3:latest', 'forced', 1.0, NULL, NULL, 0.5, 3.1834841340778874, 30.000397253103717, 129.79746704251014, NULL, 'timeout', FALSE, 15340, 844, 4778, 'estimated', 0.007185877113, 0.702491250071, NULL, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', NULL, NULL, NULL, 845, NULL, NULL, NULL, NULL, NULL, 0.23423075536841942);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a22c5b5e502b569787a9775b95880e', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a22c5b5e502b569787a9775b95880e', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22c5b5e500bc53ee3808fa4696382', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22c5b5e503671da7c6b25dccedcaf', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799841600, 'embeddings', '', '', '', 'client_gone', '', 1, 1, 0, 1, 0, 853, 4536, 994, 7344499402, 0, 576967390037);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799845200, 'responses', 'cloud', 'größer', 'out_of_domain', 'upstream_error', 'code', 1, 0, 1, 1, 66010, 316, 8662, 672, 0, 606701131007, 996479896276);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799859600, 'embeddings', '', '', '', 'timeout', 'writing', 1, 0, 0, 0, 0, 0, 0, 0, 8838251851, 0, 126234592266);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799859600, 'embeddings', 'local', 'größer', 'context', 'client_gone', 'code', 1, 1, 0, 0, 44668, 587, 4905, 988, 2848477441, 232625016941, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799884800, 'responses', 'cloud', '', 'score', 'ok', 'writing', 1, 1, 1, 1, 41195, 5, 2099, 655, 934823070, 362628669367, 454667981119);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799892000, 'chat.completions', '', '', '', 'timeout', 'writing', 1, 1, 0, 1, 15532, 0, 7317, 10, 9606233816, 0, 17040292995);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799913600, 'embeddings', 'local', 'gpt-4o-mini', 'budget', 'upstream_error', 'maths', 1, 0, 0, 0, 0, 0, 5130, 982, 2775312473, 524040135749, 150619786502);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799960400, 'chat.completions', 'cloud', '', 'escalated', 'upstream_error', 'other', 1, 0, 0, 0, 99042, 838, 3287, 331, 478439817, 218006815508, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799964000, 'chat.completions', 'local', '', 'router_unavailable', 'rejected', 'maths', 1, 1, 0, 1, 59392, 586, 6597, 239, 1612199532, 450522945062, 419525222521);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799964000, 'embeddings', 'cloud', 'phi3:latest', 'forced', 'timeout', 'writing', 1, 0, 0, 1, 15340, 844, 4778, 845, 7185877113, 702491250071, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799967600, 'chat.completions', 'cloud', 'größer', 'unhealthy', 'client_gone', 'maths', 1, 1, 0, 0, 92177, 717, 0, 0, 0, 555358718670, 346139779335);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799992800, 'responses', 'cloud', 'größer', 'overload', 'ok', 'writing', 1, 0, 0, 0, 79892, 163, 6378, 745, 9580922952, 100731310435, 369126039221);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'decision_ms', '', 4, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'duration_ms', '', 56, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'merit', '', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'overhead_ms', '', 56, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799841600, 'score', '', 0, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799845200, 'decision_ms', 'cloud', -3, 1, 606701131007);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799845200, 'duration_ms', 'cloud', 52, 1, 606701131007);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799845200, 'overhead_ms', 'cloud', 42, 1, 606701131007);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799845200, 'ttft_ms', 'cloud', 24, 1, 606701131007);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'decision_ms', 'local', 6, 1, 232625016941);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'duration_ms', '', 48, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'duration_ms', 'local', 74, 1, 232625016941);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'merit', '', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'merit', 'local', 99, 1, 232625016941);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'overhead_ms', '', -60, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'overhead_ms', 'local', 74, 1, 232625016941);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'score', '', 18, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'score', 'local', 99, 1, 232625016941);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'ttft_ms', '', 56, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799859600, 'ttft_ms', 'local', 37, 1, 232625016941);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 10, 1, 362628669367);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 74, 1, 362628669367);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 64, 1, 362628669367);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 43, 1, 362628669367);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'decision_ms', '', 3, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'duration_ms', '', 66, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'overhead_ms', '', 66, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799892000, 'ttft_ms', '', 33, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'decision_ms', 'local', 2, 1, 524040135749);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'duration_ms', 'local', 49, 1, 524040135749);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'merit', 'local', 99, 1, 524040135749);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'overhead_ms', 'local', -60, 1, 524040135749);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799913600, 'score', 'local', 0, 1, 524040135749);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'duration_ms', 'cloud', 69, 1, 218006815508);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'overhead_ms', 'cloud', 69, 1, 218006815508);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'decision_ms', 'cloud', 10, 1, 702491250071);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'decision_ms', 'local', 6, 1, 450522945062);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'duration_ms', 'cloud', 42, 1, 702491250071);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'duration_ms', 'local', 76, 1, 450522945062);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'merit', 'cloud', 23, 1, 702491250071);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'overhead_ms', 'cloud', 42, 1, 702491250071);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'overhead_ms', 'local', 61, 1, 450522945062);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'score', 'cloud', 99, 1, 702491250071);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'ttft_ms', 'cloud', 29, 1, 702491250071);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799964000, 'ttft_ms', 'local', 35, 1, 450522945062);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'decision_ms', 'cloud', 6, 1, 555358718670);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'duration_ms', 'cloud', 62, 1, 555358718670);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'overhead_ms', 'cloud', 61, 1, 555358718670);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'ttft_ms', 'cloud', 54, 1, 555358718670);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'decision_ms', 'cloud', -14, 1, 100731310435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'duration_ms', 'cloud', 35, 1, 100731310435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799992800, 'overhead_ms', 'cloud', -60, 1, 100731310435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 4, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', -3, 1, 606701131007);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'local', 6, 1, 232625016941);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 48, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 56, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 52, 1, 606701131007);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 74, 1, 232625016941);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', '', 99, 2, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'local', 99, 1, 232625016941);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', -60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 56, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', 42, 1, 606701131007);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 74, 1, 232625016941);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 0, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 18, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 99, 1, 232625016941);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 56, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'cloud', 24, 1, 606701131007);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'local', 37, 1, 232625016941);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 3, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 6, 1, 555358718670);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 10, 2, 1065119919438);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 2, 1, 524040135749);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 6, 1, 450522945062);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 66, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 42, 1, 702491250071);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 62, 1, 555358718670);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 69, 1, 218006815508);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 74, 1, 362628669367);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 49, 1, 524040135749);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 76, 1, 450522945062);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'cloud', 23, 1, 702491250071);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'local', 99, 1, 524040135749);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 66, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 42, 1, 702491250071);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 61, 1, 555358718670);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 64, 1, 362628669367);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 69, 1, 218006815508);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', -60, 1, 524040135749);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 61, 1, 450522945062);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 99, 1, 702491250071);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 0, 1, 524040135749);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 33, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 29, 1, 702491250071);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 43, 1, 362628669367);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 54, 1, 555358718670);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 35, 1, 450522945062);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'cloud', -14, 1, 100731310435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'cloud', 35, 1, 100731310435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'cloud', -60, 1, 100731310435);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a22c5b5e502b569787a9775b95880e', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why) VALUES
    ('req_01a22c5b5e5021a37373184f02b0935f', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a22c5b5e502b569787a9775b95880e', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a22c5b5e502b569787a9775b95880e', 'gpt-4o-mini', 0.000125, TRUE);

INSERT INTO jobs (id, step, arguments, state, created_at, started_at, ended_at, exit_status, host, pid, worker, seen_at, is_unwanted, progress, message, log, log_start, cost_usd) VALUES
    ('job_1', 'report', '{}', 'done', 1800000000.0, 1800000000.0, 1800000001.5, 0, 'a', 4711, 'a/4711/1', 1800000001.5, FALSE, 1.0, NULL, 'fertig
', 0, NULL);

INSERT INTO rates (key_hash, full_at) VALUES
    ('one', 1800000012.5);

INSERT INTO leases (day, name, holder, usd) VALUES
    (20833, '', '0123456789abcdef', 0.125);

INSERT INTO leases (day, name, holder, usd) VALUES
    (20833, 'one', '0123456789abcdef', 0.0625);

