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
    client_key_hash TEXT, error TEXT, upstream_ms DOUBLE PRECISION, reasoning_tokens BIGINT, fallback_why TEXT, error_code TEXT, propensity DOUBLE PRECISION, candidate_score DOUBLE PRECISION, rule TEXT, merit DOUBLE PRECISION, failed_check TEXT, discarded_tokens BIGINT, second_look TEXT, evidence TEXT, verified_score DOUBLE PRECISION, verified_merit DOUBLE PRECISION, second_look_ms DOUBLE PRECISION, history_hash TEXT);

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

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc1532370faf9995ed248f592', 1799904756.46019, 'responses', 'auto', 'cloud', NULL, 'exploration', 0.4046142831286491, NULL, NULL, NULL, 1.4595798892279799, 190.3921160641922, 1599.7358009942832, NULL, 'upstream_error', FALSE, 29837, 677, 7209, NULL, 0.009745259114, 0.232305396878, 0.899598573341, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, NULL, NULL, NULL, 995.6818847989648, NULL, NULL, NULL, NULL, NULL, NULL, 0.06078469618896887, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153487442fc9f385f66aa80', 1799890764.5287817, 'chat.completions', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, 0.5, NULL, 256.23376310809863, 613.1179429585576, NULL, 'timeout', FALSE, 12862, 667, 6434, 'estimated', 0.003702994077, NULL, 0.569770017254, 'writing', '[{"role":"user","content":"A poem!"}]', 'An answer', NULL, 's', 'other', NULL, NULL, 650, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc1534d51b3475ea32e2da31e', 1799888874.0185382, 'chat.completions', NULL, 'cloud', NULL, 'forced', 0.9003933604159954, NULL, NULL, 0.5, 0.8742538336984774, 178.82270787839525, 679.8298231868889, NULL, 'timeout', TRUE, NULL, 87, 8552, 'estimated', NULL, 0.445208857959, 0.556688872263, NULL, NULL, NULL, 'local', 's', 'one', NULL, 2466.080984293452, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc1535cde038e478d68c420b2', 1799968131.1290064, 'responses', NULL, NULL, NULL, NULL, 0.0, NULL, NULL, 0.5, NULL, 237.4712766898842, 336.6968534221084, NULL, 'rejected', FALSE, 86609, 469, 5344, 'upstream', 0.002288153748, 0.833073975848, NULL, NULL, NULL, NULL, NULL, 's', 'one', NULL, 652.7054857137431, 843, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc1535d2ce16514602ef26db8', 1799956945.805056, 'embeddings', 'auto', 'cloud', 'gpt-4o-mini', 'fallback', 0.0, NULL, NULL, 0.5, 1.9068966305628152, NULL, 2147.42277139374, NULL, 'upstream_error', TRUE, 87781, 399, NULL, 'upstream', 0.003227650555, 0.349303929033, NULL, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, 260.5756343171311, 155, NULL, NULL, NULL, NULL, NULL, 0.30730366889876215, 'cut_off', NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153690fe6bef7c4d6b16068', 1799957097.9690614, 'responses', 'auto', 'local', 'phi3:latest', 'escalated', 0.0, NULL, NULL, 0.5, 1.8973741123924943, 941.3657675457224, 1075.5133009097185, NULL, 'upstream_error', TRUE, 38804, 940, 5447, 'estimated', 0.00576068955, 0.279375964991, 0.938676306767, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, NULL, 'other', NULL, 331.1043708181312, 475, NULL, NULL, NULL, NULL, NULL, 0.9999, 'cut_off', 550, 'kept', '{"broken":true,"margin":1.6500000000000001,"tokens":150}', 0.55, 0.44999999999999996, 1100.0, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc1538c264e6a4e8807a73f84', 1799956514.3888958, 'chat.completions', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, 0.5, 5.792569992903973, 232.0167639443103, 883.4424056067435, NULL, 'rejected', FALSE, 71639, NULL, 4578, 'estimated', 0.001467975751, 0.690766193024, 0.98016307791, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'other', NULL, 106.97208106934255, 235, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153c8198ed6a4585ab067c3', 1799830604.1919785, 'embeddings', 'auto', NULL, NULL, NULL, 0.7719185770100979, NULL, NULL, 0.5, 1.0329166429566898, 35.83325229570448, 452.30988757945687, NULL, 'upstream_error', TRUE, 43939, 523, 8192, 'upstream', 0.005418375006, 0.033417255256, 0.048079635224, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', 'one', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0.22064069791175067, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153d5dd6bc14de06348839c', 1799987189.0252, 'embeddings', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 2.1985954805428283, 14.187039327577509, 1563.2404814057857, NULL, 'rejected', FALSE, 48121, NULL, 4863, NULL, 0.006864625643, 0.716945543813, 0.737025504065, 'other', '[{"role":"user","content":"Hello"}]', NULL, NULL, 's', 'other', NULL, 95.60168444053888, 673, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153d722410b935025c516ff', 1799899752.8278637, 'responses', 'auto', NULL, NULL, NULL, 1.0, NULL, NULL, 0.5, 2.9631832381783707, 113.33439716667755, 141.13064073393966, NULL, 'timeout', FALSE, 90283, 925, NULL, 'upstream', 0.009444597523, 0.430038057949, 0.388597702039, 'code', '[{"role":"user","content":"Fix the bug"}]', 'An answer', NULL, 's', 'other', NULL, 1268.756928935429, 932, NULL, NULL, NULL, NULL, NULL, 0.49172302053949546, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153dabc5e714369ac683e4d', 1799984308.3642566, 'embeddings', 'auto', 'cloud', NULL, 'escalated', 0.0, NULL, NULL, 0.5, NULL, 247.03689900810699, 784.4911299741624, NULL, 'rejected', TRUE, 17917, 12, 2018, NULL, 0.005333150932, 0.37606496408, NULL, 'other', '[{"role":"user","content":"Hello"}]', 'An answer', 'local', NULL, NULL, NULL, 83.00295721543002, 748, NULL, NULL, NULL, NULL, NULL, 0.9999, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO requests (id, created_at, endpoint, requested_model, target, model, reason, score, p_local, p_cloud, threshold, decision_ms, ttft_ms, duration_ms, status, ending, streamed, input_tokens, cached_input_tokens, output_tokens, usage_source, cost_usd, cloud_cost_usd, saved_usd, category, prompt, response, fallback_from, session_id, client_key_hash, error, upstream_ms, reasoning_tokens, fallback_why, error_code, propensity, candidate_score, rule, merit, failed_check, discarded_tokens, second_look, evidence, verified_score, verified_merit, second_look_ms, history_hash) VALUES
    ('req_01a22f8fc153f1428164c470f4d949c0', 1799977348.9269116, 'embeddings', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 3.7200503524683137, 11.636092171612502, 2425.8119016058645, NULL, 'stopped', FALSE, 54057, 674, 6666, 'estimated', 0.00137854365, 0.202413861682, 0.914708887213, 'maths', '[{"role":"user","content":"2 + 2 = ?"}]', 'An answer', NULL, 's', NULL, NULL, 1616.4412283864956, 504, NULL, NULL, NULL, NULL, NULL, NULL, 'cut_off', 650, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (1, 'req_01a22f8fc153c8198ed6a4585ab067c3', 1800000000.0, 'local', 'phi3:latest', 8.0, 'gpt-4o-mini', 'Right, and short; it''s "fine".');

INSERT INTO judgements (id, request_id, created_at, target, model, score, judge_model, reason) VALUES
    (2, 'req_01a22f8fc153c8198ed6a4585ab067c3', 1800000000.0, 'cloud', 'gpt-4o-mini', 9.5, 'gpt-4o-mini', NULL);

INSERT INTO responses (id, created_at, target, client_key_hash, items, input_items, body) VALUES
    ('resp_1', 1799996400.0, 'local', 'one', '[{"role":"user","content":"Grüße"}]', 1, '{}');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22f8fc1534d51b3475ea32e2da31e', 1800000000.0, -1.0, 'Falsch: 2 + 2 = 4.');

INSERT INTO feedback (request_id, created_at, rating, comment) VALUES
    ('req_01a22f8fc153487442fc9f385f66aa80', 1800000000.0, 1.0, NULL);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799827200, 'embeddings', '', '', '', 'upstream_error', 'maths', 1, 1, 0, 0, 43939, 523, 8192, 0, 5418375006, 33417255256, 48079635224);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799888400, 'chat.completions', '', '', '', 'timeout', 'writing', 1, 0, 0, 1, 12862, 667, 6434, 650, 3702994077, 0, 569770017254);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799888400, 'chat.completions', 'cloud', '', 'forced', 'timeout', '', 1, 1, 1, 1, 0, 87, 8552, 0, 0, 445208857959, 556688872263);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799899200, 'responses', '', '', '', 'timeout', 'code', 1, 0, 0, 0, 90283, 925, 0, 932, 9444597523, 430038057949, 388597702039);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799902800, 'responses', 'cloud', '', 'exploration', 'upstream_error', 'code', 1, 0, 0, 0, 29837, 677, 7209, 0, 9745259114, 232305396878, 899598573341);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799953200, 'chat.completions', '', '', '', 'rejected', 'code', 1, 0, 0, 1, 71639, 0, 4578, 235, 1467975751, 690766193024, 980163077910);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799956800, 'embeddings', 'cloud', 'gpt-4o-mini', 'fallback', 'upstream_error', 'maths', 1, 1, 0, 0, 87781, 399, 0, 155, 3227650555, 349303929033, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799956800, 'responses', 'local', 'phi3:latest', 'escalated', 'upstream_error', 'other', 1, 1, 0, 1, 38804, 940, 5447, 475, 5760689550, 279375964991, 938676306767);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799967600, 'responses', '', '', '', 'rejected', '', 1, 0, 0, 0, 86609, 469, 5344, 843, 2288153748, 833073975848, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799974800, 'embeddings', '', '', '', 'stopped', 'maths', 1, 0, 0, 1, 54057, 674, 6666, 504, 1378543650, 202413861682, 914708887213);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799982000, 'embeddings', 'cloud', '', 'escalated', 'rejected', 'other', 1, 1, 1, 0, 17917, 12, 2018, 748, 5333150932, 376064964080, 0);

