CREATE TABLE alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE assignments (
    key text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    scope text NOT NULL COLLATE pg_catalog."C",
    scope_key text NOT NULL COLLATE pg_catalog."C",
    role_id text NOT NULL COLLATE pg_catalog."C",
    principal_id text NOT NULL COLLATE pg_catalog."C",
    principal_key text NOT NULL COLLATE pg_catalog."C",
    principal_kind text NOT NULL COLLATE pg_catalog."C",
    description text NOT NULL COLLATE pg_catalog."C",
    created_by text NOT NULL COLLATE pg_catalog."C",
    created_kind text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL
);
CREATE TABLE credentials (
    key text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    principal_id text NOT NULL COLLATE pg_catalog."C",
    principal_key text NOT NULL COLLATE pg_catalog."C",
    digest text NOT NULL COLLATE pg_catalog."C",
    hint text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    expires_at double precision
);
CREATE TABLE grants (
    digest text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    client_id text NOT NULL COLLATE pg_catalog."C",
    principal_id text NOT NULL COLLATE pg_catalog."C",
    principal_key text NOT NULL COLLATE pg_catalog."C",
    scope text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    fields json NOT NULL
);
CREATE TABLE groups (
    key text NOT NULL COLLATE pg_catalog."C",
    subscription text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    location text NOT NULL COLLATE pg_catalog."C",
    tags json NOT NULL,
    created_by text NOT NULL COLLATE pg_catalog."C",
    created_kind text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    modified_by text NOT NULL COLLATE pg_catalog."C",
    modified_kind text NOT NULL COLLATE pg_catalog."C",
    modified_at double precision NOT NULL,
    etag text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE journals (
    id text NOT NULL COLLATE pg_catalog."C",
    place bigint NOT NULL
);
CREATE TABLE meta (
    name text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE operations (
    key text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    pool text COLLATE pg_catalog."C",
    pool_key text COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    error text NOT NULL COLLATE pg_catalog."C",
    started_at double precision NOT NULL,
    ended_at double precision,
    target text NOT NULL COLLATE pg_catalog."C",
    by text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE pools (
    key text NOT NULL COLLATE pg_catalog."C",
    subscription text NOT NULL COLLATE pg_catalog."C",
    resource_group text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    location text NOT NULL COLLATE pg_catalog."C",
    tags json NOT NULL,
    properties json NOT NULL,
    secrets text NOT NULL COLLATE pg_catalog."C",
    mcp_key text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    error text NOT NULL COLLATE pg_catalog."C",
    created_by text NOT NULL COLLATE pg_catalog."C",
    created_kind text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    modified_by text NOT NULL COLLATE pg_catalog."C",
    modified_kind text NOT NULL COLLATE pg_catalog."C",
    modified_at double precision NOT NULL,
    etag text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE principals (
    key text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    app_id text NOT NULL COLLATE pg_catalog."C",
    app_key text NOT NULL COLLATE pg_catalog."C",
    user_name text NOT NULL COLLATE pg_catalog."C",
    user_key text NOT NULL COLLATE pg_catalog."C",
    display_name text NOT NULL COLLATE pg_catalog."C",
    is_enabled boolean NOT NULL,
    created_at double precision NOT NULL,
    groups json NOT NULL
);
CREATE TABLE seeds (
    name text NOT NULL COLLATE pg_catalog."C",
    digest text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE session_logs (
    key text NOT NULL COLLATE pg_catalog."C",
    pool text NOT NULL COLLATE pg_catalog."C",
    pool_key text NOT NULL COLLATE pg_catalog."C",
    at double precision NOT NULL,
    identifier text NOT NULL COLLATE pg_catalog."C",
    principal text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    expires_at double precision NOT NULL,
    fields json NOT NULL
);
CREATE TABLE usage (
    key text NOT NULL COLLATE pg_catalog."C",
    pool text NOT NULL COLLATE pg_catalog."C",
    pool_key text NOT NULL COLLATE pg_catalog."C",
    principal text NOT NULL COLLATE pg_catalog."C",
    day text NOT NULL COLLATE pg_catalog."C",
    session_us bigint NOT NULL,
    cpu_us bigint NOT NULL,
    sessions bigint NOT NULL,
    executions bigint NOT NULL,
    failed bigint NOT NULL,
    bytes_in bigint NOT NULL,
    bytes_out bigint NOT NULL,
    peak bigint NOT NULL
);
INSERT INTO alembic_version VALUES ('0002');
INSERT INTO assignments VALUES ('aaaaaaaa-0000-0000-0000-000000000001', 'AAAAAAAA-0000-0000-0000-000000000001', '/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1', '/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', 'role', 'AAAAAAAA-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'User', 'why', 'Zoë 🙂', 'User', 1700000000.25);
INSERT INTO credentials VALUES ('cred', 'Cred', 'AAAAAAAA-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'scrypt$…', 'abc', 1, NULL);
INSERT INTO grants VALUES ('digest==', 'device', 'client', 'AAAAAAAA-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'scope', 'pending', 1, 2, '{"user_code": "X"}');
INSERT INTO groups VALUES ('/subscriptions/sub/resourcegroups/group (x)', 'Sub', 'Group (x)', 'local', '{"\u00dc": "\u00f6"}', 'Zoë 🙂', 'User', 1700000000.25, 'b', 'Application', 1700000001, 'W/"1"');
INSERT INTO journals VALUES ('j', 1099511627776);
INSERT INTO meta VALUES ('key check', 'gAAAAABrAyZCSCfPFPj5wvldzzbRkfY5QjPxM4C4iH21h64ja72zVo6WFe1y9E6qnJLbTBUsis2rAIeQlxVer3VINQZ7mPuSfOFAC25LHHTJiDNpHKaRFw0=');
INSERT INTO meta VALUES ('generation', '2');
INSERT INTO meta VALUES ('generation of assignments', '2');
INSERT INTO meta VALUES ('generation of credentials', '2');
INSERT INTO meta VALUES ('generation of grants', '2');
INSERT INTO meta VALUES ('generation of groups', '2');
INSERT INTO meta VALUES ('generation of journals', '2');
INSERT INTO meta VALUES ('generation of operations', '2');
INSERT INTO meta VALUES ('generation of pools', '2');
INSERT INTO meta VALUES ('generation of principals', '2');
INSERT INTO meta VALUES ('generation of seeds', '2');
INSERT INTO meta VALUES ('generation of session_logs', '2');
INSERT INTO meta VALUES ('generation of usage', '2');
INSERT INTO operations VALUES ('op', 'Op', '/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1', '/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', 'put', 'InProgress', '', 3, NULL, '', '');
INSERT INTO pools VALUES ('/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', '00000000-0000-0000-0000-00000000000A', 'Grüppe', 'Pool-1', 'local', '{"a": "b"}', '{"containerType": "PythonLTS", "carrel": {"cpu": 0.5, "x": [1, null, {"\u00e9": true}]}, "nul": "a\u0000b"}', 'gAAAAABrAyZCC5Kx80M93iW6kZBrmWnWPaQsoRvs9yemYCWW6eEQn4wr-F75xup8wMRUE1eysQFWxfyseCw0AA3kx8FcxTISZ1Y3qx-SMm55tVVZ3Eqn6m3M4QCdvVN71dQDg3yMqprCevNESWfOOR87KX9W8j4XD1g3MqmO0fq-MuyDHA-cPBw9yNpwVd90WRG3dIdbrYxlKVegAo8MvC8UJGbhj9YrTKHahOtRJKAg_3PlHEPp8OATFLfVn51j-sLdjUuGOEpA1qhnArEoh87RCc_CCbIKiRRKNbujX06Zwc5oAMBg3OA=', 'gAAAAABrAyZCZrtoWsHhXJWjVrmYLZBliX6DsUJyutQcc12dqJt5LOlVbrRPCfsDXywHzgojO-XJzJYQO2XrbaIBXunDDTV18bWIrTyIZHcd5PNf7zruFnr9yod-c0wJdgZ4TCQPF1RHLOT1Pjritx5j2bi-qP3oCNPSnf1KqUKtwllAQFRaE3XpW8RXUFDXQ7nf2niotJlDOI5JcM9ZhaMeUNDsNCaocPcWrsMrj5jOmY4-Nhb4XQPq8Ukr2qNOsQyMpL8u5vEVNHcoFXIfFGua9ausJ00Awg==', 'Failed', 'it cannot', 'Zoë 🙂', 'User', 1700000000.25, 'b', 'Application', 1700000001, 'etag');
INSERT INTO principals VALUES ('aaaaaaaa-0000-0000-0000-000000000001', 'AAAAAAAA-0000-0000-0000-000000000001', 'User', 'APP', 'app', 'Ann@Example', 'ann@example', 'Ann', false, 5.5, '["g1", "g2"]');
INSERT INTO seeds VALUES ('pools/python', 'abc');
INSERT INTO session_logs VALUES ('j:1', '/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1', '/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', 1.5, 'alice', 'AAAAAAAA-0000-0000-0000-000000000001', 'Failed', 2, '{"code": "a\u0000b", "outcome": null}');
INSERT INTO usage VALUES ('/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1 2026-11-22 ann', '/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1', '/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', 'Ann', '2026-11-22', 1, 1099511627776, 3, 4, 5, 6, 7, 8);
ALTER TABLE ONLY alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY assignments
    ADD CONSTRAINT assignments_pkey PRIMARY KEY (key);
ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_pkey PRIMARY KEY (key);
ALTER TABLE ONLY grants
    ADD CONSTRAINT grants_pkey PRIMARY KEY (digest);
ALTER TABLE ONLY groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (key);
ALTER TABLE ONLY journals
    ADD CONSTRAINT journals_pkey PRIMARY KEY (id);
ALTER TABLE ONLY meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (name);
ALTER TABLE ONLY operations
    ADD CONSTRAINT operations_pkey PRIMARY KEY (key);
ALTER TABLE ONLY pools
    ADD CONSTRAINT pools_pkey PRIMARY KEY (key);
ALTER TABLE ONLY principals
    ADD CONSTRAINT principals_pkey PRIMARY KEY (key);
ALTER TABLE ONLY seeds
    ADD CONSTRAINT seeds_pkey PRIMARY KEY (name);
ALTER TABLE ONLY session_logs
    ADD CONSTRAINT session_logs_pkey PRIMARY KEY (key);
ALTER TABLE ONLY usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (key);
CREATE INDEX ix_assignments_principal_key ON assignments USING btree (principal_key);
CREATE INDEX ix_assignments_scope_key ON assignments USING btree (scope_key);
CREATE INDEX ix_credentials_principal_key ON credentials USING btree (principal_key);
CREATE INDEX ix_grants_expires_at ON grants USING btree (expires_at);
CREATE INDEX ix_grants_principal_key ON grants USING btree (principal_key);
CREATE INDEX ix_operations_pool_key ON operations USING btree (pool_key);
CREATE INDEX ix_principals_app_key ON principals USING btree (app_key);
CREATE INDEX ix_principals_user_key ON principals USING btree (user_key);
CREATE INDEX ix_session_logs_expires_at ON session_logs USING btree (expires_at);
CREATE INDEX ix_usage_day ON usage USING btree (day);
CREATE INDEX ix_usage_pool_key ON usage USING btree (pool_key);
CREATE INDEX session_logs_of_a_pool ON session_logs USING btree (pool_key, at);
ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_principal_key_fkey FOREIGN KEY (principal_key) REFERENCES principals(key) ON DELETE CASCADE;
