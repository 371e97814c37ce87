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
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT, propensity DOUBLE PRECISION, candidate_score DOUBLE PRECISION, rule TEXT, merit DOUBLE PRECISION, failed_check TEXT, discarded_tokens BIGINT, second_look TEXT, evidence TEXT, verified_score DOUBLE PRECISION, verified_merit DOUBLE PRECISION, second_look_ms DOUBLE PRECISION);

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

CREATE INDEX request_session_id_created_at ON requests (session_id, created_at)
    WHERE session_id IS NOT NULL;

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

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff221dc0b90d5e7f569896', 1799907248.317273, 'responses', 'auto', 'cloud', 'gpt-4o-mini', 'forced', 1.0, NULL, NULL, 0.5, 12.913422547920936, 623.858317991334, 593.8006413597086, NULL, 'internal_error', TRUE, 96906, 943, 2704, 'estimated', NULL, 0.933161815029, 0.999129227515, NULL, NULL, NULL, NULL, NULL, 'one', NULL, 225.208974041231, 811, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff253a14f81d5e189e2b43', 1799975892.199576, 'chat.completions', 'auto', 'local', 'phi3:latest', 'capability', NULL, NULL, NULL, NULL, 1.6076677778525374, 1152.0755474547454, 410.75900542095667, NULL, 'timeout', FALSE, 16515, 643, 290, NULL, NULL, 0.403108106737, 0.696956584978, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', 'other', NULL, 221.02711295412416, 583, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff59d273fd9cbac6f59c0c', 1799933638.4631178, 'embeddings', 'auto', 'local', 'größer', 'unhealthy', NULL, NULL, NULL, 0.5, NULL, 187.5824837350643, 2509.9152276557647, NULL, 'internal_error', TRUE, NULL, 255, 2596, 'estimated', 0.008656545549, 0.976691536133, 0.458898646207, 'writing', '[{"role":"user","content":"A poem!"}]', NULL, NULL, 's', 'one', NULL, 605.4314373218278, 962, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff6ada8285ec637df068cd', 1799823535.3905885, 'responses', 'auto', 'local', 'größer', 'sticky', 0.6437151237111671, NULL, NULL, NULL, NULL, NULL, 494.7802196840541, NULL, 'upstream_error', TRUE, NULL, 137, 1655, 'estimated', 0.006313547272, 0.214874131816, 0.84395705172, NULL, NULL, NULL, NULL, 's', 'one', NULL, NULL, 476, NULL, NULL, NULL, NULL, NULL, 0.990052247143281, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff6e63b165f6def99d6e57', 1799895788.794377, 'embeddings', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, 0.5, NULL, NULL, 158.01464043603505, NULL, 'rejected', TRUE, NULL, 575, 8565, NULL, 0.008074275429, NULL, NULL, NULL, NULL, NULL, NULL, 's', 'other', NULL, 498.6487827667068, 928, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff713b3c1c5adcf01fe367', 1799837838.9486163, 'responses', 'auto', 'local', 'phi3:latest', 'score', 1.0, NULL, NULL, NULL, NULL, 159.91323907458306, 10882.391540425448, NULL, 'upstream_error', TRUE, 4669, 232, 4654, 'upstream', 0.005753885253, 0.811058863435, 0.561004711333, NULL, NULL, NULL, NULL, 's', NULL, NULL, 482.1315695069306, 363, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff8339d5c5ebc184ec65c3', 1799961111.3935802, 'responses', 'auto', NULL, NULL, NULL, 0.6480095861530059, NULL, NULL, 0.5, 2.8748889773373834, 140.00743309566448, 776.7018187578236, NULL, 'client_gone', TRUE, 65220, 718, NULL, NULL, 0.005578588578, 0.28576950356, 0.052707540796, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', NULL, 's', 'other', NULL, NULL, 23, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ff85d7305ec036ebfd6897', 1799929167.0819166, 'embeddings', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0.5, 0.9230960187519097, 405.321030773694, 942.3523515431626, NULL, 'ok', TRUE, 50852, 464, 110, NULL, 0.003247883714, 0.511527617541, 0.226557391163, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, 's', 'other', NULL, 120.67798698281497, 582, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ffb93326b5fcae9fa66171', 1799989117.9963322, 'chat.completions', 'auto', 'cloud', 'größer', 'unhealthy', 1.0, NULL, NULL, 0.5, 4.943758929099413, 445.14704319007194, 1635.4094277355036, NULL, 'ok', TRUE, 86105, 534, 2299, 'estimated', NULL, NULL, 0.65622130375, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', 'local', 's', 'one', NULL, NULL, 945, NULL, NULL, NULL, NULL, NULL, 0.13660580664394517, 'cut_off', 650, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ffb9fc1e3fbf6606a0297b', 1799887367.9595172, 'responses', 'auto', 'cloud', NULL, 'rule', NULL, NULL, NULL, 0.5, 0.5194793619158427, 116.24178533267904, 3390.6802909487033, NULL, 'upstream_error', TRUE, 5437, 287, 5063, NULL, 0.00607301847, 0.214184939039, 0.294621174921, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, NULL, 'other', NULL, 851.2901821973261, 577, NULL, NULL, NULL, NULL, NULL, NULL, 'cut_off', 470, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ffd9d4c29428aff6fc015f', 1799918670.182292, 'embeddings', 'auto', 'cloud', 'größer', 'overload', 0.0, NULL, NULL, 0.5, 1.6472013162966377, 249.79817703987405, 288.1567547559283, NULL, 'ok', TRUE, 90890, NULL, 7421, NULL, 0.007650273285, 0.591042989525, NULL, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, NULL, 'one', NULL, 273.351429167854, 630, NULL, NULL, NULL, NULL, NULL, 0.5909594434680575, 'cut_off', NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms) VALUES
    ('req_01a22eb914ffe709ff44a4735e8bb2ba', 1799868922.7262182, 'responses', NULL, 'cloud', 'größer', 'rule', 0.6781369791310883, NULL, NULL, 0.5, 3.664846439155883, NULL, 247.78244245853588, NULL, 'timeout', FALSE, 3904, 89, NULL, NULL, 0.008073644438, 0.5446029531, 0.402775489911, 'writing', '[{"role":"user","content":"A poem!"}]', NULL, NULL, 's', NULL, NULL, 250.73059624571334, 115, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a22eb914ff6ada8285ec637df068cd', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a22eb914ff6ada8285ec637df068cd', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22eb914ff713b3c1c5adcf01fe367', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22eb914ffe709ff44a4735e8bb2ba', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799820000, 'responses', 'local', 'größer', 'sticky', 'upstream_error', '', 1, 1, 0, 1, 0, 137, 1655, 476, 6313547272, 214874131816, 843957051720);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799834400, 'responses', 'local', 'phi3:latest', 'score', 'upstream_error', '', 1, 1, 0, 0, 4669, 232, 4654, 363, 5753885253, 811058863435, 561004711333);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799866800, 'responses', 'cloud', 'größer', 'rule', 'timeout', 'writing', 1, 0, 0, 0, 3904, 89, 0, 115, 8073644438, 544602953100, 402775489911);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799884800, 'responses', 'cloud', '', 'rule', 'upstream_error', 'writing', 1, 1, 0, 0, 5437, 287, 5063, 577, 6073018470, 214184939039, 294621174921);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799895600, 'embeddings', '', '', '', 'rejected', '', 1, 1, 0, 0, 0, 575, 8565, 928, 8074275429, 0, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799906400, 'responses', 'cloud', 'gpt-4o-mini', 'forced', 'internal_error', '', 1, 1, 0, 1, 96906, 943, 2704, 811, 0, 933161815029, 999129227515);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799917200, 'embeddings', 'cloud', 'größer', 'overload', 'ok', 'code', 1, 1, 0, 0, 90890, 0, 7421, 630, 7650273285, 591042989525, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799928000, 'embeddings', '', '', '', 'ok', 'other', 1, 1, 0, 0, 50852, 464, 110, 582, 3247883714, 511527617541, 226557391163);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799931600, 'embeddings', 'local', 'größer', 'unhealthy', 'internal_error', 'writing', 1, 1, 0, 1, 0, 255, 2596, 962, 8656545549, 976691536133, 458898646207);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799960400, 'responses', '', '', '', 'client_gone', 'other', 1, 1, 0, 0, 65220, 718, 0, 23, 5578588578, 285769503560, 52707540796);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799974800, 'chat.completions', 'local', 'phi3:latest', 'capability', 'timeout', 'writing', 1, 0, 0, 0, 16515, 643, 290, 583, 0, 403108106737, 696956584978);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799985600, 'chat.completions', 'cloud', 'größer', 'unhealthy', 'ok', 'code', 1, 1, 1, 1, 86105, 534, 2299, 945, 0, 0, 656221303750);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'duration_ms', 'local', 53, 1, 214874131816);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'merit', 'local', 99, 1, 214874131816);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'overhead_ms', 'local', 53, 1, 214874131816);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799820000, 'score', 'local', 64, 1, 214874131816);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'duration_ms', 'local', 80, 1, 811058863435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'merit', 'local', 99, 1, 811058863435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'overhead_ms', 'local', 80, 1, 811058863435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'score', 'local', 99, 1, 811058863435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799834400, 'ttft_ms', 'local', 44, 1, 811058863435);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'decision_ms', 'cloud', 11, 1, 544602953100);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'duration_ms', 'cloud', 47, 1, 544602953100);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'merit', 'cloud', 99, 1, 544602953100);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'overhead_ms', 'cloud', -60, 1, 544602953100);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799866800, 'score', 'cloud', 67, 1, 544602953100);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -6, 1, 214184939039);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 70, 1, 214184939039);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 68, 1, 214184939039);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 41, 1, 214184939039);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'duration_ms', '', 43, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'merit', '', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'overhead_ms', '', -60, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799895600, 'score', '', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799906400, 'decision_ms', 'cloud', 22, 1, 933161815029);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799906400, 'duration_ms', 'cloud', 55, 1, 933161815029);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799906400, 'overhead_ms', 'cloud', 51, 1, 933161815029);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799906400, 'ttft_ms', 'cloud', 55, 1, 933161815029);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799917200, 'decision_ms', 'cloud', 4, 1, 591042989525);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799917200, 'duration_ms', 'cloud', 49, 1, 591042989525);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799917200, 'merit', 'cloud', 59, 1, 591042989525);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799917200, 'overhead_ms', 'cloud', 23, 1, 591042989525);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799917200, 'score', 'cloud', 0, 1, 591042989525);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799917200, 'ttft_ms', 'cloud', 47, 1, 591042989525);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'decision_ms', '', -1, 1, 511527617541);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'duration_ms', '', 59, 1, 511527617541);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'overhead_ms', '', 58, 1, 511527617541);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799928000, 'ttft_ms', '', 52, 1, 511527617541);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'duration_ms', 'local', 67, 1, 976691536133);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'overhead_ms', 'local', 65, 1, 976691536133);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799931600, 'ttft_ms', 'local', 45, 1, 976691536133);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'decision_ms', '', 9, 1, 285769503560);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'duration_ms', '', 57, 1, 285769503560);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'merit', '', 99, 1, 285769503560);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'overhead_ms', '', 57, 1, 285769503560);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'score', '', 64, 1, 285769503560);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799960400, 'ttft_ms', '', 42, 1, 285769503560);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'decision_ms', 'local', 4, 1, 403108106737);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'duration_ms', 'local', 52, 1, 403108106737);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'overhead_ms', 'local', 45, 1, 403108106737);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'ttft_ms', 'local', 61, 1, 403108106737);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'decision_ms', 'cloud', 13, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'duration_ms', 'cloud', 64, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'merit', 'cloud', 13, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'overhead_ms', 'cloud', 64, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'score', 'cloud', 99, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'ttft_ms', 'cloud', 52, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', 'cloud', 11, 1, 544602953100);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'cloud', 47, 1, 544602953100);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 53, 1, 214874131816);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', 'local', 80, 1, 811058863435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'cloud', 99, 1, 544602953100);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', 'local', 99, 2, 1025932995251);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'cloud', -60, 1, 544602953100);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 53, 1, 214874131816);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', 'local', 80, 1, 811058863435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'cloud', 67, 1, 544602953100);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 64, 1, 214874131816);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', 'local', 99, 1, 811058863435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', 'local', 44, 1, 811058863435);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', -1, 1, 511527617541);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 9, 1, 285769503560);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -6, 1, 214184939039);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 4, 1, 591042989525);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 22, 1, 933161815029);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 43, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 57, 1, 285769503560);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 59, 1, 511527617541);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 49, 1, 591042989525);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 55, 1, 933161815029);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 70, 1, 214184939039);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 67, 1, 976691536133);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', '', 99, 2, 285769503560);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'cloud', 59, 1, 591042989525);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', -60, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 57, 1, 285769503560);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 58, 1, 511527617541);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 23, 1, 591042989525);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 51, 1, 933161815029);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 68, 1, 214184939039);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 65, 1, 976691536133);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 64, 1, 285769503560);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 99, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 0, 1, 591042989525);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 42, 1, 285769503560);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 52, 1, 511527617541);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 41, 1, 214184939039);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 47, 1, 591042989525);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 55, 1, 933161815029);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 45, 1, 976691536133);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'cloud', 13, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', 'local', 4, 1, 403108106737);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'cloud', 64, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'local', 52, 1, 403108106737);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'merit', 'cloud', 13, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'cloud', 64, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'local', 45, 1, 403108106737);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', 'cloud', 99, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'cloud', 52, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'local', 61, 1, 403108106737);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why, evidence) VALUES
    ('req_01a22eb914ff6ada8285ec637df068cd', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL, '{"broken":false,"agrees":true}');

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why, evidence) VALUES
    ('req_01a22eb914ffb9fc1e3fbf6606a0297b', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a22eb914ff6ada8285ec637df068cd', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a22eb914ff6ada8285ec637df068cd', 'gpt-4o-mini', 0.000125, TRUE);

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