INSERT INTO hours (hour, endpoint, target, model, reason, ending, category, requests, streamed, fallbacks, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico, cloud_cost_pico, saved_pico) VALUES
    (1799985600, 'embeddings', '', '', '', 'rejected', 'other', 1, 0, 0, 0, 48121, 0, 4863, 673, 6864625643, 716945543813, 737025504065);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799827200, 'decision_ms', '', 0, 1, 33417255256);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799827200, 'duration_ms', '', 53, 1, 33417255256);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799827200, 'merit', '', 22, 1, 33417255256);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799827200, 'overhead_ms', '', 53, 1, 33417255256);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799827200, 'score', '', 77, 1, 33417255256);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799827200, 'ttft_ms', '', 31, 1, 33417255256);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'decision_ms', 'cloud', -2, 1, 445208857959);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'duration_ms', '', 55, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'duration_ms', 'cloud', 56, 1, 445208857959);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'overhead_ms', '', 55, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'overhead_ms', 'cloud', -60, 1, 445208857959);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'ttft_ms', '', 48, 1, 0);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799888400, 'ttft_ms', 'cloud', 45, 1, 445208857959);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'decision_ms', '', 9, 1, 430038057949);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'duration_ms', '', 42, 1, 430038057949);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'merit', '', 49, 1, 430038057949);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'overhead_ms', '', -60, 1, 430038057949);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'score', '', 99, 1, 430038057949);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799899200, 'ttft_ms', '', 41, 1, 430038057949);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'decision_ms', 'cloud', 3, 1, 232305396878);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'duration_ms', 'cloud', 64, 1, 232305396878);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'merit', 'cloud', 6, 1, 232305396878);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'overhead_ms', 'cloud', 55, 1, 232305396878);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'score', 'cloud', 40, 1, 232305396878);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799902800, 'ttft_ms', 'cloud', 45, 1, 232305396878);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'decision_ms', '', 15, 1, 690766193024);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'duration_ms', '', 58, 1, 690766193024);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'overhead_ms', '', 57, 1, 690766193024);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799953200, 'ttft_ms', '', 47, 1, 690766193024);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'decision_ms', 'cloud', 5, 1, 349303929033);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'decision_ms', 'local', 5, 1, 279375964991);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'duration_ms', 'cloud', 66, 1, 349303929033);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'duration_ms', 'local', 60, 1, 279375964991);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'merit', 'cloud', 30, 1, 349303929033);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'merit', 'local', 99, 1, 279375964991);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'overhead_ms', 'cloud', 65, 1, 349303929033);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'overhead_ms', 'local', 57, 1, 279375964991);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'score', 'cloud', 0, 1, 349303929033);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'score', 'local', 0, 1, 279375964991);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799956800, 'ttft_ms', 'local', 59, 1, 279375964991);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'duration_ms', '', 50, 1, 833073975848);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'merit', '', 99, 1, 833073975848);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'overhead_ms', '', -60, 1, 833073975848);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'score', '', 0, 1, 833073975848);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799967600, 'ttft_ms', '', 47, 1, 833073975848);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'decision_ms', '', 11, 1, 202413861682);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'duration_ms', '', 67, 1, 202413861682);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'overhead_ms', '', 58, 1, 202413861682);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799974800, 'ttft_ms', '', 21, 1, 202413861682);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799982000, 'duration_ms', 'cloud', 57, 1, 376064964080);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799982000, 'merit', 'cloud', 99, 1, 376064964080);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799982000, 'overhead_ms', 'cloud', 56, 1, 376064964080);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799982000, 'score', 'cloud', 0, 1, 376064964080);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799982000, 'ttft_ms', 'cloud', 47, 1, 376064964080);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'decision_ms', '', 6, 1, 716945543813);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'duration_ms', '', 63, 1, 716945543813);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'overhead_ms', '', 63, 1, 716945543813);

