CREATE TABLE boards (
    name TEXT PRIMARY KEY,
    serial TEXT,                      -- of the hardware, where it is known beforehand
    state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'waiting', 'active', 'revoked')),
    place TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '[]',
    cameras TEXT NOT NULL DEFAULT '{}',   -- as `cameras:` of the agent's configuration
    drivers TEXT NOT NULL DEFAULT '{}',   -- as `devices:`
    wifi TEXT,                        -- {"ssid", "psk"}
    id_jwk TEXT,
    id_thumbprint TEXT UNIQUE,        -- RFC 7638
    enc_jwk TEXT,
    created_at INTEGER NOT NULL,
    approved_at INTEGER,              -- of a board that came by a bulk claim
    enrolled_at INTEGER,
    active_at INTEGER,
    seen_at INTEGER,
    online INTEGER NOT NULL DEFAULT 0,
    version TEXT NOT NULL DEFAULT ''
) STRICT;
-- a revoked board's hardware may come again, as another board
CREATE UNIQUE INDEX boards_serial ON boards (serial) WHERE serial IS NOT NULL AND state != 'revoked';

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    secret TEXT NOT NULL,             -- empty once it is of no more use
    kind TEXT NOT NULL CHECK (kind IN ('single', 'bulk')),
    board TEXT REFERENCES boards (name),  -- of a single one
    uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
    serials TEXT NOT NULL DEFAULT '[]',   -- of a bulk one: who may come; empty for all
    prefix TEXT NOT NULL DEFAULT '',      -- of a bulk one: how its boards are named
    template TEXT NOT NULL DEFAULT '{}',  -- of a bulk one: place, tags, cameras, drivers, wifi
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    cancelled_at INTEGER,
    used_by TEXT,                     -- thumbprint of the identity that took a single one
    used_at INTEGER,
    CHECK ((kind = 'single') = (board IS NOT NULL))
) STRICT;
CREATE INDEX tokens_board ON tokens (board);

CREATE TABLE token_uses (             -- of bulk ones: each identity counts once
    token TEXT NOT NULL REFERENCES tokens (id),
    thumbprint TEXT NOT NULL,
    board TEXT NOT NULL REFERENCES boards (name),
    at INTEGER NOT NULL,
    PRIMARY KEY (token, thumbprint)
) STRICT;

CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,          -- hexadecimal
    board TEXT NOT NULL REFERENCES boards (name),
    issuer TEXT NOT NULL DEFAULT '',
    issued_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER,
    pem TEXT NOT NULL
) STRICT;
CREATE INDEX certificates_board ON certificates (board, not_after);
CREATE INDEX certificates_revoked ON certificates (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL                -- SHA-256 over the row and `previous`
) STRICT;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
