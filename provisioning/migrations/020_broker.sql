CREATE TABLE broker_settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL               -- JSON
) STRICT;

CREATE TABLE viewers (                -- users of the broker, one for each browser
    name TEXT PRIMARY KEY,
    label TEXT NOT NULL,              -- whose it is, for people
    boards TEXT NOT NULL DEFAULT '[]',    -- whom it may watch; empty for all
    password TEXT NOT NULL,           -- hashed, as mosquitto_passwd writes it; empty once revoked
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