INSERT INTO spreads (hour, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799985600, 'ttft_ms', '', 23, 1, 716945543813);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'decision_ms', '', 0, 1, 33417255256);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'duration_ms', '', 53, 1, 33417255256);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'merit', '', 22, 1, 33417255256);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'overhead_ms', '', 53, 1, 33417255256);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'score', '', 77, 1, 33417255256);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799798400, 'ttft_ms', '', 31, 1, 33417255256);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 9, 1, 430038057949);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', '', 15, 1, 690766193024);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', -2, 1, 445208857959);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 3, 1, 232305396878);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'cloud', 5, 1, 349303929033);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'decision_ms', 'local', 5, 1, 279375964991);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 42, 1, 430038057949);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 50, 1, 833073975848);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 55, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', '', 58, 1, 690766193024);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 56, 1, 445208857959);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 64, 1, 232305396878);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'cloud', 66, 1, 349303929033);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'duration_ms', 'local', 60, 1, 279375964991);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', '', 49, 1, 430038057949);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', '', 99, 1, 833073975848);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'cloud', 6, 1, 232305396878);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'cloud', 30, 1, 349303929033);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'merit', 'local', 99, 1, 279375964991);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', -60, 2, 1263112033797);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 55, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', '', 57, 1, 690766193024);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', -60, 1, 445208857959);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 55, 1, 232305396878);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'cloud', 65, 1, 349303929033);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'overhead_ms', 'local', 57, 1, 279375964991);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 0, 1, 833073975848);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', '', 99, 1, 430038057949);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 0, 1, 349303929033);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'cloud', 40, 1, 232305396878);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'score', 'local', 0, 1, 279375964991);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 41, 1, 430038057949);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 47, 2, 1523840168872);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', '', 48, 1, 0);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'cloud', 45, 2, 677514254837);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799884800, 'ttft_ms', 'local', 59, 1, 279375964991);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', 6, 1, 716945543813);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'decision_ms', '', 11, 1, 202413861682);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 63, 1, 716945543813);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', '', 67, 1, 202413861682);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'duration_ms', 'cloud', 57, 1, 376064964080);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'merit', 'cloud', 99, 1, 376064964080);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', 58, 1, 202413861682);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', '', 63, 1, 716945543813);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'overhead_ms', 'cloud', 56, 1, 376064964080);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'score', 'cloud', 0, 1, 376064964080);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', '', 21, 1, 202413861682);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', '', 23, 1, 716945543813);

