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
INSERT INTO alembic_version VALUES ('0001');
INSERT INTO assignments VALUES ('aaaaaaaa-0000-0000-0000-000000000001', 'AAAAAAAA-0000-0000-0000-000000000001', '/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1', '/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', 'role', 'AAAAAAAA-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'User', 'why', 'Zoë 🙂', 'User', 1700000000.25);
INSERT INTO credentials VALUES ('cred', 'Cred', 'AAAAAAAA-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'scrypt$…', 'abc', 1, NULL);
INSERT INTO grants VALUES ('digest==', 'device', 'client', 'AAAAAAAA-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'scope', 'pending', 1, 2, '{"user_code": "X"}');
INSERT INTO groups VALUES ('/subscriptions/sub/resourcegroups/group (x)', 'Sub', 'Group (x)', 'local', '{"\u00dc": "\u00f6"}', 'Zoë 🙂', 'User', 1700000000.25, 'b', 'Application', 1700000001, 'W/"1"');
INSERT INTO meta VALUES ('key check', 'gAAAAABrAvpniXTz9KlZbcdOrWqzKVBLg3IXwrJgyyMWQpAqkM6V_Z7LE6R9wB3P7r1S6eqGldizvGv6SoSVHK3SbuPJCZGFfGlxxJH00RFz9XBZBTP5i1M=');
INSERT INTO meta VALUES ('generation', '2');
INSERT INTO operations VALUES ('op', 'Op', '/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1', '/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', 'put', 'InProgress', '', 3, NULL, '', '');
INSERT INTO pools VALUES ('/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1', '00000000-0000-0000-0000-00000000000A', 'Grüppe', 'Pool-1', 'local', '{"a": "b"}', '{"containerType": "PythonLTS", "carrel": {"cpu": 0.5, "x": [1, null, {"\u00e9": true}]}, "nul": "a\u0000b"}', 'gAAAAABrAvpnLfJgYytl7-TlxiRBUr6WUqwysPvE8EcrvLgVklGjgiyeKH6iObj44-2XfmVJMUaRdR2g5oLsQhuqp_xOJOP6Shei7RC7VXG76CbzMFpFbprde_QJ414mRWHsuIftz_-qI6CEqx3zagHktCUqfTJKm7_3RzIuipNOeUctBIXQDSxtjM26kkXtxHJKvIdPX9nZkd4A-ssT1nRBHKftdWn9G_WoDAHjqD0TS9yaF05DMRYP-xCm5_fKgN5n1Ae8ge8zgDIE6waE5cEdf8KF1QDnQegjJe0drbGU2BX8R7G-now=', 'gAAAAABrAvpnSMhhlmQUFo3deIf2AHL3VeC6DtAwq9NH0V3Gb4iZjrbKnwR59B7eUBeKZypiepvb-mzSbFZ0BbnnPzTR-eMGTrjXwCsoRVDvAu3c9_e_2Tr2o6nkiMlCW5g9feIQMZ7m1mPoB-U4f_n3ZZ-1tYIrvhroAql1cfPHAmRmYYoQchfPXoA0WB7uch8awfNMD_qPWb3sNLBpeJai-Bvy94uuNaVPLPsiNqxGMSltFLg2Tt2vRAbiw0u91xkPNs1xOZ96Hip4ld1MIRbOCanOJ_8j8A==', 'Failed', 'it cannot', 'Zoë 🙂', 'User', 1700000000.25, 'b', 'Application', 1700000001, 'etag');
INSERT INTO principals VALUES ('aaaaaaaa-0000-0000-0000-000000000001', 'AAAAAAAA-0000-0000-0000-000000000001', 'User', 'APP', 'app', 'Ann@Example', 'ann@example', 'Ann', false, 5.5, '["g1", "g2"]');
INSERT INTO seeds VALUES ('pools/python', 'abc');
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
CREATE INDEX ix_assignments_principal_key ON assignments USING btree (principal_key);
CREATE INDEX ix_assignments_scope_key ON assignments USING btree (scope_key);
CREATE INDEX ix_credentials_principal_key ON credentials USING btree (principal_key);
CREATE INDEX ix_grants_expires_at ON grants USING btree (expires_at);
CREATE INDEX ix_grants_principal_key ON grants USING btree (principal_key);
CREATE INDEX ix_operations_pool_key ON operations USING btree (pool_key);
CREATE INDEX ix_principals_app_key ON principals USING btree (app_key);
CREATE INDEX ix_principals_user_key ON principals USING btree (user_key);
ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_principal_key_fkey FOREIGN KEY (principal_key) REFERENCES principals(key) ON DELETE CASCADE;
