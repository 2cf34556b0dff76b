PRAGMA application_id = 1129468492;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
CREATE TABLE meta (
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('generation','2');
INSERT INTO "meta" VALUES('key check','gAAAAABrAvpltngS9FJP8ju2Y2RvzwtSSDJA2DqtA8PjMb_HLwNI-G018hZjOY3-fhs2h72NvRUiG15Oh8TS83soGVVXqz6fhK6aWpCqHri5wljZuLiscus=');
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
INSERT INTO "pools" VALUES('/subscriptions/00000000-0000-0000-0000-00000000000a/resourcegroups/grüppe/providers/microsoft.app/sessionpools/pool-1','00000000-0000-0000-0000-00000000000A','Grüppe','Pool-1','local','{"a": "b"}','{"containerType": "PythonLTS", "carrel": {"cpu": 0.5, "x": [1, null, {"\u00e9": true}]}, "nul": "a\u0000b"}','gAAAAABrAvpl_AkY9Ra-tbo-hy3APXGWhzZl-hrdiCWL9KfDqxCLFD6MJM84rPHdEOurmadaYS33j7XufZSvzYo7dorGNEYTvI0QTXJagsL6Rvz9qZ-a7ooxnyYm7b6srWeZiGVdPbBQrncGLQa-ETMZh8LxKx9lV5Qv3VmZANYbcQh6l8vxRw2x3__ek3JlGbfPSglTOPTrU4vcAm6K_MaiXx7NUdFveeH1AsIXDP1UB2RA4mhEEmiELYjH1wBQyHhpi4rYjZka-yIjo6GiQauqJDddIaWfUCS3cIB6__RLrfbGwaZr1wI=','gAAAAABrAvplqxcKkIMIIg6hjGQNKTGi5WvnCiDIT5S6T7pKSK8Hviha-JGViRi9Qcn75fLh2GyxsPgv0Rx2TD2QKTAnruaIWBo9wnEZY0a4vq966BD_s-zXFR7uTcovqe0PKnaPrXvOmgFcmfWtWpBu98BI-kEuAkD_1lwfH-P1cmmHbpOvcXryJHSxcZmnB2kCGTslBjow5-KWQ7zwVMbhCnC_UHHswlfmBSnI6asqmYI8AQsKnDFRdYqFDxuUaqtzxnl5WTs4lQIwd5-oCJM24Ywvb4RtoQ==','Failed','it cannot','Zoë 🙂','User',1700000000.25,'b','Application',1700000001.0,'etag');
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
CREATE INDEX ix_assignments_principal_key ON assignments (principal_key);
CREATE INDEX ix_assignments_scope_key ON assignments (scope_key);
CREATE INDEX ix_principals_app_key ON principals (app_key);
CREATE INDEX ix_principals_user_key ON principals (user_key);
CREATE INDEX ix_credentials_principal_key ON credentials (principal_key);
CREATE INDEX ix_grants_expires_at ON grants (expires_at);
CREATE INDEX ix_grants_principal_key ON grants (principal_key);
CREATE INDEX ix_operations_pool_key ON operations (pool_key);
COMMIT;