INSERT INTO day_spreads (day, measure, target, bucket, requests, cloud_cost_pico) VALUES
    (1799971200, 'ttft_ms', 'cloud', 47, 1, 376064964080);

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why, evidence) VALUES
    ('req_01a22f8fc153c8198ed6a4585ab067c3', 1800000000.0, 'shadow', 0.01, 0.25, 'done', 1, 1800000000.0, NULL, NULL, 'gpt-4o-mini', 'Four.', NULL, '{"broken":false,"agrees":true}');

INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, next_at, claimed_by, body, other_model, other_response, why, evidence) VALUES
    ('req_01a22f8fc153d722410b935025c516ff', 1800000000.0, 'grade', 0.02, 0.75, 'pending', 0, 1800000000.0, NULL, '{"n":1}', NULL, NULL, NULL, NULL);

INSERT INTO preferences (id, request_id, created_at, judge_model, verdict, first, swapped) VALUES
    (1, 'req_01a22f8fc153c8198ed6a4585ab067c3', 1800000000.0, 'gpt-4o-mini', 'cloud', 'cloud', 'tie');

INSERT INTO expenses (id, created_at, purpose, request_id, model, usd, is_settled) VALUES
    (1, 1800000000.0, 'judge', 'req_01a22f8fc153c8198ed6a4585ab067c3', 'gpt-4o-mini', 0.000125, TRUE);

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

