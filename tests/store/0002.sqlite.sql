PRAGMA application_id = 1129468492;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE assignments (
	"key" TEXT NOT NULL,
	id TEXT NOT NULL,
	scope TEXT NOT NULL,
	scope_key TEXT NOT NULL,
	role_id TEXT NOT NULL,
	principal_id TEXT NOT NULL,
	principal_key TEXT NOT NULL,
	principal_kind TEXT NOT NULL,
	description TEXT NOT NULL,
	created_by TEXT NOT NULL,
	created_kind TEXT NOT NULL,
	created_at DOUBLE NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "assignments" VALUES('aaaaaaaa-0000-0000-0000-000000000001','AAAAAAAA-0000-0000-0000-000000000001','/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1','/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1','role','AAAAAAAA-0000-0000-0000-000000000001','aaaaaaaa-0000-0000-0000-000000000001','User','why','Zoë 🙂','User',1700000000.25);
CREATE TABLE credentials (
	"key" TEXT NOT NULL,
	id TEXT NOT NULL,
	principal_id TEXT NOT NULL,
	principal_key TEXT NOT NULL,
	digest TEXT NOT NULL,
	hint TEXT NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE,
	PRIMARY KEY ("key"),
	FOREIGN KEY(principal_key) REFERENCES principals ("key") ON DELETE CASCADE
);
INSERT INTO "credentials" VALUES('cred','Cred','AAAAAAAA-0000-0000-0000-000000000001','aaaaaaaa-0000-0000-0000-000000000001','scrypt$…','abc',1.0,NULL);
CREATE TABLE grants (
	digest TEXT NOT NULL,
	kind TEXT NOT NULL,
	client_id TEXT NOT NULL,
	principal_id TEXT NOT NULL,
	principal_key TEXT NOT NULL,
	scope TEXT NOT NULL,
	state TEXT NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE NOT NULL,
	fields JSON NOT NULL,
	PRIMARY KEY (digest)
);
INSERT INTO "grants" VALUES('digest==','device','client','AAAAAAAA-0000-0000-0000-000000000001','aaaaaaaa-0000-0000-0000-000000000001','scope','pending',1.0,2.0,'{"user_code": "X"}');
CREATE TABLE groups (
	"key" TEXT NOT NULL,
	subscription TEXT NOT NULL,
	name TEXT NOT NULL,
	location TEXT NOT NULL,
	tags JSON NOT NULL,
	created_by TEXT NOT NULL,
	created_kind TEXT NOT NULL,
	created_at DOUBLE NOT NULL,
	modified_by TEXT NOT NULL,
	modified_kind TEXT NOT NULL,
	modified_at DOUBLE NOT NULL,
	etag TEXT NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "groups" VALUES('/subscriptions/sub/resourcegroups/group (x)','Sub','Group (x)','local','{"\u00dc": "\u00f6"}','Zoë 🙂','User',1700000000.25,'b','Application',1700000001.0,'W/"1"');
CREATE TABLE journals (
	id TEXT NOT NULL,
	place BIGINT NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "journals" VALUES('j',1099511627776);
CREATE TABLE meta (
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('generation','2');
INSERT INTO "meta" VALUES('key check','gAAAAABrAyZBsiqIHCrYwT6BYWDFbG_uQo4P2Xil_NwjUWtnKf1n-OI8odlzNnAvhkSBszUhZOBmsOIi4tcbZYiV00Cwv2vZlRLauZe0KloULTiRgLHMzdc=');
INSERT INTO "meta" VALUES('generation of assignments','2');
INSERT INTO "meta" VALUES('generation of credentials','2');
INSERT INTO "meta" VALUES('generation of grants','2');
INSERT INTO "meta" VALUES('generation of groups','2');
INSERT INTO "meta" VALUES('generation of journals','2');
INSERT INTO "meta" VALUES('generation of operations','2');
INSERT INTO "meta" VALUES('generation of pools','2');
INSERT INTO "meta" VALUES('generation of principals','2');
INSERT INTO "meta" VALUES('generation of seeds','2');
INSERT INTO "meta" VALUES('generation of session_logs','2');
INSERT INTO "meta" VALUES('generation of usage','2');
CREATE TABLE operations (
	"key" TEXT NOT NULL,
	id TEXT NOT NULL,
	pool TEXT,
	pool_key TEXT,
	kind TEXT NOT NULL,
	state TEXT NOT NULL,
	error TEXT NOT NULL,
	started_at DOUBLE NOT NULL,
	ended_at DOUBLE,
	target TEXT NOT NULL,
	"by" TEXT NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "operations" VALUES('op','Op','/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1','/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1','put','InProgress','',3.0,NULL,'','');
CREATE TABLE pools (
	"key" TEXT NOT NULL,
	subscription TEXT NOT NULL,
	resource_group TEXT NOT NULL,
	name TEXT NOT NULL,
	location TEXT NOT NULL,
	tags JSON NOT NULL,
	properties JSON NOT NULL,
	secrets TEXT NOT NULL,
	mcp_key TEXT NOT NULL,
	state TEXT NOT NULL,
	error TEXT NOT NULL,
	created_by TEXT NOT NULL,
	created_kind TEXT NOT NULL,
	created_at DOUBLE NOT NULL,
	modified_by TEXT NOT NULL,
	modified_kind TEXT NOT NULL,
	modified_at DOUBLE NOT NULL,
	etag TEXT NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "pools" VALUES('/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1','00000000-0000-0000-0000-00000000000A','Grüppe','Pool-1','local','{"a": "b"}','{"containerType": "PythonLTS", "carrel": {"cpu": 0.5, "x": [1, null, {"\u00e9": true}]}, "nul": "a\u0000b"}','gAAAAABrAyZBuJ1xT2X4KKwe8V1qLomy0Y9n0ZDxjMTl7gsqIhSesx7bfaAYTLvj--c8AuSshDqCnaAHiQ8eQvMfWRoGtEMkEp7TpMKgGj48dTcvXRrMtklMV_8ET4V2vX5MeAnYEjr7faTb_PiS6tPO1SAJM1w4oTUjXB_Ebva4xKjLllm9j6DqLF5BtAU-lYbhyaBjDU-2O32yd47QapxfaZynPHvnnNg4Uyszjd7I9DV0x9ZdHDrf8GHMbFhDYjePzNhPf3KVdK6x3szejIYgFx40ZWYbpJNv8FMTgoK5BJlCNcok_Ec=','gAAAAABrAyZBkHEwIMtUYzC2C0pInngkexK3m-CxqZxTYfcrrWlFflT33NME0CwupK4Dg2Xxt9ebuvi9B7J3Gu-q2Faq-ndV20FMIgBPPgy7xSfcbRPU5KYtiHaUwYL7gOyvSEXXVUX8YQOef0HiIix-qg3rmYNT_Oe7P_GGkoxuOe1xuqsI_mYDIdF4iwCezDc94I6gxA0Fp3hQqd7N12jtIwKE8-6DOok0ltYHySkdkzD34v66AneS9Oq72UrRGvWceAbcefZFPI3rp0bdjQOLaFb_Q9wy1A==','Failed','it cannot','Zoë 🙂','User',1700000000.25,'b','Application',1700000001.0,'etag');
CREATE TABLE principals (
	"key" TEXT NOT NULL,
	id TEXT NOT NULL,
	kind TEXT NOT NULL,
	app_id TEXT NOT NULL,
	app_key TEXT NOT NULL,
	user_name TEXT NOT NULL,
	user_key TEXT NOT NULL,
	display_name TEXT NOT NULL,
	is_enabled BOOLEAN NOT NULL,
	created_at DOUBLE NOT NULL,
	groups JSON NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "principals" VALUES('aaaaaaaa-0000-0000-0000-000000000001','AAAAAAAA-0000-0000-0000-000000000001','User','APP','app','Ann@Example','ann@example','Ann',0,5.5,'["g1", "g2"]');
CREATE TABLE seeds (
	name TEXT NOT NULL,
	digest TEXT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "seeds" VALUES('pools/python','abc');
CREATE TABLE session_logs (
	"key" TEXT NOT NULL,
	pool TEXT NOT NULL,
	pool_key TEXT NOT NULL,
	at DOUBLE NOT NULL,
	identifier TEXT NOT NULL,
	principal TEXT NOT NULL,
	status TEXT NOT NULL,
	expires_at DOUBLE NOT NULL,
	fields JSON NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "session_logs" VALUES('j:1','/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1','/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1',1.5,'alice','AAAAAAAA-0000-0000-0000-000000000001','Failed',2.0,'{"code": "a\u0000b", "outcome": null}');
CREATE TABLE usage (
	"key" TEXT NOT NULL,
	pool TEXT NOT NULL,
	pool_key TEXT NOT NULL,
	principal TEXT NOT NULL,
	day TEXT NOT NULL,
	session_us BIGINT NOT NULL,
	cpu_us BIGINT NOT NULL,
	sessions BIGINT NOT NULL,
	executions BIGINT NOT NULL,
	failed BIGINT NOT NULL,
	bytes_in BIGINT NOT NULL,
	bytes_out BIGINT NOT NULL,
	peak BIGINT NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "usage" VALUES('/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1 2026-11-22 ann','/subscriptions/00000000-0000-0000-0000-00000000000A/resourceGroups/Grüppe/providers/Microsoft.App/sessionPools/Pool-1','/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1','Ann','2026-11-22',1,1099511627776,3,4,5,6,7,8);
CREATE INDEX ix_assignments_scope_key ON assignments (scope_key);
CREATE INDEX ix_assignments_principal_key ON assignments (principal_key);
CREATE INDEX ix_principals_user_key ON principals (user_key);
CREATE INDEX ix_principals_app_key ON principals (app_key);
CREATE INDEX ix_credentials_principal_key ON credentials (principal_key);
CREATE INDEX ix_grants_expires_at ON grants (expires_at);
CREATE INDEX ix_grants_principal_key ON grants (principal_key);
CREATE INDEX ix_operations_pool_key ON operations (pool_key);
CREATE INDEX ix_usage_pool_key ON usage (pool_key);
CREATE INDEX ix_usage_day ON usage (day);
CREATE INDEX ix_session_logs_expires_at ON session_logs (expires_at);
CREATE INDEX session_logs_of_a_pool ON session_logs (pool_key, at);
COMMIT;
